//! Operations against those of the CPU.

use super::super::shader::Element;
use super::super::shader::operations::{AttentionShape, PatchShape, PoolShape};
use super::super::*;
use super::test_gpu;
use crate::samples::Samples;
use crate::{Isa, Layout, ops};

/// Largest difference, as a part of the largest number expected.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let pairs = found.iter().zip(expected);
    pairs.fold(0.0_f32, |worst, (a, b)| {
        // NaN is the worst.
        let difference = (a - b).abs();
        if difference <= worst { worst } else { difference }
    }) / largest.max(f32::MIN_POSITIVE)
}

fn floats(count: usize, limit: f32) -> Vec<f32> {
    Samples::new(count as u64).floats(count, limit)
}

fn record(gpu: &Gpu, work: impl FnOnce(&mut Recorder) -> Result<(), GpuError>) {
    let mut recorder = Recorder::new(gpu, "test").unwrap();
    work(&mut recorder).unwrap();
    recorder.submit().unwrap();
}

fn cpu() -> crate::Pool {
    crate::Pool::with_isa(1, Isa::best()).unwrap()
}

#[test]
fn attention_is_that_of_the_cpu() {
    let Some(gpu) = test_gpu() else { return };
    let images = 2;
    for (tokens, heads, head_dim) in
        [(1, 1, 4), (5, 2, 7), (65, 3, 14), (70, 2, 64), (9, 1, 130), (67, 2, 200)]
    {
        let width = heads * head_dim;
        let qkv = floats(images * tokens * 3 * width, 3.0);
        let mut expected = vec![0.0; images * tokens * width];
        let layout = Layout::Rows;
        let shape = ops::AttentionShape { batch: images, tokens, heads, head_dim, layout };
        ops::attention(&cpu(), &shape, &qkv, &mut expected);
        let shape = AttentionShape {
            tokens: tokens as u32,
            heads: heads as u32,
            head_dim: head_dim as u32,
        };
        for (element, most) in [(Element::F32, 2e-6), (Element::F16, 4e-3)] {
            let input = Rows::of(&gpu, "qkv", element, &qkv, 3 * width).unwrap();
            // What lay there before must not stay in the padding.
            let out = Rows::of(&gpu, "out", element, &expected, width).unwrap();
            let rubbish = vec![0x7f7f_7f7f_u32; out.buffer().bytes() as usize / 4];
            gpu.upload(out.buffer(), 0, &rubbish).unwrap();
            let attention = Attention::new(&gpu, &shape, &input, &out);
            if element == Element::F16 && !shape.has_half() {
                assert!(attention.is_err(), "{shape:?}");
                continue;
            }
            record(&gpu, |recorder| attention.unwrap().record(recorder, images));
            let found = out.read(&gpu, images * tokens).unwrap();
            let error = difference(&found, &expected);
            assert!(error < most, "{shape:?} {element:?}: {error:e}");
            assert_padded(&gpu, &out);
        }
    }
}

/// The padding of all rows is zero.
fn assert_padded(gpu: &Gpu, rows: &Rows) {
    let bytes = rows.element().bytes();
    let stride = row_stride(rows.columns()) * bytes;
    let found = gpu.download::<u8>(rows.buffer(), 0..rows.rows() * stride).unwrap();
    for row in found.chunks(stride) {
        assert!(row[rows.columns() * bytes..].iter().all(|&byte| byte == 0), "{row:?}");
    }
}

