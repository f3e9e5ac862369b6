//! Rounding of queries and keys: a row of a head is a few vectors, too short for the loops that the compiler makes.

use std::arch::x86_64::*;

use half::f16;

use crate::ops::rounding::symmetric_grid;

/// Numbers rounded at once, and bytes of a vector.
const CHUNK: usize = 64;

/// [`round_products`](crate::ops::rounding::round_products) of `factors` padded to whole chunks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,f16c")]
pub(super) fn round_products_512(values: &[f16], factors: &[f32], codes: &mut [i8]) {
    let one = _mm512_set1_ps(1.0);
    for (index, codes) in codes.as_chunks_mut::<CHUNK>().0.iter_mut().enumerate() {
        store_codes(products(values, factors, index), one, codes);
    }
}

/// [`round_to_grid`](crate::ops::rounding::round_to_grid) of `factors` padded to whole chunks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,f16c")]
pub(super) fn round_to_grid_512(values: &[f16], factors: &[f32], codes: &mut [i8]) -> f32 {
    let (codes, _) = codes.as_chunks_mut::<CHUNK>();
    let mut largest = _mm512_setzero_si512();
    for index in 0..codes.len() {
        for product in products(values, factors, index) {
            largest = _mm512_max_epi32(largest, _mm512_castps_si512(_mm512_abs_ps(product)));
        }
    }
    let largest = f32::from_bits(_mm512_reduce_max_epi32(largest) as u32);
    let (scale, inverse) = symmetric_grid(largest);
    for (index, codes) in codes.iter_mut().enumerate() {
        store_codes(products(values, factors, index), _mm512_set1_ps(inverse), codes);
    }
    scale
}

/// Values of a chunk, zeros beyond the last, times their factors.
#[inline]
#[target_feature(enable = "avx512f,f16c")]
fn products(values: &[f16], factors: &[f32], index: usize) -> [__m512; 4] {
    let values = values.get(index * CHUNK..).unwrap_or_default();
    let factors = &factors[index * CHUNK..][..CHUNK];
    let mut padded = [f16::ZERO; CHUNK];
    let values = match values.first_chunk::<CHUNK>() {
        Some(values) => values,
        None => {
            padded[..values.len()].copy_from_slice(values);
            &padded
        }
    };
    let (values, _) = values.as_chunks::<16>();
    let (factors, _) = factors.as_chunks::<16>();
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
fn store_codes(numbers: [__m512; 4], factor: __m512, codes: &mut [i8; CHUNK]) {
    let [a, b, c, d] = numbers;
    let low = _mm512_packs_epi32(
        _mm512_cvtps_epi32(_mm512_mul_ps(a, factor)),
        _mm512_cvtps_epi32(_mm512_mul_ps(b, factor)),
    );
    let high = _mm512_packs_epi32(
        _mm512_cvtps_epi32(_mm512_mul_ps(c, factor)),
        _mm512_cvtps_epi32(_mm512_mul_ps(d, factor)),
    );
    // Four codes to a word; words of a quarter are those of each vector in turn.
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    let bytes = _mm512_permutexvar_epi32(order, _mm512_packs_epi16(low, high));
    // SAFETY: `codes` has 64 bytes; the store needs no alignment.
    unsafe { _mm512_storeu_si512(codes.as_mut_ptr().cast(), bytes) };
}
