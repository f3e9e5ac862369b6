//! Softmax.

use super::{math, maximum, sum};
use crate::Pool;
use crate::arch::tiles::for_each_chunk;
use crate::arch::{Simd, Vectorized, dispatch};

/// Rows handed to a thread at once.
const CHUNK: usize = 16;

/// Replaces each row of `x`, `[rows, cols]`, by its softmax.
///
/// The maximum of the row is subtracted first. A row with a NaN becomes NaN.
///
/// # Panics
/// When `x` has not `rows * cols` elements.
pub fn softmax_rows(pool: &Pool, x: &mut [f32], rows: usize, cols: usize) {
    assert_eq!(
        Some(x.len()),
        rows.checked_mul(cols),
        "expected {rows} x {cols} elements, found {}",
        x.len()
    );
    if x.is_empty() {
        return;
    }
    for_each_chunk(pool, x, CHUNK * cols, |_, rows| {
        dispatch!(pool.token(), simd => simd.vectorize(Softmax { rows, cols }));
    });
}

struct Softmax<'a> {
    rows: &'a mut [f32],
    cols: usize,
}

impl Vectorized for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for row in self.rows.chunks_exact_mut(self.cols) {
            let largest = maximum(row);
            for value in row.iter_mut() {
                *value = math::exp::<S>(*value - largest);
            }
            let factor = 1.0 / sum(simd, row);
            for value in row.iter_mut() {
                *value *= factor;
            }
        }
    }
}