#[test]
fn rows_are_normalised_as_on_the_cpu() {
    let Some(gpu) = test_gpu() else { return };
    for (rows, columns) in [(1, 1), (3, 6), (5, 42), (4, 768), (2, 1030)] {
        let x = floats(rows * columns, 2.0);
        let [gamma, beta] = [floats(columns, 1.0), floats(columns, 0.5)];
        let mut expected = vec![0.0; x.len()];
        ops::layer_norm(&cpu(), &x, &gamma, &beta, 1e-6, &mut expected);
        let [gamma, beta] = [&gamma, &beta].map(|values| gpu.buffer_of("norm", values).unwrap());
        let (dense, norm) = (RowGroups::dense(columns), [&gamma, &beta]);
        for elements in [
            [Element::F32, Element::F32],
            [Element::F32, Element::F16],
            [Element::F16, Element::F32],
        ] {
            let [input, out] =
                elements.map(|element| Rows::of(&gpu, "x", element, &x, columns).unwrap());
            let to_out = RowOperation::layer_norm(&gpu, 1e-6, &input, dense, norm, &out).unwrap();
            let in_place =
                RowOperation::layer_norm_in_place(&gpu, 1e-6, &input, columns, dense, norm);
            let possible = elements[0] == Element::F32 || columns % 4 == 0;
            assert_eq!(in_place.is_ok(), possible);
            record(&gpu, |recorder| {
                to_out.record(recorder, rows)?;
                in_place.as_ref().map_or(Ok(()), |in_place| in_place.record(recorder, rows))
            });
            for result in [possible.then_some(&input), Some(&out)].into_iter().flatten() {
                let error = difference(&result.read(&gpu, rows).unwrap(), &expected);
                let exact = elements[0] == Element::F32 && result.element() == Element::F32;
                let most = if exact { 2e-6 } else { 2e-3 };
                assert!(error < most, "{rows} x {columns}, {elements:?}: {error:e}");
                assert_padded(&gpu, result);
            }
            assert!(to_out.record(&mut Recorder::new(&gpu, "more").unwrap(), rows + 1).is_err());
        }
    }
}

/// Codes and grids, to the last bit.
fn codes_of(gpu: &Gpu, rows: &Quantized, count: usize) -> (Vec<i8>, Vec<u32>, Vec<i32>, Vec<i32>) {
    let QuantizedRows { codes, scales, zeros } = rows.read(gpu, count).unwrap();
    let grids = gpu.download::<[i32; 4]>(&rows.grids, 0..count).unwrap();
    let sums = grids.iter().map(|grid| grid[2]).collect();
    (codes, scales.iter().map(|scale| scale.to_bits()).collect(), zeros, sums)
}

#[test]
fn rows_are_quantised_on_the_way_as_they_are_afterwards() {
    let Some(gpu) = test_gpu() else { return };
    // One word of a group of 16 codes, a part of one, rows of several pieces for each thread.
    for (rows, columns) in [(3, 1), (3, 6), (5, 42), (4, 192), (3, 1030)] {
        let mut x = floats(rows * columns, 2.0);
        // A row that is no number has no codes, a constant one is zero before its bias.
        x[0] = f32::NAN;
        x[columns..2 * columns].fill(3.0);
        let [gamma, beta] = [floats(columns, 1.0), floats(columns, 0.5)];
        let [gamma, beta] = [&gamma, &beta].map(|values| gpu.buffer_of("norm", values).unwrap());
        let (dense, norm) = (RowGroups::dense(columns), [&gamma, &beta]);
        let input = Rows::of(&gpu, "x", Element::F32, &x, columns).unwrap();
        let numbers = Rows::new(&gpu, "numbers", Element::F32, rows, columns).unwrap();
        // What lay there before must not stay in the padding.
        let [fused, after] = [0x7f7f_7f7f_u32, 0].map(|rubbish| {
            let codes = Quantized::new(&gpu, rows, columns).unwrap();
            let words = vec![rubbish; codes.codes.bytes() as usize / 4];
            gpu.upload(&codes.codes, 0, &words).unwrap();
            codes
        });
        let layer_norm = |out| RowOperation::layer_norm(&gpu, 1e-6, &input, dense, norm, out);
        let to_codes = layer_norm(Operand::Quantized(&fused)).unwrap();
        let to_numbers = layer_norm(Operand::Rows(&numbers)).unwrap();
        let quantize = RowOperation::quantize(&gpu, &numbers, &after).unwrap();
        record(&gpu, |recorder| {
            to_codes.record(recorder, rows)?;
            to_numbers.record(recorder, rows)?;
            quantize.record(recorder, rows)
        });
        let expected = codes_of(&gpu, &after, rows);
        assert_eq!(codes_of(&gpu, &fused, rows), expected, "{rows} x {columns}");
        assert!(columns == 1 || expected.0[2 * columns..].iter().any(|&code| code != 0));
        let padded = |codes: &Quantized| {
            gpu.download::<i8>(&codes.codes, 0..rows * columns.next_multiple_of(16)).unwrap()
        };
        assert_eq!(padded(&fused), padded(&after));
        // The sums are those of the codes.
        let sums = expected
            .0
            .chunks(columns)
            .map(|row| row.iter().map(|&code| i32::from(code)).sum::<i32>());
        assert_eq!(expected.3, sums.collect::<Vec<_>>());
        assert!(to_codes.record(&mut Recorder::new(&gpu, "more").unwrap(), rows + 1).is_err());
    }
}

