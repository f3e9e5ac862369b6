//! Sums, extremes and codes of a row of floats. The compiler takes the lanes of such sums apart, and puts codes in order
//! more often than once.

use std::arch::x86_64::*;

use super::exponentials::sum_of_even_lanes;
use crate::activations::round_codes;
use crate::ops::{Extremes, SUM_LANES};

/// [`sum_lanes`](crate::ops::sum_lanes).
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn sum_lanes_512(chunks: &[[f32; SUM_LANES]]) -> [f32; SUM_LANES] {
    let mut sums = [_mm512_setzero_ps(); SUM_LANES / 16];
    for chunk in chunks {
        for (sum, values) in sums.iter_mut().zip(chunk.as_chunks().0) {
            *sum = _mm512_add_ps(*sum, load_512(values));
        }
    }
    store_512(sums)
}

/// [`square_lanes`](crate::ops::square_lanes).
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn square_lanes_512(chunks: &[[f32; SUM_LANES]], middle: f32) -> [f32; SUM_LANES] {
    let middle = _mm512_set1_ps(middle);
    let mut sums = [_mm512_setzero_ps(); SUM_LANES / 16];
    for chunk in chunks {
        for (sum, values) in sums.iter_mut().zip(chunk.as_chunks().0) {
            let distance = _mm512_sub_ps(load_512(values), middle);
            *sum = _mm512_add_ps(*sum, _mm512_mul_ps(distance, distance));
        }
    }
    store_512(sums)
}

/// [`add_lanes`](crate::ops::add_lanes).
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn add_lanes_512(lanes: &[f32; SUM_LANES]) -> f32 {
    let halves = lanes.as_chunks().0;
    let lanes = _mm512_castps_pd(_mm512_add_ps(load_512(&halves[0]), load_512(&halves[1])));
    let halves = [_mm512_castpd512_pd256(lanes), _mm512_extractf64x4_pd::<1>(lanes)];
    add_eight(_mm256_add_ps(_mm256_castpd_ps(halves[0]), _mm256_castpd_ps(halves[1])))
}

/// [`extremes`](crate::ops::extremes).
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn extremes_512(row: &[f32]) -> Extremes {
    let mut bounds = [Bounds512::new(); 4];
    let (chunks, rest) = row.as_chunks::<64>();
    for chunk in chunks {
        for (bounds, values) in bounds.iter_mut().zip(chunk.as_chunks().0) {
            bounds.take(values);
        }
    }
    for (bounds, values) in bounds.iter_mut().zip(rest.chunks(16)) {
        let mut padded = [0.0; 16];
        padded[..values.len()].copy_from_slice(values);
        bounds.take(&padded);
    }
    let [a, b, c, d] = bounds;
    a.join(b).join(c.join(d)).extremes()
}

/// What is known of the numbers of each lane.
#[derive(Clone, Copy)]
struct Bounds512 {
    low: __m512,
    high: __m512,
    /// Products with zero: NaN where a number is not finite.
    zeros: __m512,
}

