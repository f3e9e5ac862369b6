//! The same arithmetic in f64, one element after another: what the kernels are tested against.
//!
//! Slow by design, and free of anything that the kernels share.

use crate::{Activation, Width, pack};

/// `out[m][n] = sum_k a[m][k] * w[n][k]`, all row-major: `a` `[m, k]`, `w` `[n, k]`, result `[m, n]`.
///
/// # Panics
/// When a length does not belong to the shape.
pub fn matmul(a: &[f64], m: usize, w: &[f64], n: usize, k: usize) -> Vec<f64> {
    assert_eq!(a.len(), m * k, "left operand");
    assert_eq!(w.len(), n * k, "right operand");
    let mut out = Vec::with_capacity(m * n);
    for row in 0..m {
        for column in 0..n {
            let terms = (0..k).map(|index| a[row * k + index] * w[column * k + index]);
            out.push(terms.sum());
        }
    }
    out
}

/// The weights `scale[n] * code + offset[n]` of packed codes, `[n, k]`.
///
/// # Errors
/// When the bytes are not valid codes, see [`pack::unpack`].
///
/// # Panics
/// When `scale` or `offset` has not `n` elements.
pub fn dequantize(
    width: Width,
    n: usize,
    k: usize,
    packed: &[u8],
    scale: &[f32],
    offset: &[f32],
) -> Result<Vec<f64>, crate::PackError> {
    assert_eq!(scale.len(), n, "scales");
    assert_eq!(offset.len(), n, "offsets");
    let codes = pack::unpack(width, n, k, packed)?;
    Ok(codes
        .iter()
        .enumerate()
        .map(|(index, &code)| {
            f64::from(scale[index / k]) * f64::from(code) + f64::from(offset[index / k])
        })
        .collect())
}

/// The error function, by its Maclaurin series or, from 3 on, the continued fraction of erfc.
pub fn erf(x: f64) -> f64 {
    let magnitude = x.abs();
    let value = if magnitude < 3.0 {
        // 2 / sqrt(pi) * sum (-1)^n x^(2n+1) / (n! (2n+1))
        let mut power = magnitude;
        let mut total = magnitude;
        for n in 1..100 {
            power *= -magnitude * magnitude / f64::from(n);
            total += power / f64::from(2 * n + 1);
        }
        std::f64::consts::FRAC_2_SQRT_PI * total
    } else {
        // erfc(x) = exp(-x^2) / sqrt(pi) / (x + (1/2) / (x + 1 / (x + (3/2) / (x + ...))))
        let mut fraction = magnitude;
        for n in (1..100).rev() {
            fraction = magnitude + f64::from(n) / 2.0 / fraction;
        }
        1.0 - (-magnitude * magnitude).exp() / (std::f64::consts::PI.sqrt() * fraction)
    };
    value.copysign(x)
}

/// An activation function.
pub fn activation(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::GeluErf => 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
        Activation::GeluTanh => {
            let z = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + z.tanh())
        }
        Activation::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
    }
}

/// Layer normalisation of one row.
///
/// # Panics
/// When `gamma` or `beta` is shorter than the row.
pub fn layer_norm(row: &[f64], gamma: &[f64], beta: &[f64], eps: f64) -> Vec<f64> {
    let count = row.len() as f64;
    let mean = row.iter().sum::<f64>() / count;
    let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
    row.iter()
        .enumerate()
        .map(|(index, x)| (x - mean) / (variance + eps).sqrt() * gamma[index] + beta[index])
        .collect()
}

/// Softmax of one row.
pub fn softmax(row: &[f64]) -> Vec<f64> {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = row.iter().map(|x| (x - largest).exp()).collect();
    let total: f64 = powers.iter().sum();
    powers.iter().map(|power| power / total).collect()
}

/// Attention of one head of one image: `queries`, `keys` and `values` are `[tokens, dim]`, and so is the result.
///
/// # Panics
/// When a length is no multiple of `dim`, or the three differ.
pub fn attention(queries: &[f64], keys: &[f64], values: &[f64], dim: usize) -> Vec<f64> {
    let tokens = queries.len() / dim;
    let scores = matmul(queries, tokens, keys, tokens, dim);
    let mut out = vec![0.0; queries.len()];
    for (scores, out) in scores.chunks(tokens).zip(out.chunks_mut(dim)) {
        let scaled: Vec<f64> = scores.iter().map(|x| x / (dim as f64).sqrt()).collect();
        for (weight, value) in softmax(&scaled).iter().zip(values.chunks(dim)) {
            for (out, value) in out.iter_mut().zip(value) {
                *out += weight * value;
            }
        }
    }
    out
}