#[test]
fn groups_of_rows_are_found_and_have_vectors_of_their_own() {
    let Some(gpu) = test_gpu() else { return };
    // Queries and keys of two tokens and three heads; values stay.
    let (tokens, heads) = (2, 3);
    for (dim, element, most) in [(5, Element::F32, 2e-6), (8, Element::F16, 2e-3)] {
        let width = 3 * heads * dim;
        let x = floats(tokens * width, 2.0);
        let [gamma, beta] = [floats(2 * dim, 1.0), floats(2 * dim, 0.5)];
        let mut expected = x.clone();
        for token in 0..tokens {
            for head in 0..2 * heads {
                let start = token * width + head * dim;
                let vector = head / heads * dim..(head / heads + 1) * dim;
                let (gamma, beta) = (&gamma[vector.clone()], &beta[vector]);
                let out = &mut expected[start..start + dim];
                ops::layer_norm(&cpu(), &x[start..start + dim], gamma, beta, 1e-5, out);
            }
        }
        let data = Rows::of(&gpu, "qkv", element, &x, width).unwrap();
        let [gamma, beta] = [&gamma, &beta].map(|values| gpu.buffer_of("norm", values).unwrap());
        let groups = RowGroups {
            base: 0,
            group: 2 * heads as u32,
            outer: row_stride(width) as u32,
            inner: dim as u32,
            per_vector: heads as u32,
        };
        let norm = [&gamma, &beta];
        let norm = RowOperation::layer_norm_in_place(&gpu, 1e-5, &data, dim, groups, norm).unwrap();
        record(&gpu, |recorder| norm.record(recorder, tokens * 2 * heads));
        let error = difference(&data.read(&gpu, tokens).unwrap(), &expected);
        assert!(error < most, "{element:?}: {error:e}");
    }
}

