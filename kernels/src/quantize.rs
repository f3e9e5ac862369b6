//! Activations quantised to 8 bit, one scale per row.

use crate::Pool;
use crate::arch::{Simd, Vectorized, dispatch};
use crate::ops::{maximum, minimum};

/// 1.5 * 2^23. Adding it to a float of magnitude below 2^22 rounds that to the nearest integer, ties to even, and leaves the
/// integer in the low bits of the sum: one addition, the same on every instruction set.
const ROUNDER: f32 = 12_582_912.0;

/// Rows handed to a thread at once.
const CHUNK: usize = 16;

/// Rows of activations as signed bytes: `a[m][k] ~ scale[m] * (code[m][k] - zero[m])`.
///
/// Made once and filled again for each product, without allocating where the capacity suffices. Codes, zeros and sums are
/// the same on every instruction set. A row that holds a number which is not finite (or whose range is not) has codes 0 and
/// the scale NaN, so that every output of that row is NaN.
#[derive(Clone, Debug, Default)]
pub struct QuantizedActivations {
    columns: usize,
    codes: Vec<i8>,
    scales: Vec<f32>,
    zeros: Vec<i32>,
    sums: Vec<i32>,
}

impl QuantizedActivations {
    /// No rows yet.
    pub fn new() -> QuantizedActivations {
        QuantizedActivations::default()
    }

    /// Quantises the `m` rows of `a`, `[m, k]`, symmetrically: `s = max|a| / 127` (1 for a zero row),
    /// `q = round_half_even(a / s)` in -127..=127, zero 0. The division is a division, not a product with a reciprocal.
    ///
    /// # Panics
    /// When `a` has not `m * k` elements.
    pub fn quantize_symmetric(&mut self, pool: &Pool, a: &[f32], m: usize, k: usize) {
        self.quantize(pool, a, m, k, Grid::Symmetric);
    }

    /// Quantises the `m` rows of `a`, `[m, k]`, on a grid that reaches from `lo = min(0, min a)` to `hi = max(0, max a)`:
    /// `s = (hi - lo) / 255` (1 for a zero row), `zero = round(-lo / s) - 128`, `q = clamp(round(a / s) + zero, -128, 127)`,
    /// rounding halves to even. Suits one-sided activations, such as those after GELU.
    ///
    /// # Panics
    /// When `a` has not `m * k` elements.
    pub fn quantize_asymmetric(&mut self, pool: &Pool, a: &[f32], m: usize, k: usize) {
        self.quantize(pool, a, m, k, Grid::Asymmetric);
    }

    fn quantize(&mut self, pool: &Pool, a: &[f32], m: usize, k: usize, grid: Grid) {
        assert_eq!(
            Some(a.len()),
            m.checked_mul(k),
            "expected {m} x {k} activations, found {}",
            a.len()
        );
        self.columns = k;
        self.codes.resize(m * k, 0);
        self.scales.resize(m, 1.0);
        self.zeros.resize(m, 0);
        self.sums.resize(m, 0);
        if k == 0 {
            self.scales.fill(1.0);
            self.zeros.fill(0);
            self.sums.fill(0);
            return;
        }
        // Each piece of codes, with the same rows of everything else.
        let mut pieces: Vec<Piece<'_>> = self
            .codes
            .chunks_mut(CHUNK * k)
            .zip(a.chunks(CHUNK * k))
            .zip(self.scales.chunks_mut(CHUNK))
            .zip(self.zeros.chunks_mut(CHUNK))
            .zip(self.sums.chunks_mut(CHUNK))
            .map(|((((codes, rows), scales), zeros), sums)| Piece {
                grid,
                columns: k,
                rows,
                codes,
                scales,
                zeros,
                sums,
            })
            .collect();
        pool.for_each_chunk(&mut pieces, 1, |_, pieces| {
            for piece in pieces {
                dispatch!(pool.token(), simd => simd.vectorize(&mut *piece));
            }
        });
    }

    /// Number of rows, `M`.
    pub fn rows(&self) -> usize {
        self.scales.len()
    }

