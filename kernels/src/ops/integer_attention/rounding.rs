//! Rows of queries and keys as bytes.

use half::f16;

use crate::activations::LEAST_SCALE;
use crate::arch::Simd;
use crate::memory::{Buffer, Slot};
use crate::ops::math::round;

/// Factors and codes of a row are padded to a multiple of this, factors with zeros.
pub(super) const CODE_STEP: usize = 64;

/// The bits of a float without its sign, which order as magnitudes do, NaN above all.
const MAGNITUDE: u32 = 0x7fff_ffff;

/// The step and its reciprocal of a symmetric grid that reaches to `largest`; NaN and 0 where that is not finite.
#[inline(always)]
pub(crate) fn symmetric_grid(largest: f32) -> (f32, f32) {
    let scale = largest / 127.0;
    let scale = if scale < LEAST_SCALE { 1.0 } else { scale };
    if largest < f32::INFINITY { (scale, 1.0 / scale) } else { (f32::NAN, 0.0) }
}

/// Rounds `value * factor`, of magnitude at most 127; the codes beyond the last value are zero. Codes of numbers that are
/// not finite mean nothing.
#[inline(always)]
pub(crate) fn round_products<S: Simd>(simd: S, values: &[f16], factors: &[f32], codes: &mut [i8]) {
    let mut buffer = Buffer::take(Slot::Rows);
    let row = buffer.get::<f32>(values.len());
    simd.widen(values, row);
    for ((code, &value), &factor) in codes.iter_mut().zip(&*row).zip(factors) {
        *code = round(value * factor) as i8;
    }
    codes[values.len()..].fill(0);
}

/// Rounds `value * factor` on the grid which reaches to the largest magnitude, and returns its scale; the codes beyond the
/// last value are zero. A row that is not finite has the scale NaN, and codes that mean nothing.
#[inline(always)]
pub(crate) fn round_to_grid<S: Simd>(
    simd: S,
    values: &[f16],
    factors: &[f32],
    codes: &mut [i8],
) -> f32 {
    let mut buffer = Buffer::take(Slot::Rows);
    let row = buffer.get::<f32>(values.len());
    simd.widen(values, row);
    for (value, factor) in row.iter_mut().zip(factors) {
        *value *= factor;
    }
    let largest = row.iter().fold(0, |bits, value| u32::max(bits, value.to_bits() & MAGNITUDE));
    let (scale, inverse) = symmetric_grid(f32::from_bits(largest));
    for (code, &value) in codes.iter_mut().zip(&*row) {
        *code = round(value * inverse) as i8;
    }
    codes[values.len()..].fill(0);
    scale
}
