//! Operations against those of the CPU.

use super::super::shader::operations::{AttentionShape, PatchShape, PoolShape, RowSource};
use super::super::*;
use super::test_gpu;
use crate::samples::Samples;
use crate::{Isa, ops};
use half::f16;

/// Largest difference, as a part of the largest number expected.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let pairs = found.iter().zip(expected);
    pairs.fold(0.0_f32, |worst, (a, b)| {
        // NaN is the worst.
        let difference = (a - b).abs();
        if difference <= worst { worst } else { difference }
    }) / largest
}

fn floats(count: usize, limit: f32) -> Vec<f32> {
    Samples::new(count as u64).floats(count, limit)
}

/// Rows of `columns` numbers, padded with zeros.
fn padded(values: &[f32], columns: usize) -> Vec<f32> {
    let mut rows = Vec::new();
    for row in values.chunks(columns) {
        rows.extend_from_slice(row);
        rows.resize(rows.len().next_multiple_of(8), 0.0);
    }
    rows
}

fn halves(values: &[f32]) -> Vec<f16> {
    values.iter().map(|&value| f16::from_f32(value)).collect()
}

fn singles(values: Vec<f16>) -> Vec<f32> {
    values.into_iter().map(f16::to_f32).collect()
}

fn record(gpu: &Gpu, work: impl FnOnce(&mut Recorder)) {
    let mut recorder = Recorder::new(gpu, "test").unwrap();
    work(&mut recorder);
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
        [(1, 1, 4), (5, 2, 7), (65, 3, 14), (70, 2, 64), (17, 1, 128), (9, 1, 130), (67, 2, 200)]
    {
        let width = heads * head_dim;
        let qkv = floats(images * tokens * 3 * width, 3.0);
        let mut expected = vec![0.0; images * tokens * width];
        ops::attention(&cpu(), &qkv, images, tokens, heads, head_dim, &mut expected);
        let shape = AttentionShape {
            tokens: tokens as u32,
            heads: heads as u32,
            head_dim: head_dim as u32,
            half: false,
        };
        let run = |shape: &AttentionShape, input: &Buffer, out: &Buffer| {
            let attention = Attention::new(&gpu, shape, input, out).unwrap();
            record(&gpu, |recorder| attention.record(recorder, images as u32));
        };
        let qkv = padded(&qkv, 3 * width);
        let expected = padded(&expected, width);
        let input = gpu.buffer_of("qkv", &qkv).unwrap();
        let out = gpu.buffer("out", size_of_val(&*expected) as u64).unwrap();
        run(&shape, &input, &out);
        let found = gpu.download::<f32>(&out, 0..expected.len()).unwrap();
        let error = difference(&found, &expected);
        assert!(error < 2e-6, "{shape:?}: {error:e}");

        let half = AttentionShape { half: true, ..shape };
        if !half.has_half() {
            assert!(Attention::new(&gpu, &half, &input, &out).is_err());
            continue;
        }
        let input = gpu.buffer_of("qkv", &halves(&qkv)).unwrap();
        let out = gpu.buffer("out", size_of_val(&*expected) as u64 / 2).unwrap();
        run(&half, &input, &out);
        let found = singles(gpu.download(&out, 0..expected.len()).unwrap());
        let error = difference(&found, &expected);
        assert!(error < 4e-3, "{half:?}: {error:e}");
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
        let (x, expected) = (padded(&x, columns), padded(&expected, columns));
        let [gamma, beta] = [&gamma, &beta].map(|values| gpu.buffer_of("norm", values).unwrap());
        let dense = RowGroups::dense(columns as u32);
        let columns = columns as u32;
        let source = RowSource::Normalized { epsilon: 1e-6 };
        let norm = [&gamma, &beta];
        for half in [[false, false], [false, true], [true, false], [true, true]] {
            let buffer = |half| match half {
                true => gpu.buffer_of("x", &halves(&x)).unwrap(),
                false => gpu.buffer_of("x", &x).unwrap(),
            };
            let [input, out] = half.map(buffer);
            let out_of_place =
                Rows::new(&gpu, columns, source, dense, [&input, &out], half, Some(norm)).unwrap();
            let in_place = Rows::in_place(&gpu, columns, 1e-6, dense, &input, half[0], norm);
            // Padding may lie between the numbers of a quarter, which is nothing to normalise.
            let in_place = in_place.ok().filter(|_| columns % 4 == 0 || !half[0]);
            record(&gpu, |recorder| {
                out_of_place.record(recorder, rows as u32);
                if let Some(in_place) = &in_place {
                    in_place.record(recorder, rows as u32);
                }
            });
            let results = [(Some(&out), half[1]), (in_place.as_ref().map(|_| &input), half[0])];
            for (buffer, is_half) in results {
                let Some(buffer) = buffer else { continue };
                let found = match is_half {
                    true => singles(gpu.download(buffer, 0..x.len()).unwrap()),
                    false => gpu.download(buffer, 0..x.len()).unwrap(),
                };
                let error = difference(&found, &expected);
                let most = if half[0] || is_half { 2e-3 } else { 2e-6 };
                assert!(error < most, "{rows} x {columns}, {half:?}: {error:e}");
            }
        }
    }
}