impl Bounds512 {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new() -> Self {
        let zero = _mm512_setzero_ps();
        Self { low: zero, high: zero, zeros: zero }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn take(&mut self, values: &[f32; 16]) {
        let values = load_512(values);
        self.low = _mm512_min_ps(self.low, values);
        self.high = _mm512_max_ps(self.high, values);
        self.zeros = _mm512_fmadd_ps(values, _mm512_setzero_ps(), self.zeros);
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn join(self, other: Self) -> Self {
        Self {
            low: _mm512_min_ps(self.low, other.low),
            high: _mm512_max_ps(self.high, other.high),
            zeros: _mm512_add_ps(self.zeros, other.zeros),
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn extremes(self) -> Extremes {
        let finite = _mm512_cmp_ps_mask::<_CMP_ORD_Q>(self.zeros, self.zeros) == u16::MAX;
        let (low, high) = (_mm512_reduce_min_ps(self.low), _mm512_reduce_max_ps(self.high));
        Extremes::checked(finite, low, high)
    }
}

/// [`round_codes`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn round_codes_512(values: &[f32], inverse: f32, zero: i32, codes: &mut [i8]) -> i32 {
    let (factor, shift) = (_mm512_set1_ps(inverse), _mm512_set1_epi32(zero));
    let (middle, one) = (_mm512_set1_epi8(i8::MIN), _mm512_set1_epi8(1));
    // Four codes to a word; words of a quarter are those of each vector in turn.
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    let (chunks, rest) = values.as_chunks::<64>();
    let (code_chunks, code_rest) = codes.as_chunks_mut::<64>();
    let mut totals = _mm512_setzero_si512();
    for (values, codes) in chunks.iter().zip(code_chunks) {
        let mut numbers = [_mm512_setzero_si512(); 4];
        for (number, values) in numbers.iter_mut().zip(values.as_chunks().0) {
            let rounded = _mm512_cvtps_epi32(_mm512_mul_ps(load_512(values), factor));
            *number = _mm512_add_epi32(rounded, shift);
        }
        // Saturated to 16 and to 8 bits.
        let [a, b, c, d] = numbers;
        let (low, high) = (_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
        let bytes = _mm512_permutexvar_epi32(order, _mm512_packs_epi16(low, high));
        totals = _mm512_dpbusd_epi32(totals, _mm512_xor_si512(bytes, middle), one);
        // SAFETY: `codes` has 64 bytes; the store needs no alignment.
        unsafe { _mm512_storeu_si512(codes.as_mut_ptr().cast(), bytes) };
    }
    let above_least = _mm512_reduce_add_epi32(totals);
    let sum = above_least.wrapping_sub((128 * 64 * chunks.len()) as i32);
    sum.wrapping_add(round_codes(rest, inverse, zero, code_rest))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_512(values: &[f32; 16]) -> __m512 {
    // SAFETY: `values` has 16 elements; the load needs no alignment.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_512(vectors: [__m512; SUM_LANES / 16]) -> [f32; SUM_LANES] {
    let mut lanes = [0.0; SUM_LANES];
    for (lanes, vector) in lanes.as_chunks_mut::<16>().0.iter_mut().zip(vectors) {
        // SAFETY: `lanes` has 16 elements; the store needs no alignment.
        unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), vector) };
    }
    lanes
}

/// [`sum_lanes`](crate::ops::sum_lanes).
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn sum_lanes_256(chunks: &[[f32; SUM_LANES]]) -> [f32; SUM_LANES] {
    let mut sums = [_mm256_setzero_ps(); SUM_LANES / 8];
    for chunk in chunks {
        for (sum, values) in sums.iter_mut().zip(chunk.as_chunks().0) {
            *sum = _mm256_add_ps(*sum, load_256(values));
        }
    }
    store_256(sums)
}

/// [`square_lanes`](crate::ops::square_lanes).
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn square_lanes_256(chunks: &[[f32; SUM_LANES]], middle: f32) -> [f32; SUM_LANES] {
    let middle = _mm256_set1_ps(middle);
    let mut sums = [_mm256_setzero_ps(); SUM_LANES / 8];
    for chunk in chunks {
        for (sum, values) in sums.iter_mut().zip(chunk.as_chunks().0) {
            let distance = _mm256_sub_ps(load_256(values), middle);
            *sum = _mm256_add_ps(*sum, _mm256_mul_ps(distance, distance));
        }
    }
    store_256(sums)
}

/// [`add_lanes`](crate::ops::add_lanes).
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn add_lanes_256(lanes: &[f32; SUM_LANES]) -> f32 {
    let quarters = lanes.as_chunks().0;
    let low = _mm256_add_ps(load_256(&quarters[0]), load_256(&quarters[2]));
    let high = _mm256_add_ps(load_256(&quarters[1]), load_256(&quarters[3]));
    add_eight(_mm256_add_ps(low, high))
}

/// Adds lanes up by halves.
#[inline]
#[target_feature(enable = "avx")]
fn add_eight(lanes: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// [`extremes`](crate::ops::extremes).
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn extremes_256(row: &[f32]) -> Extremes {
    let mut bounds = [Bounds256::new(); 4];
    let (chunks, rest) = row.as_chunks::<32>();
    for chunk in chunks {
        for (bounds, values) in bounds.iter_mut().zip(chunk.as_chunks().0) {
            bounds.take(values);
        }
    }
    for (bounds, values) in bounds.iter_mut().zip(rest.chunks(8)) {
        let mut padded = [0.0; 8];
        padded[..values.len()].copy_from_slice(values);
        bounds.take(&padded);
    }
    let [a, b, c, d] = bounds;
    a.join(b).join(c.join(d)).extremes()
}

/// What is known of the numbers of each lane.
#[derive(Clone, Copy)]
struct Bounds256 {
    low: __m256,
    high: __m256,
    /// Products with zero: NaN where a number is not finite.
    zeros: __m256,
}

impl Bounds256 {
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn new() -> Self {
        let zero = _mm256_setzero_ps();
        Self { low: zero, high: zero, zeros: zero }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn take(&mut self, values: &[f32; 8]) {
        let values = load_256(values);
        self.low = _mm256_min_ps(self.low, values);
        self.high = _mm256_max_ps(self.high, values);
        self.zeros = _mm256_fmadd_ps(values, _mm256_setzero_ps(), self.zeros);
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn join(self, other: Self) -> Self {
        Self {
            low: _mm256_min_ps(self.low, other.low),
            high: _mm256_max_ps(self.high, other.high),
            zeros: _mm256_add_ps(self.zeros, other.zeros),
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn extremes(self) -> Extremes {
        let ordered = _mm256_cmp_ps::<_CMP_ORD_Q>(self.zeros, self.zeros);
        let finite = _mm256_movemask_ps(ordered) == 0xff;
        // The sign of the lows changed, both go the same way.
        let low = _mm256_sub_ps(_mm256_setzero_ps(), self.low);
        let halves = |lanes| (_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
        let (low, high) = (halves(low), halves(self.high));
        let (low, high) = (_mm_max_ps(low.0, low.1), _mm_max_ps(high.0, high.1));
        let both = _mm_max_ps(_mm_unpacklo_ps(low, high), _mm_unpackhi_ps(low, high));
        let both = _mm_max_ps(both, _mm_movehl_ps(both, both));
        let high = _mm_cvtss_f32(_mm_movehdup_ps(both));
        Extremes::checked(finite, -_mm_cvtss_f32(both), high)
    }
}

/// [`round_codes`].
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn round_codes_256(values: &[f32], inverse: f32, zero: i32, codes: &mut [i8]) -> i32 {
    let (factor, shift) = (_mm256_set1_ps(inverse), _mm256_set1_epi32(zero));
    let middle = _mm256_set1_epi8(i8::MIN);
    // Four codes to a word; words of a half are those of each vector in turn.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let (chunks, rest) = values.as_chunks::<32>();
    let (code_chunks, code_rest) = codes.as_chunks_mut::<32>();
    let mut totals = _mm256_setzero_si256();
    for (values, codes) in chunks.iter().zip(code_chunks) {
        let mut numbers = [_mm256_setzero_si256(); 4];
        for (number, values) in numbers.iter_mut().zip(values.as_chunks().0) {
            let rounded = _mm256_cvtps_epi32(_mm256_mul_ps(load_256(values), factor));
            *number = _mm256_add_epi32(rounded, shift);
        }
        // Saturated to 16 and to 8 bits.
        let [a, b, c, d] = numbers;
        let (low, high) = (_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        let bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
        let sums = _mm256_sad_epu8(_mm256_xor_si256(bytes, middle), _mm256_setzero_si256());
        totals = _mm256_add_epi32(totals, sums);
        // SAFETY: `codes` has 32 bytes; the store needs no alignment.
        unsafe { _mm256_storeu_si256(codes.as_mut_ptr().cast(), bytes) };
    }
    let above_least = sum_of_even_lanes(totals);
    let sum = above_least.wrapping_sub((128 * 32 * chunks.len()) as i32);
    sum.wrapping_add(round_codes(rest, inverse, zero, code_rest))
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_256(values: &[f32; 8]) -> __m256 {
    // SAFETY: `values` has 8 elements; the load needs no alignment.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_256(vectors: [__m256; SUM_LANES / 8]) -> [f32; SUM_LANES] {
    let mut lanes = [0.0; SUM_LANES];
    for (lanes, vector) in lanes.as_chunks_mut::<8>().0.iter_mut().zip(vectors) {
        // SAFETY: `lanes` has 8 elements; the store needs no alignment.
        unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), vector) };
    }
    lanes
}
