//! Layer normalisation.

use super::{sum, sum_squares};
use crate::Pool;
use crate::arch::tiles::for_each_chunk;
use crate::arch::{Simd, Vectorized, dispatch};

/// Rows handed to a thread at once.
const CHUNK: usize = 16;

/// `out = (x - mean) / sqrt(variance + eps) * gamma + beta` over each row of `x`, `[rows, dim]`.
///
/// The dimension is that of `gamma` and `beta`. Mean and (biased) variance are taken in two passes. The result has the same
/// bits on every instruction set.
///
/// # Panics
/// When the lengths do not belong together.
pub fn layer_norm(pool: &Pool, x: &[f32], gamma: &[f32], beta: &[f32], eps: f32, out: &mut [f32]) {
    let dim = gamma.len();
    assert_eq!(dim, beta.len(), "gamma and beta differ in length");
    assert_eq!(x.len(), out.len(), "input and output differ in length");
    assert!(
        x.len().checked_rem(dim).unwrap_or(x.len()) == 0,
        "{} elements are not made of rows of {dim}",
        x.len()
    );
    if x.is_empty() {
        return;
    }
    for_each_chunk(pool, out, CHUNK * dim, |chunk, out| {
        let x = &x[chunk * CHUNK * dim..][..out.len()];
        let task = LayerNorm { x, gamma, beta, eps, out };
        dispatch!(pool.token(), simd => simd.vectorize(task));
    });
}

struct LayerNorm<'a> {
    x: &'a [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl Vectorized for LayerNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let dim = self.gamma.len();
        for (row, out) in self.x.chunks_exact(dim).zip(self.out.chunks_exact_mut(dim)) {
            normalize_row(simd, row, self.gamma, self.beta, self.eps, out);
        }
    }
}

/// [`layer_norm`] of one row.
#[inline(always)]
pub(crate) fn normalize_row<S: Simd>(
    simd: S,
    row: &[f32],
    gamma: &[f32],
    beta: &[f32],
    eps: f32,
    out: &mut [f32],
) {
    let (mean, factor) = mean_and_factor(simd, row, eps);
    for (((out, value), gamma), beta) in out.iter_mut().zip(row).zip(gamma).zip(beta) {
        *out = (value - mean) * factor * gamma + beta;
    }
}

/// [`normalize_row`] of a row that lies where it is normalised.
#[inline(always)]
pub(crate) fn normalize_in_place<S: Simd>(
    simd: S,
    row: &mut [f32],
    gamma: &[f32],
    beta: &[f32],
    eps: f32,
) {
    let (mean, factor) = mean_and_factor(simd, row, eps);
    for ((value, gamma), beta) in row.iter_mut().zip(gamma).zip(beta) {
        *value = (*value - mean) * factor * gamma + beta;
    }
}

/// The mean of a row and the reciprocal of its standard deviation.
#[inline(always)]
fn mean_and_factor<S: Simd>(simd: S, row: &[f32], eps: f32) -> (f32, f32) {
    let mean = sum(simd, row) / row.len() as f32;
    let squares = sum_squares(simd, row, mean);
    (mean, 1.0 / (squares / row.len() as f32 + eps).sqrt())
}