#[test]
fn groups_of_rows_are_found_and_have_vectors_of_their_own() {
    let Some(gpu) = test_gpu() else { return };
    // Queries and keys of two tokens and three heads of five features; values stay.
    let (tokens, heads, dim) = (2, 3, 5);
    let x = floats(tokens * 3 * heads * dim, 2.0);
    let [gamma, beta] = [floats(2 * dim, 1.0), floats(2 * dim, 0.5)];
    let mut expected = x.clone();
    for token in 0..tokens {
        for head in 0..2 * heads {
            let start = (token * 3 * heads + head) * dim;
            let vector = head / heads * dim..(head / heads + 1) * dim;
            let (gamma, beta) = (&gamma[vector.clone()], &beta[vector]);
            let out = &mut expected[start..start + dim];
            ops::layer_norm(&cpu(), &x[start..start + dim], gamma, beta, 1e-5, out);
        }
    }
    let [data, gamma, beta] = [&x, &gamma, &beta].map(|v| gpu.buffer_of("norm", v).unwrap());
    let groups = RowGroups {
        base: 0,
        group: 2 * heads as u32,
        outer: (3 * heads * dim) as u32,
        inner: dim as u32,
        per_vector: heads as u32,
    };
    let norm = [&gamma, &beta];
    let norm = Rows::in_place(&gpu, dim as u32, 1e-5, groups, &data, false, norm).unwrap();
    record(&gpu, |recorder| norm.record(recorder, (tokens * 2 * heads) as u32));
    let found = gpu.download::<f32>(&data, 0..x.len()).unwrap();
    assert!(difference(&found, &expected) < 2e-6);
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
        let expected = padded(&expected, columns);
        let out = gpu.buffer("patches", size_of_val(&*expected) as u64).unwrap();
        let groups = RowGroups::dense(columns as u32);
        let source = RowSource::Patches(shape);
        let half = [false, false];
        let rows =
            Rows::new(&gpu, columns as u32, source, groups, [&input, &out], half, None).unwrap();
        record(&gpu, |recorder| rows.record(recorder, (images * down * across) as u32));
        assert_eq!(gpu.download::<f32>(&out, 0..expected.len()).unwrap(), expected);
    }
}

#[test]
fn prefixes_are_put_in_front_and_tokens_pooled() {
    let Some(gpu) = test_gpu() else { return };
    let (images, patches, width, stride) = (2_usize, 3_usize, 70_usize, 72_usize);
    for (prefix, with_positions) in [(1, true), (2, false), (3, true)] {
        let tokens = prefix + patches;
        let front = floats(prefix * width, 2.0);
        let positions = floats(tokens * width, 3.0);
        let mut expected = floats(images * tokens * width, 1.0);
        let buffer = |values: &[f32]| gpu.buffer_of("in", &padded(values, width)).unwrap();
        let out = buffer(&expected);
        for image in expected.chunks_mut(tokens * width) {
            for (index, value) in image[..prefix * width].iter_mut().enumerate() {
                *value = front[index] + if with_positions { positions[index] } else { 0.0 };
            }
        }
        let (front, positions) = (buffer(&front), buffer(&positions));
        let positions = with_positions.then_some(&positions);
        let shape = [width, tokens, prefix].map(|size| size as u32);
        let assemble = Prefix::new(&gpu, shape, &front, positions, &out).unwrap();
        record(&gpu, |recorder| assemble.record(recorder, images as u32));
        let found = gpu.download::<f32>(&out, 0..images * tokens * stride).unwrap();
        assert_eq!(found, padded(&expected, width));

        for (mean, maximum, first) in [(true, false, 0), (false, true, prefix), (true, true, 1)] {
            let shape = PoolShape {
                width: width as u32,
                tokens: tokens as u32,
                first: first as u32,
                count: (tokens - first) as u32,
                mean,
                maximum,
            };
            let pooled = gpu.buffer("pooled", (images * stride * 4) as u64).unwrap();
            let pooling = Pooling::new(&gpu, &shape, &out, &pooled).unwrap();
            record(&gpu, |recorder| pooling.record(recorder, images as u32));
            let found = gpu.download::<f32>(&pooled, 0..images * stride).unwrap();
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
            let pooled: Vec<f32> = (0..images * width).map(value).collect();
            assert!(difference(&found, &padded(&pooled, width)) < 2e-6, "{shape:?}");
        }
    }
}