#[test]
fn patches_are_gathered_in_the_order_of_the_weights() {
    let Some(gpu) = test_gpu() else { return };
    for (channels, [height, width], [patch_height, patch_width]) in
        [(3, [12, 20], [4, 5]), (1, [6, 9], [3, 3]), (3, [8, 8], [8, 8])]
    {
        let images = 2;
        let (down, across) = (height / patch_height, width / patch_width);
        let columns = channels * patch_height * patch_width;
        let x = floats(images * channels * height * width, 1.0);
        let mut expected = Vec::new();
        for patch in 0..images * down * across {
            let (image, place) = (patch / (down * across), patch % (down * across));
            let (top, left) = (place / across * patch_height, place % across * patch_width);
            for channel in 0..channels {
                for y in top..top + patch_height {
                    let row = ((image * channels + channel) * height + y) * width + left;
                    expected.extend_from_slice(&x[row..row + patch_width]);
                }
            }
        }
        let shape = PatchShape {
            channels: channels as u32,
            image: [height as u32, width as u32],
            patch: [patch_height as u32, patch_width as u32],
        };
        let input = gpu.buffer_of("images", &x).unwrap();
        let rows = images * down * across;
        for (element, most) in [(Element::F32, 0.0), (Element::F16, 1e-3)] {
            let out = Rows::new(&gpu, "patches", element, rows, columns).unwrap();
            let patches = RowOperation::patches(&gpu, &shape, &input, &out).unwrap();
            record(&gpu, |recorder| patches.record(recorder, rows));
            let error = difference(&out.read(&gpu, rows).unwrap(), &expected);
            assert!(error <= most, "{element:?}: {error:e}");
        }
        // The same rows as codes.
        let numbers = Rows::of(&gpu, "patches", Element::F32, &expected, columns).unwrap();
        let [fused, after] = [(); 2].map(|()| Quantized::new(&gpu, rows, columns).unwrap());
        let patches = RowOperation::patches(&gpu, &shape, &input, &fused).unwrap();
        let quantize = RowOperation::quantize(&gpu, &numbers, &after).unwrap();
        record(&gpu, |recorder| {
            patches.record(recorder, rows)?;
            quantize.record(recorder, rows)
        });
        assert_eq!(codes_of(&gpu, &fused, rows), codes_of(&gpu, &after, rows));
    }
}

#[test]
fn prefixes_are_put_in_front_and_tokens_pooled() {
    let Some(gpu) = test_gpu() else { return };
    let (images, patches, width) = (2_usize, 3_usize, 70_usize);
    for (prefix, with_positions) in [(1, true), (2, false), (3, true)] {
        let tokens = prefix + patches;
        let [front, positions] = [floats(prefix * width, 2.0), floats(tokens * width, 3.0)];
        let mut expected = floats(images * tokens * width, 1.0);
        let rows = |values: &[f32]| Rows::of(&gpu, "rows", Element::F32, values, width).unwrap();
        let out = rows(&expected);
        for image in expected.chunks_mut(tokens * width) {
            for (index, value) in image[..prefix * width].iter_mut().enumerate() {
                *value = front[index] + if with_positions { positions[index] } else { 0.0 };
            }
        }
        let positions = with_positions.then(|| rows(&positions));
        let assemble = Prefix::new(&gpu, tokens, &rows(&front), positions.as_ref(), &out).unwrap();
        record(&gpu, |recorder| assemble.record(recorder, images));
        assert_eq!(out.read(&gpu, images * tokens).unwrap(), expected);

        for (mean, maximum, first) in [(true, false, 0), (false, true, prefix), (true, true, 1)] {
            let shape = PoolShape {
                width: width as u32,
                tokens: tokens as u32,
                first: first as u32,
                count: (tokens - first) as u32,
                mean,
                maximum,
            };
            let pooled = Rows::new(&gpu, "pooled", Element::F32, images, width).unwrap();
            let pooling = Pooling::new(&gpu, &shape, &out, &pooled).unwrap();
            record(&gpu, |recorder| pooling.record(recorder, images));
            let value = |index: usize| {
                let (image, feature) = (index / width, index % width);
                let rows = expected[image * tokens * width..][..tokens * width].chunks(width);
                let values = rows.skip(first).map(|row| row[feature]);
                let average = values.clone().sum::<f32>() / (tokens - first) as f32;
                let largest = values.fold(f32::NEG_INFINITY, f32::max);
                match (mean, maximum) {
                    (true, false) => average,
                    (false, _) => largest,
                    (true, true) => 0.5 * (average + largest),
                }
            };
            let expected: Vec<f32> = (0..images * width).map(value).collect();
            let found = pooled.read(&gpu, images).unwrap();
            assert!(difference(&found, &expected) < 2e-6, "{shape:?}");
            assert_padded(&gpu, &pooled);
        }
    }
}
