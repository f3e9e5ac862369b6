//! Probabilities of integer attention, 16 bits to a lane: the compiler would keep each of them in 32.

use std::arch::x86_64::*;

use super::avx2::load_i32;
use crate::arch::Simd;
use crate::ops::exponentials::{
    DITHER, DITHERED, ExponentLine, FRACTION_BITS, ONE_BITS, POLYNOMIAL, ScoreRow, largest_beyond,
};

/// [`exponentials`](crate::ops::exponentials::exponentials) for panels of 32 lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn exponentials_512<S: Simd>(row: &ScoreRow<'_>, codes: &mut [i8]) -> i32 {
    let line = row.line::<S>(largest_512(row));
    let (chunks, _) = codes.as_chunks_mut::<64>();
    let mut panels = row.panels::<32>();
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    let one = _mm512_set1_epi8(1);
    let mut totals = _mm512_setzero_si512();
    let mut left = row.tokens;
    for codes in chunks {
        let Some(first) = panels.next() else { break };
        let first = probabilities_512(first, line);
        let second = match panels.next() {
            Some(second) => probabilities_512(second, line),
            None => _mm512_setzero_si512(),
        };
        // Four tokens to a word; words of a quarter are those of each half panel in turn.
        let bytes = _mm512_permutexvar_epi32(order, _mm512_packus_epi16(first, second));
        let bytes = if left < 64 { _mm512_maskz_mov_epi8((1 << left) - 1, bytes) } else { bytes };
        totals = _mm512_dpbusd_epi32(totals, bytes, one);
        let middle = _mm512_set1_epi8(i8::MIN);
        let stored = if left < 64 {
            _mm512_maskz_sub_epi8((1 << left) - 1, bytes, middle)
        } else {
            _mm512_xor_si512(bytes, middle)
        };
        // SAFETY: `codes` has 64 bytes; the store needs no alignment.
        unsafe { _mm512_storeu_si512(codes.as_mut_ptr().cast(), stored) };
        left = left.saturating_sub(64);
    }
    _mm512_reduce_add_epi32(totals)
}

/// The largest score of a row.
#[inline]
#[target_feature(enable = "avx512f")]
fn largest_512(row: &ScoreRow<'_>) -> i32 {
    let mut largest = [_mm512_set1_epi32(i32::MIN); 2];
    let mut left = row.tokens;
    for scores in row.panels::<32>() {
        let scores = load_512(scores);
        if left >= 32 {
            largest[0] = _mm512_max_epi32(largest[0], scores[0]);
            largest[1] = _mm512_max_epi32(largest[1], scores[1]);
            left -= 32;
        } else {
            let there = (1_u32 << left) - 1;
            let masks = [there as u16, (there >> 16) as u16];
            largest[0] = _mm512_mask_max_epi32(largest[0], masks[0], largest[0], scores[0]);
            largest[1] = _mm512_mask_max_epi32(largest[1], masks[1], largest[1], scores[1]);
            break;
        }
    }
    _mm512_reduce_max_epi32(_mm512_max_epi32(largest[0], largest[1]))
}

/// Probabilities of a panel in 16 bits each, in the order of [`_mm512_packs_epi32`] of its halves.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn probabilities_512(scores: &[i32; 32], line: ExponentLine) -> __m512i {
    // SAFETY: 32 numbers of 16 bits are a vector; the load needs no alignment.
    let dither = unsafe { _mm512_loadu_si512(DITHER_512.as_ptr().cast()) };
    let (factor, offset) = (_mm512_set1_ps(line.factor), _mm512_set1_ps(line.offset));
    let [low, high] = load_512(scores);
    let low = _mm512_fmadd_ps(_mm512_cvtepi32_ps(low), factor, offset);
    let high = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), factor, offset);
    let exponents = _mm512_packs_epi32(_mm512_cvttps_epi32(low), _mm512_cvttps_epi32(high));
    let fraction = _mm512_slli_epi16::<{ u16::BITS - FRACTION_BITS }>(exponents);
    let coefficient = |index: usize| _mm512_set1_epi16(POLYNOMIAL[index] as i16);
    let power = _mm512_sub_epi16(coefficient(1), _mm512_mulhi_epu16(fraction, coefficient(2)));
    let power = _mm512_sub_epi16(coefficient(0), _mm512_mulhi_epu16(fraction, power));
    let power = _mm512_srlv_epi16(power, _mm512_srli_epi16::<FRACTION_BITS>(exponents));
    _mm512_srli_epi16::<ONE_BITS>(_mm512_add_epi16(power, dither))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_512(scores: &[i32; 32]) -> [__m512i; 2] {
    let start = scores.as_ptr();
    // SAFETY: `scores` has 32 elements, two vectors of 16; the loads need no alignment.
    unsafe { [_mm512_loadu_si512(start.cast()), _mm512_loadu_si512(start.add(16).cast())] }
}

