//! Rows of integer scores to probabilities of 8 bit, in 16-bit arithmetic.
//!
//! An exponent, `maximum - score` in powers of two, is a fixed-point number of 16 bits, in steps of `1 / UNITS`: a probability
//! is an integer of 8 bits, to which a relative error of 2^-12 is nothing, and 16 bits are twice the lanes of a float. Its fraction
//! goes through a polynomial, its integer shifts the result. Every step is an operation that vector instructions have, with
//! the same result on all of them.

use crate::arch::{Simd, one_at_a_time};
use crate::ops::math::mul_add;

/// Binary digits of an exponent after the point.
pub(crate) const FRACTION_BITS: u32 = 11;

/// Steps of an exponent in a power of two.
pub(super) const UNITS: f32 = (1 << FRACTION_BITS) as f32;

/// `2^-x` on 0..=1 is `POLYNOMIAL[0] - x (POLYNOMIAL[1] - x POLYNOMIAL[2])` in steps of 2^-8 of a code, relative error 1.8e-3: less than
/// half a step of the largest probability. The first is 255 codes.
pub(crate) const POLYNOMIAL: [u16; 3] = [65_280, 43_544, 11_016];

/// Binary digits of a probability below its steps.
pub(crate) const ONE_BITS: u32 = 7;

/// Added to a probability before it is cut off, in steps of 2^-7, by token: numbers evenly spread over a step, in the order of
/// their reversed bits, so that neighbours differ. What is below half a step of the largest would all vanish otherwise, which
/// is most of a row where attention is sharp; so one token in so many keeps a step, and sums over tokens stay right.
pub(crate) const DITHER: [u16; DITHERED] = {
    let mut dither = [0; DITHERED];
    let mut token = 0;
    while token < DITHERED {
        let reversed = (token as u32).reverse_bits() >> (u32::BITS - DITHERED.trailing_zeros());
        dither[token] = (reversed as u16 * 2 + 1) * ((1 << ONE_BITS) / (2 * DITHERED as u16));
        token += 1;
    }
    dither
};

/// Tokens after which [`DITHER`] repeats.
pub(crate) const DITHERED: usize = 32;

/// The scores of one query, as sums of products lie.
pub(crate) struct ScoreRow<'a> {
    /// From the first lane of the first panel.
    pub(super) sums: &'a [i32],
    /// Sums from one panel of keys to the next.
    pub(super) stride: usize,
    /// Keys.
    pub(crate) tokens: usize,
    /// A step of the scores in steps of an exponent, at most [`most_factor`].
    pub(super) factor: f32,
}

impl ScoreRow<'_> {
    /// The scores of each panel of keys; anything in lanes without a key.
    #[inline(always)]
    pub(crate) fn panels<const LANES: usize>(&self) -> impl Iterator<Item = &[i32; LANES]> {
        self.sums.chunks(self.stride).filter_map(|panel| panel.first_chunk::<LANES>())
    }

    /// What makes exponents of scores, given the largest.
    #[inline(always)]
    pub(crate) fn line<S: Simd>(&self, largest: i32) -> ExponentLine {
        let offset = mul_add::<S>(largest as f32, self.factor, UNITS);
        ExponentLine { factor: -self.factor, offset: offset.next_up() }
    }
}

/// Largest factor of a row: scores differ by less than `2^15 dim`, so that exponents fit in 32 bits. A larger one belongs to
/// scores in the thousands, where rounding queries and keys has moved each by more than what is still told apart.
#[inline(always)]
pub(super) fn most_factor(dim: usize) -> f32 {
    (1 << 15) as f32 / dim as f32
}

/// An exponent is `score * factor + offset`. It is one more than it should be, [`UNITS`] for the largest score and never less,
/// so that what is shifted by it fits in 15 bits.
#[derive(Clone, Copy)]
pub(crate) struct ExponentLine {
    pub(crate) factor: f32,
    pub(crate) offset: f32,
}

/// Writes the probabilities of a row, 128 lower, and zeros to the end of the last step of the micro-kernel; returns their sum
/// without the `- 128`.
#[inline(always)]
pub(crate) fn exponentials<S: Simd, const LANES: usize>(
    row: &ScoreRow<'_>,
    codes: &mut [i8],
) -> i32 {
    let line = row.line::<S>(largest::<LANES>(row));
    let (chunks, _) = codes.as_chunks_mut::<LANES>();
    let (dither, _) = DITHER.as_chunks::<LANES>();
    for ((codes, scores), dither) in
        chunks.iter_mut().zip(row.panels::<LANES>()).zip(dither.iter().cycle())
    {
        one_at_a_time();
        for lane in 0..LANES {
            let exponent = mul_add::<S>(scores[lane] as f32, line.factor, line.offset) as i32;
            let exponent = exponent.clamp(0, i16::MAX.into()) as u16;
            codes[lane] = (probability(exponent, dither[lane]) ^ 0x80) as i8;
        }
    }
    codes[row.tokens..].fill(0);
    let sum: i32 = codes[..row.tokens].iter().map(|&code| i32::from(code)).sum();
    sum + 128 * row.tokens as i32
}

/// The largest score of a row.
#[inline(always)]
pub(crate) fn largest<const LANES: usize>(row: &ScoreRow<'_>) -> i32 {
    let whole = row.tokens / LANES;
    let mut largest = [i32::MIN; LANES];
    for scores in row.panels::<LANES>().take(whole) {
        one_at_a_time();
        for lane in 0..LANES {
            largest[lane] = largest[lane].max(scores[lane]);
        }
    }
    let largest = largest.into_iter().fold(i32::MIN, i32::max);
    largest.max(largest_beyond(row, whole * LANES, LANES))
}

/// The largest score of a row from a token on, the first of the last panel.
#[inline(always)]
pub(crate) fn largest_beyond(row: &ScoreRow<'_>, first: usize, lanes: usize) -> i32 {
    let mut largest = i32::MIN;
    if first < row.tokens {
        for &score in &row.sums[first / lanes * row.stride..][..row.tokens - first] {
            largest = largest.max(score);
        }
    }
    largest
}

/// `255 * 2^(1 - exponent / UNITS) + dither`, cut off.
#[inline(always)]
fn probability(exponent: u16, dither: u16) -> u8 {
    let fraction = exponent << (u16::BITS - FRACTION_BITS);
    let [constant, linear, square] = POLYNOMIAL;
    let power = constant - upper_half(fraction, linear - upper_half(fraction, square));
    (((power >> (exponent >> FRACTION_BITS)) + dither) >> ONE_BITS) as u8
}

/// The upper 16 bits of a product.
#[inline(always)]
fn upper_half(a: u16, b: u16) -> u16 {
    ((u32::from(a) * u32::from(b)) >> 16) as u16
}
