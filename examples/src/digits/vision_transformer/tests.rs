//! The burn model against a plain forward written from the exported tensors in f64.

use std::collections::HashMap;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;

const SMALL: Architecture =
    Architecture { patch_size: 7, embed_dim: 12, depth: 2, num_heads: 3, mlp_ratio: 2 };

type Tensors = HashMap<String, Vec<f64>>;

fn linear(tensors: &Tensors, name: &str, rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let weight = &tensors[&format!("{name}.weight")];
    let bias = &tensors[&format!("{name}.bias")];
    let dot = |row: &[f64], o: usize| -> f64 {
        let weight = &weight[o * row.len()..(o + 1) * row.len()];
        bias[o] + row.iter().zip(weight).map(|(x, w)| x * w).sum::<f64>()
    };
    rows.iter().map(|row| (0..bias.len()).map(|o| dot(row, o)).collect()).collect()
}

fn norm(tensors: &Tensors, name: &str, rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let weight = &tensors[&format!("{name}.weight")];
    let bias = &tensors[&format!("{name}.bias")];
    rows.iter()
        .map(|row| {
            let count = row.len() as f64;
            let mean = row.iter().sum::<f64>() / count;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
            let scale = 1.0 / (variance + 1e-6).sqrt();
            (0..row.len()).map(|i| (row[i] - mean) * scale * weight[i] + bias[i]).collect()
        })
        .collect()
}

fn add(a: &mut [Vec<f64>], b: &[Vec<f64>]) {
    for (x, y) in a.iter_mut().flatten().zip(b.iter().flatten()) {
        *x += y;
    }
}

/// GELU by the power series of the error function, exact for the small inputs of these tests.
fn gelu(x: f64) -> f64 {
    let z = x / std::f64::consts::SQRT_2;
    let (mut term, mut sum) = (z, z);
    for n in 1..120 {
        term *= -z * z / n as f64;
        sum += term / (2 * n + 1) as f64;
    }
    0.5 * x * (1.0 + std::f64::consts::FRAC_2_SQRT_PI * sum)
}

/// Attention of timm: `qkv` rows hold query, key and value, each `[heads, head_dim]`.
fn attention(qkv: &[Vec<f64>], heads: usize) -> Vec<Vec<f64>> {
    let width = qkv[0].len() / 3;
    let head_dim = width / heads;
    let mut out = vec![vec![0.0; width]; qkv.len()];
    for head in 0..heads {
        let part =
            |row: &[f64], which: usize| row[which * width + head * head_dim..][..head_dim].to_vec();
        for (row, mixed) in qkv.iter().zip(&mut out) {
            let query = part(row, 0);
            let weights: Vec<f64> = qkv
                .iter()
                .map(|other| {
                    let dot: f64 = query.iter().zip(part(other, 1)).map(|(q, k)| q * k).sum();
                    (dot / (head_dim as f64).sqrt()).exp()
                })
                .collect();
            let total: f64 = weights.iter().sum();
            for (weight, other) in weights.iter().zip(qkv) {
                for (i, value) in part(other, 2).into_iter().enumerate() {
                    mixed[head * head_dim + i] += weight / total * value;
                }
            }
        }
    }
    out
}

fn reference(tensors: &Tensors, patches: &[f32]) -> Vec<f64> {
    let width = SMALL.embed_dim;
    let rows: Vec<Vec<f64>> = patches
        .chunks(SMALL.patch_pixels())
        .map(|patch| patch.iter().map(|&x| f64::from(x)).collect())
        .collect();
    let mut tokens = vec![tensors["cls_token"].clone()];
    tokens.extend(linear(tensors, "patch_embed.proj", &rows));
    let positions: Vec<Vec<f64>> =
        tensors["pos_embed"].chunks(width).map(<[f64]>::to_vec).collect();
    add(&mut tokens, &positions);
    for block in 0..SMALL.depth {
        let name = |part: &str| format!("blocks.{block}.{part}");
        let qkv = linear(tensors, &name("attn.qkv"), &norm(tensors, &name("norm1"), &tokens));
        let mixed = attention(&qkv, SMALL.num_heads);
        add(&mut tokens, &linear(tensors, &name("attn.proj"), &mixed));
        let mut hidden = linear(tensors, &name("mlp.fc1"), &norm(tensors, &name("norm2"), &tokens));
        hidden.iter_mut().flatten().for_each(|x| *x = gelu(*x));
        add(&mut tokens, &linear(tensors, &name("mlp.fc2"), &hidden));
    }
    linear(tensors, "head", &norm(tensors, "norm", &tokens[..1])).remove(0)
}

#[test]
fn forward_matches_a_plain_forward_of_the_exported_tensors() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let device = Device::flex();
    let model = VisionTransformer::new(SMALL, &mut rng, &device);
    let tensors: Tensors = model
        .tensors(SMALL)
        .into_iter()
        .map(|tensor| {
            let values = tensor.values.iter().map(|&x| f64::from(x)).collect();
            (tensor.name, values)
        })
        .collect();
    let mut patches = Vec::new();
    for _ in 0..2 {
        let digit: Vec<f32> = (0..PIXELS).map(|_| rng.random_range(0.0..255.0)).collect();
        SMALL.append_patches(&digit, &mut patches);
    }
    let shape = [2, SMALL.patches(), SMALL.patch_pixels()];
    let batch = Tensor::<3>::from_data(TensorData::new(patches.clone(), shape), &device);
    let logits: Vec<f32> = model.forward(batch).into_data().try_to_vec().unwrap();
    for (patches, logits) in patches.chunks(PIXELS).zip(logits.chunks(CLASSES)) {
        for (expected, found) in reference(&tensors, patches).iter().zip(logits) {
            assert!((expected - f64::from(*found)).abs() < 1e-4, "{expected} {found}");
        }
    }
}

#[test]
fn patches_are_cut_row_by_row() {
    let digit: Vec<f32> = (0..PIXELS).map(|i| i as f32 / 4.0).collect();
    let mut patches = Vec::new();
    SMALL.append_patches(&digit, &mut patches);
    let pixel = |patch: usize, y: usize, x: usize| {
        let value = patches[patch * 49 + y * 7 + x];
        ((value * STANDARD_DEVIATION + MEAN) * 255.0 * 4.0).round() as usize
    };
    assert_eq!(patches.len(), PIXELS);
    assert_eq!(pixel(0, 0, 0), 0);
    assert_eq!(pixel(1, 2, 3), 2 * SIDE + 10);
    assert_eq!(pixel(15, 6, 6), PIXELS - 1);
}

#[test]
fn sizes_that_do_not_fit_are_named() {
    for (architecture, expected) in [
        (Architecture { patch_size: 5, ..SMALL }, "patch size 5"),
        (Architecture { num_heads: 5, ..SMALL }, "5 heads"),
        (Architecture { depth: 0, ..SMALL }, "at least 1"),
    ] {
        let reason = architecture.validate().unwrap_err();
        assert!(reason.contains(expected), "{reason}");
    }
    assert_eq!(SMALL.validate(), Ok(()));
}
