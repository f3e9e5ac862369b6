//! One row of activations as signed bytes.

use half::f16;

use super::RowGrid;
use crate::arch::Simd;
use crate::ops::{Extremes, round};
use crate::rows::Row;

/// Least step: a row of smaller numbers is a row of zeros. Its reciprocal is finite.
pub(crate) const LEAST_SCALE: f32 = 1e-37;

/// Writes the codes of a row; the grid is that of [`Activations`](crate::Activations).
#[inline(always)]
pub(super) fn quantize<S: Simd>(simd: S, row: Row<'_>, codes: &mut [i8]) -> RowGrid {
    let Extremes { low, high } = row.extremes(simd);
    let range = high - low;
    if !range.is_finite() {
        codes.fill(0);
        return RowGrid { scale: f32::NAN, ..RowGrid::default() };
    }
    let scale = if range / 255.0 < LEAST_SCALE { 1.0 } else { range / 255.0 };
    let inverse = 1.0 / scale;
    let zero = round(-low * inverse) - 128;
    let code_sum = row.round_codes(simd, inverse, zero, codes);
    let code_sum = code_sum.wrapping_sub((codes.len() as i32).wrapping_mul(zero));
    RowGrid { scale, zero, code_sum, sum: code_sum as f32 }
}

/// Writes the codes of numbers, `value * inverse` rounded plus `zero`, clamped to a byte; returns their sum.
///
/// Products have a magnitude of at most 256, and so has `zero`.
#[inline(always)]
pub(crate) fn round_codes(values: &[f32], inverse: f32, zero: i32, codes: &mut [i8]) -> i32 {
    let mut sum = 0_i32;
    for (code, &value) in codes.iter_mut().zip(values) {
        let rounded = (round(value * inverse) + zero).clamp(-128, 127);
        *code = rounded as i8;
        sum = sum.wrapping_add(rounded);
    }
    sum
}

/// [`round_codes`] of numbers in half precision.
#[inline(always)]
pub(crate) fn round_codes_of_half<S: Simd>(
    simd: S,
    values: &[f16],
    inverse: f32,
    zero: i32,
    codes: &mut [i8],
) -> i32 {
    /// Numbers that are in single precision at once.
    const CHUNK: usize = 64;
    let mut sum = 0_i32;
    for (values, codes) in values.chunks(CHUNK).zip(codes.chunks_mut(CHUNK)) {
        let mut widened = [0.0; CHUNK];
        simd.widen(values, &mut widened);
        sum = sum.wrapping_add(simd.round_codes(&widened[..values.len()], inverse, zero, codes));
    }
    sum
}
