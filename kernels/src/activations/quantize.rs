//! One row of activations as signed bytes.

use super::RowGrid;
use crate::ops::{Extremes, round};

/// Least step: a row of smaller numbers is a row of zeros. Its reciprocal is finite.
pub(crate) const LEAST_SCALE: f32 = 1e-37;

/// Writes the codes of a row; the grid is that of [`Activations`](crate::Activations).
#[inline(always)]
pub(super) fn quantize(row: &[f32], codes: &mut [i8]) -> RowGrid {
    let extremes = Extremes::of(row);
    // Either is NaN where the row holds one; infinities show in the range.
    let (low, high) = (extremes.low.min(0.0), extremes.high.max(0.0));
    let range = high - low;
    if extremes.low.is_nan() || extremes.high.is_nan() || !range.is_finite() {
        codes.fill(0);
        return RowGrid { scale: f32::NAN, ..RowGrid::default() };
    }
    let scale = if range / 255.0 < LEAST_SCALE { 1.0 } else { range / 255.0 };
    let inverse = 1.0 / scale;
    let zero = round(-low * inverse) - 128;
    let mut code_sum = 0_i32;
    for (code, &value) in codes.iter_mut().zip(row) {
        let rounded = (round(value * inverse) + zero).clamp(-128, 127);
        *code = rounded as i8;
        code_sum = code_sum.wrapping_add(rounded);
    }
    let sum = code_sum.wrapping_sub((row.len() as i32).wrapping_mul(zero)) as f32;
    RowGrid { scale, zero, code_sum, sum }
}
