//! Rounding of queries and keys: a row of a head is a few vectors, too short for the loops that the compiler makes.

use std::arch::x86_64::*;

use half::f16;

use super::exponentials::reduce_max_256;
use crate::activations::{BLOCK, CODE_SUM_LANES};
use crate::ops::rounding::symmetric_grid;

/// [`round_block`](crate::activations::round_block).
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,f16c")]
pub(super) fn round_block_512(
    values: &[f16; BLOCK],
    inverse: f32,
    zero: i32,
    codes: &mut [i8; BLOCK],
    sums: &mut [i32; CODE_SUM_LANES],
) {
    let (factor, shift) = (_mm512_set1_ps(inverse), _mm512_set1_epi16(zero as i16));
    let mut numbers = [_mm512_setzero_si512(); 4];
    for (number, values) in numbers.iter_mut().zip(values.as_chunks::<16>().0) {
        // SAFETY: `values` has 16 numbers of 16 bits; the load needs no alignment.
        let value = unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(values.as_ptr().cast())) };
        *number = _mm512_cvtps_epi32(_mm512_mul_ps(value, factor));
    }
    // Saturated to 16 bits, which products do not need, and with the zero to 8.
    let [a, b, c, d] = numbers;
    let low = _mm512_adds_epi16(_mm512_packs_epi32(a, b), shift);
    let high = _mm512_adds_epi16(_mm512_packs_epi32(c, d), shift);
    let bytes = _mm512_permutexvar_epi32(word_order_512(), _mm512_packs_epi16(low, high));
    // The unsigned operand is one, the codes are the signed one.
    let one = _mm512_set1_epi8(1);
    // SAFETY: `codes` has 64 bytes and `sums` 16 words; no access needs alignment.
    unsafe {
        _mm512_storeu_si512(codes.as_mut_ptr().cast(), bytes);
        let total = _mm512_loadu_si512(sums.as_ptr().cast());
        let total = _mm512_dpbusd_epi32(total, one, bytes);
        _mm512_storeu_si512(sums.as_mut_ptr().cast(), total);
    }
}

/// [`round_products`](crate::ops::rounding::round_products) of `factors` padded to whole chunks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,f16c")]
pub(super) fn round_products_512(values: &[f16], factors: &[f32], codes: &mut [i8]) {
    let one = _mm512_set1_ps(1.0);
    for (index, codes) in codes.as_chunks_mut::<64>().0.iter_mut().enumerate() {
        store_codes_512(products_512(values, factors, index), one, codes);
    }
}

/// [`round_to_grid`](crate::ops::rounding::round_to_grid) of `factors` padded to whole chunks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,f16c")]
pub(super) fn round_to_grid_512(values: &[f16], factors: &[f32], codes: &mut [i8]) -> f32 {
    let (codes, _) = codes.as_chunks_mut::<64>();
    let mut largest = _mm512_setzero_si512();
    for index in 0..codes.len() {
        for product in products_512(values, factors, index) {
            largest = _mm512_max_epi32(largest, _mm512_castps_si512(_mm512_abs_ps(product)));
        }
    }
    let largest = f32::from_bits(_mm512_reduce_max_epi32(largest) as u32);
    let (scale, inverse) = symmetric_grid(largest);
    for (index, codes) in codes.iter_mut().enumerate() {
        store_codes_512(products_512(values, factors, index), _mm512_set1_ps(inverse), codes);
    }
    scale
}

/// Values of a chunk, zeros beyond the last, times their factors.
#[inline]
#[target_feature(enable = "avx512f,f16c")]
fn products_512(values: &[f16], factors: &[f32], index: usize) -> [__m512; 4] {
    let mut padded = [f16::ZERO; 64];
    let (values, _) = chunk(values, index, &mut padded).as_chunks::<16>();
    let (factors, _) = factors[index * 64..][..64].as_chunks::<16>();
    let mut products = [_mm512_setzero_ps(); 4];
    for ((product, values), factors) in products.iter_mut().zip(values).zip(factors) {
        // SAFETY: `values` has 16 numbers of 16 bits and `factors` 16 floats; the loads need no alignment.
        let (value, factor) = unsafe {
            (_mm256_loadu_si256(values.as_ptr().cast()), _mm512_loadu_ps(factors.as_ptr()))
        };
        *product = _mm512_mul_ps(_mm512_cvtph_ps(value), factor);
    }
    products
}

