//! One row of activations as signed bytes.

use super::RowGrid;
use crate::arch::Simd;
use crate::ops::{Extremes, round};

/// Least step: a row of smaller numbers is a row of zeros. Its reciprocal is finite.
pub(crate) const LEAST_SCALE: f32 = 1e-37;

/// The grid of a row, that of [`Activations`](crate::Activations), without sums.
#[inline(always)]
pub(super) fn grid(extremes: Extremes) -> RowGrid {
    let Extremes { low, high } = extremes;
    let range = high - low;
    if !range.is_finite() {
        return RowGrid { scale: f32::NAN, ..RowGrid::default() };
    }
    let scale = if range / 255.0 < LEAST_SCALE { 1.0 } else { range / 255.0 };
    let zero = round(-low * (1.0 / scale)) - 128;
    RowGrid { scale, zero, ..RowGrid::default() }
}

/// Writes the codes of a row; zeros where its scale is NaN.
#[inline(always)]
pub(super) fn quantize<S: Simd>(simd: S, row: &[f32], codes: &mut [i8]) -> RowGrid {
    let mut grid = grid(simd.extremes(row));
    if grid.scale.is_nan() {
        codes.fill(0);
        return grid;
    }
    let sum = simd.round_codes(row, 1.0 / grid.scale, grid.zero, codes);
    grid.set_code_sum(sum, row.len());
    grid
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