/// [`exponentials`](crate::ops::exponentials::exponentials) for panels of 16 lanes.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn exponentials_256<S: Simd>(row: &ScoreRow<'_>, codes: &mut [i8]) -> i32 {
    let line = row.line::<S>(largest_256(row));
    let (dithers, _) = DITHER_256.as_chunks::<16>();
    let (chunks, _) = codes.as_chunks_mut::<32>();
    let mut panels = row.panels::<16>();
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let zero = _mm256_setzero_si256();
    let mut totals = zero;
    let mut left = row.tokens;
    for codes in chunks {
        let Some(first) = panels.next() else { break };
        let first = probabilities_256(first, line, &dithers[0]);
        let second = match panels.next() {
            Some(second) => probabilities_256(second, line, &dithers[1]),
            None => zero,
        };
        // Four tokens to a word; words of a half are those of each half panel in turn.
        let bytes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(first, second), order);
        // SAFETY: `left.min(32)` is at most 32, so that 32 bytes follow; the load needs no alignment.
        let there = unsafe { _mm256_loadu_si256(MASKS.as_ptr().add(32 - left.min(32)).cast()) };
        let sums = _mm256_sad_epu8(_mm256_and_si256(bytes, there), zero);
        totals = _mm256_add_epi32(totals, sums);
        let stored = _mm256_xor_si256(bytes, _mm256_set1_epi8(i8::MIN));
        let stored = _mm256_and_si256(stored, there);
        // SAFETY: `codes` has 32 bytes; the store needs no alignment.
        unsafe { _mm256_storeu_si256(codes.as_mut_ptr().cast(), stored) };
        left = left.saturating_sub(32);
    }
    sum_of_even_lanes(totals)
}

/// Adds up the even lanes, where sums of bytes lie.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn sum_of_even_lanes(lanes: __m256i) -> i32 {
    let halves = _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256::<1>(lanes));
    _mm_extract_epi32::<0>(halves) + _mm_extract_epi32::<2>(halves)
}

/// The largest score of a row.
#[inline]
#[target_feature(enable = "avx2")]
fn largest_256(row: &ScoreRow<'_>) -> i32 {
    let mut largest = [_mm256_set1_epi32(i32::MIN); 2];
    let whole = row.tokens / 16;
    for scores in row.panels::<16>().take(whole) {
        let scores = load_i32(scores);
        largest[0] = _mm256_max_epi32(largest[0], scores[0]);
        largest[1] = _mm256_max_epi32(largest[1], scores[1]);
    }
    let largest = reduce_max_256(_mm256_max_epi32(largest[0], largest[1]));
    largest.max(largest_beyond(row, whole * 16, 16))
}

/// The largest lane.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn reduce_max_256(lanes: __m256i) -> i32 {
    let halves = [_mm256_castsi256_si128(lanes), _mm256_extracti128_si256::<1>(lanes)];
    let largest = _mm_max_epi32(halves[0], halves[1]);
    let largest = _mm_max_epi32(largest, _mm_shuffle_epi32::<0b01_00_11_10>(largest));
    let largest = _mm_max_epi32(largest, _mm_shuffle_epi32::<0b10_11_00_01>(largest));
    _mm_cvtsi128_si32(largest)
}

/// Probabilities of a panel in 16 bits each, in the order of [`_mm256_packs_epi32`] of its halves.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn probabilities_256(scores: &[i32; 16], line: ExponentLine, dither: &[u16; 16]) -> __m256i {
    // The bytes of `2^(16 - places)` for 1 to 15 places: the upper one of a number at `(places + 8) % 16`.
    let powers = _mm256_broadcastsi128_si256(_mm_setr_epi8(
        1,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        i8::MIN,
        64,
        32,
        16,
        8,
        4,
        2,
    ));
    // SAFETY: 16 numbers of 16 bits are a vector; the load needs no alignment.
    let dither = unsafe { _mm256_loadu_si256(dither.as_ptr().cast()) };
    let (factor, offset) = (_mm256_set1_ps(line.factor), _mm256_set1_ps(line.offset));
    let [low, high] = load_i32(scores);
    let low = _mm256_fmadd_ps(_mm256_cvtepi32_ps(low), factor, offset);
    let high = _mm256_fmadd_ps(_mm256_cvtepi32_ps(high), factor, offset);
    let exponents = _mm256_packs_epi32(_mm256_cvttps_epi32(low), _mm256_cvttps_epi32(high));
    let fraction = _mm256_slli_epi16::<{ (u16::BITS - FRACTION_BITS) as i32 }>(exponents);
    let coefficient = |index: usize| _mm256_set1_epi16(POLYNOMIAL[index] as i16);
    let power = _mm256_sub_epi16(coefficient(1), _mm256_mulhi_epu16(fraction, coefficient(2)));
    let power = _mm256_sub_epi16(coefficient(0), _mm256_mulhi_epu16(fraction, power));
    // There is no shift by lane: a product with a power of two.
    let places = _mm256_srli_epi16::<{ FRACTION_BITS as i32 }>(exponents);
    let indices = _mm256_add_epi16(
        _mm256_mullo_epi16(places, _mm256_set1_epi16(0x0101)),
        _mm256_set1_epi16(0x0800),
    );
    let power = _mm256_mulhi_epu16(power, _mm256_shuffle_epi8(powers, indices));
    _mm256_srli_epi16::<{ ONE_BITS as i32 }>(_mm256_add_epi16(power, dither))
}

/// Of the 32 from `32 - n` on, the first `n` are ones.
static MASKS: [u8; 64] = {
    let mut masks = [0; 64];
    let mut index = 0;
    while index < 32 {
        masks[index] = u8::MAX;
        index += 1;
    }
    masks
};

/// [`DITHER`] in the order of `_mm512_packs_epi32`.
static DITHER_512: [u16; DITHERED] = packed_dither::<16>();

/// [`DITHER`] in the order of `_mm256_packs_epi32`.
static DITHER_256: [u16; DITHERED] = packed_dither::<8>();

/// [`DITHER`] as vectors hold it which are packed from two of `HALF` lanes each: in turn four of either.
const fn packed_dither<const HALF: usize>() -> [u16; DITHERED] {
    let mut packed = [0; DITHERED];
    let mut index = 0;
    while index < DITHERED {
        let (vector, lane) = (index / (2 * HALF), index % (2 * HALF));
        packed[index] = DITHER[vector * 2 * HALF + lane / 8 * 4 + lane % 8 / 4 * HALF + lane % 4];
        index += 1;
    }
    packed
}