/// Rounds numbers of magnitude at most 127, after multiplying them by a factor.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store_codes_512(numbers: [__m512; 4], factor: __m512, codes: &mut [i8; 64]) {
    let [a, b, c, d] = numbers;
    let low = _mm512_packs_epi32(
        _mm512_cvtps_epi32(_mm512_mul_ps(a, factor)),
        _mm512_cvtps_epi32(_mm512_mul_ps(b, factor)),
    );
    let high = _mm512_packs_epi32(
        _mm512_cvtps_epi32(_mm512_mul_ps(c, factor)),
        _mm512_cvtps_epi32(_mm512_mul_ps(d, factor)),
    );
    let bytes = _mm512_permutexvar_epi32(word_order_512(), _mm512_packs_epi16(low, high));
    // SAFETY: `codes` has 64 bytes; the store needs no alignment.
    unsafe { _mm512_storeu_si512(codes.as_mut_ptr().cast(), bytes) };
}

/// Which words of four vectors, packed to bytes by pairs, follow one another: words of a quarter are those of each vector in
/// turn, four codes to a word.
#[inline]
#[target_feature(enable = "avx512f")]
fn word_order_512() -> __m512i {
    _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)
}

/// [`round_products`](crate::ops::rounding::round_products) of `factors` padded to whole chunks.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn round_products_256(values: &[f16], factors: &[f32], codes: &mut [i8]) {
    let one = _mm256_set1_ps(1.0);
    for (index, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        store_codes_256(products_256(values, factors, index), one, codes);
    }
}

/// [`round_to_grid`](crate::ops::rounding::round_to_grid) of `factors` padded to whole chunks.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn round_to_grid_256(values: &[f16], factors: &[f32], codes: &mut [i8]) -> f32 {
    let (codes, _) = codes.as_chunks_mut::<32>();
    let magnitude = _mm256_set1_epi32(i32::MAX);
    let mut largest = _mm256_setzero_si256();
    for index in 0..codes.len() {
        for product in products_256(values, factors, index) {
            let bits = _mm256_and_si256(_mm256_castps_si256(product), magnitude);
            largest = _mm256_max_epi32(largest, bits);
        }
    }
    let (scale, inverse) = symmetric_grid(f32::from_bits(reduce_max_256(largest) as u32));
    for (index, codes) in codes.iter_mut().enumerate() {
        store_codes_256(products_256(values, factors, index), _mm256_set1_ps(inverse), codes);
    }
    scale
}

/// Values of a chunk, zeros beyond the last, times their factors.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn products_256(values: &[f16], factors: &[f32], index: usize) -> [__m256; 4] {
    let mut padded = [f16::ZERO; 32];
    let (values, _) = chunk(values, index, &mut padded).as_chunks::<8>();
    let (factors, _) = factors[index * 32..][..32].as_chunks::<8>();
    let mut products = [_mm256_setzero_ps(); 4];
    for ((product, values), factors) in products.iter_mut().zip(values).zip(factors) {
        // SAFETY: `values` has 8 numbers of 16 bits and `factors` 8 floats; the loads need no alignment.
        let (value, factor) =
            unsafe { (_mm_loadu_si128(values.as_ptr().cast()), _mm256_loadu_ps(factors.as_ptr())) };
        *product = _mm256_mul_ps(_mm256_cvtph_ps(value), factor);
    }
    products
}

/// Rounds numbers of magnitude at most 127, after multiplying them by a factor.
#[inline]
#[target_feature(enable = "avx2")]
fn store_codes_256(numbers: [__m256; 4], factor: __m256, codes: &mut [i8; 32]) {
    let [a, b, c, d] = numbers;
    let low = _mm256_packs_epi32(
        _mm256_cvtps_epi32(_mm256_mul_ps(a, factor)),
        _mm256_cvtps_epi32(_mm256_mul_ps(b, factor)),
    );
    let high = _mm256_packs_epi32(
        _mm256_cvtps_epi32(_mm256_mul_ps(c, factor)),
        _mm256_cvtps_epi32(_mm256_mul_ps(d, factor)),
    );
    // Four codes to a word; words of a half are those of each vector in turn.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
    // SAFETY: `codes` has 32 bytes; the store needs no alignment.
    unsafe { _mm256_storeu_si256(codes.as_mut_ptr().cast(), bytes) };
}

/// `N` values from `index * N` on, in `padded`, which holds zeros, where there are fewer.
#[inline(always)]
fn chunk<'a, const N: usize>(
    values: &'a [f16],
    index: usize,
    padded: &'a mut [f16; N],
) -> &'a [f16; N] {
    let values = values.get(index * N..).unwrap_or_default();
    match values.first_chunk::<N>() {
        Some(values) => values,
        None => {
            padded[..values.len()].copy_from_slice(values);
            padded
        }
    }
}