    /// Number of columns, `K`.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The codes, row-major `[M, K]`.
    pub fn codes(&self) -> &[i8] {
        &self.codes
    }

    /// The scale of each row, `[M]`.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// The code that stands for zero, of each row, `[M]`.
    pub fn zeros(&self) -> &[i32] {
        &self.zeros
    }

    /// The sum of the codes of each row, `[M]`.
    pub fn sums(&self) -> &[i32] {
        &self.sums
    }
}

#[derive(Clone, Copy, Debug)]
enum Grid {
    Symmetric,
    Asymmetric,
}

/// Some rows.
struct Piece<'a> {
    grid: Grid,
    columns: usize,
    rows: &'a [f32],
    codes: &'a mut [i8],
    scales: &'a mut [f32],
    zeros: &'a mut [i32],
    sums: &'a mut [i32],
}

impl Vectorized for &mut Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let rows = self.rows.chunks_exact(self.columns);
        let codes = self.codes.chunks_exact_mut(self.columns);
        for (index, (row, codes)) in rows.zip(codes).enumerate() {
            let quantized = match self.grid {
                Grid::Symmetric => symmetric(row, codes),
                Grid::Asymmetric => asymmetric(row, codes),
            };
            (self.scales[index], self.zeros[index], self.sums[index]) = quantized;
        }
    }
}

/// Scale, zero and sum of codes of a row that cannot be quantised.
#[inline(always)]
fn not_finite(codes: &mut [i8]) -> (f32, i32, i32) {
    codes.fill(0);
    (f32::NAN, 0, 0)
}

#[inline(always)]
fn symmetric(row: &[f32], codes: &mut [i8]) -> (f32, i32, i32) {
    let largest = maximum(row, f32::abs);
    if !is_finite(row, largest) {
        return not_finite(codes);
    }
    let scale = nonzero(largest / 127.0);
    let sum = round_row(row, codes, scale, 0, -127);
    (scale, 0, sum)
}

#[inline(always)]
fn asymmetric(row: &[f32], codes: &mut [i8]) -> (f32, i32, i32) {
    let low = minimum(row).min(0.0);
    let high = maximum(row, |value| value).max(0.0);
    let range = high - low;
    if !is_finite(row, range) {
        return not_finite(codes);
    }
    let scale = nonzero(range / 255.0);
    let zero = round((-low / scale).min(255.0)) - 128;
    let sum = round_row(row, codes, scale, zero, -128);
    (scale, zero, sum)
}

/// Whether a row and its range are finite; the range alone does not tell, since comparisons skip NaN.
#[inline(always)]
fn is_finite(row: &[f32], range: f32) -> bool {
    range.is_finite() && maximum_bits(row) < f32::INFINITY.to_bits()
}

/// The largest magnitude as bits, which order like magnitudes and put NaN above infinity.
#[inline(always)]
fn maximum_bits(row: &[f32]) -> u32 {
    row.iter().fold(0, |largest, value| largest.max(value.to_bits() & 0x7fff_ffff))
}

/// The scale, or 1 where it is zero: a zero row, or one whose range underflows.
#[inline(always)]
fn nonzero(scale: f32) -> f32 {
    if scale == 0.0 { 1.0 } else { scale }
}

/// The nearest integer, ties to even, of a number of small magnitude.
#[inline(always)]
fn round(value: f32) -> i32 {
    (value + ROUNDER).to_bits() as i32 - ROUNDER.to_bits() as i32
}

/// Writes the codes of a row; returns their sum.
#[inline(always)]
fn round_row(row: &[f32], codes: &mut [i8], scale: f32, zero: i32, least: i32) -> i32 {
    let mut sum = 0_i32;
    for (code, &value) in codes.iter_mut().zip(row) {
        // A subnormal scale can be so coarse that the quotient leaves the grid.
        let quotient = (value / scale).clamp(-256.0, 256.0);
        let rounded = (round(quotient) + zero).clamp(least, 127);
        *code = rounded as i8;
        sum = sum.wrapping_add(rounded);
    }
    sum
}

#[cfg(test)]
mod tests;
