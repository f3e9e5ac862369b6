//! Operations against those of the CPU.

use super::super::shader::operations::{
    AttentionShape, PatchShape, PoolShape, RowSource, TokenShape,
};
use super::super::*;
use super::test_gpu;
use crate::samples::Samples;
use crate::{Isa, ops};

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
            let mut recorder = Recorder::new(&gpu, "attention").unwrap();
            attention.record(&mut recorder, images as u32);
            recorder.submit().unwrap();
        };
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
        let halves: Vec<half::f16> = qkv.iter().map(|&value| half::f16::from_f32(value)).collect();
        let input = gpu.buffer_of("qkv", &halves).unwrap();
        run(&half, &input, &out);
        let found = gpu.download::<half::f16>(&out, 0..expected.len()).unwrap();
        let found: Vec<f32> = found.into_iter().map(half::f16::to_f32).collect();
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
        let buffers = [&x, &gamma, &beta].map(|values| gpu.buffer_of("norm", values).unwrap());
        let [input, gamma, beta] = &buffers;
        let out = gpu.buffer("out", size_of_val(&*x) as u64).unwrap();
        let dense = RowGroups::dense(columns as u32);
        let source = RowSource::Normalized { epsilon: 1e-6 };
        let norm = [gamma, beta];
        let new =
            Rows::new(&gpu, columns as u32, source, dense, [input, &out], Some(norm)).unwrap();
        let in_place = Rows::in_place(&gpu, columns as u32, 1e-6, dense, input, norm).unwrap();
        let mut recorder = Recorder::new(&gpu, "norm").unwrap();
        new.record(&mut recorder, rows as u32);
        in_place.record(&mut recorder, rows as u32);
        recorder.submit().unwrap();
        for buffer in [input, &out] {
            let found = gpu.download::<f32>(buffer, 0..x.len()).unwrap();
            let error = difference(&found, &expected);
            assert!(error < 2e-6, "{rows} x {columns}: {error:e}");
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
    let norm = Rows::in_place(&gpu, dim as u32, 1e-5, groups, &data, [&gamma, &beta]).unwrap();
    let mut recorder = Recorder::new(&gpu, "norm").unwrap();
    norm.record(&mut recorder, (tokens * 2 * heads) as u32);
    recorder.submit().unwrap();
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
        let out = gpu.buffer("patches", size_of_val(&*x) as u64).unwrap();
        let groups = RowGroups::dense(columns as u32);
        let source = RowSource::Patches(shape);
        let rows = Rows::new(&gpu, columns as u32, source, groups, [&input, &out], None).unwrap();
        let mut recorder = Recorder::new(&gpu, "patches").unwrap();
        rows.record(&mut recorder, (images * down * across) as u32);
        recorder.submit().unwrap();
        assert_eq!(gpu.download::<f32>(&out, 0..x.len()).unwrap(), expected);
    }
}

#[test]
fn tokens_are_assembled_and_pooled() {
    let Some(gpu) = test_gpu() else { return };
    let (images, patches, width) = (2_usize, 3_usize, 70_usize);
    for (prefix, embedded_from) in [(0, Some(0)), (2, Some(0)), (2, Some(2)), (1, None)] {
        let tokens = prefix + patches;
        let embedded = floats(images * patches * width, 1.0);
        let front = floats(prefix.max(1) * width, 2.0);
        let positions = floats(tokens * width, 3.0);
        let value = |image: usize, token: usize, feature: usize| {
            let value = match token.checked_sub(prefix) {
                None => front[token * width + feature],
                Some(patch) => embedded[(image * patches + patch) * width + feature],
            };
            let place = embedded_from.and_then(|from| token.checked_sub(from));
            value + place.map_or(0.0, |place| positions[place * width + feature])
        };
        let shape = TokenShape {
            width: width as u32,
            tokens: tokens as u32,
            prefix: prefix as u32,
            embedded_from: embedded_from.map(|from| from as u32),
        };
        let inputs = [&embedded, &front, &positions].map(|v| gpu.buffer_of("in", v).unwrap());
        let [embedded, front, positions] = &inputs;
        let out = gpu.buffer("tokens", (images * tokens * width * 4) as u64).unwrap();
        let pooled = gpu.buffer("pooled", (images * width * 4) as u64).unwrap();
        let assemble = Tokens::new(&gpu, &shape, embedded, front, positions, &out).unwrap();
        for (mean, maximum, first) in
            [(true, false, 0), (false, true, prefix), (true, true, prefix)]
        {
            let pool = PoolShape {
                width: width as u32,
                tokens: tokens as u32,
                first: first as u32,
                count: (tokens - first) as u32,
                mean,
                maximum,
            };
            let pool = Pooling::new(&gpu, &pool, &out, &pooled).unwrap();
            let mut recorder = Recorder::new(&gpu, "tokens").unwrap();
            assemble.record(&mut recorder, images as u32);
            pool.record(&mut recorder, images as u32);
            recorder.submit().unwrap();
            let found = gpu.download::<f32>(&pooled, 0..images * width).unwrap();
            let expected: Vec<f32> = (0..images * width)
                .map(|index| {
                    let (image, feature) = (index / width, index % width);
                    let values = (first..tokens).map(|token| value(image, token, feature));
                    let average = values.clone().sum::<f32>() / (tokens - first) as f32;
                    let largest = values.fold(f32::NEG_INFINITY, f32::max);
                    match (mean, maximum) {
                        (true, false) => average,
                        (false, _) => largest,
                        (true, true) => 0.5 * (average + largest),
                    }
                })
                .collect();
            assert!(difference(&found, &expected) < 2e-6, "{shape:?} {mean} {maximum}");
        }
    }
}
