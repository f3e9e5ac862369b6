//! GELU for results that are rounded to half precision.

use std::arch::x86_64::*;

use crate::arch::Simd;
use crate::ops::math::{GELU_COARSE, GELU_COARSE_LIMIT, gelu_erf_coarse};

/// [`gelu_erf_coarse`] of each element. It is clamped by magnitude, an operation instead of two.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn gelu_coarse_256<S: Simd>(values: &mut [f32]) {
    let (limit, half) = (_mm256_set1_ps(GELU_COARSE_LIMIT), _mm256_set1_ps(0.5));
    let sign = _mm256_set1_ps(-0.0);
    let (chunks, rest) = values.as_chunks_mut::<8>();
    for values in chunks {
        // SAFETY: `values` has 8 elements; the accesses need no alignment.
        unsafe {
            let x = _mm256_loadu_ps(values.as_ptr());
            // The second operand where either is NaN.
            let magnitude = _mm256_min_ps(limit, _mm256_andnot_ps(sign, x));
            let square = _mm256_mul_ps(magnitude, magnitude);
            let [rest @ .., last] = GELU_COARSE;
            let mut p = _mm256_set1_ps(last);
            for coefficient in rest.into_iter().rev() {
                p = _mm256_fmadd_ps(p, square, _mm256_set1_ps(coefficient));
            }
            let h = _mm256_min_ps(half, _mm256_mul_ps(magnitude, p));
            let h = _mm256_or_ps(h, _mm256_and_ps(sign, x));
            let y = _mm256_fmadd_ps(x, h, _mm256_mul_ps(half, x));
            _mm256_storeu_ps(values.as_mut_ptr(), y);
        }
    }
    for value in rest {
        *value = gelu_erf_coarse::<S>(*value);
    }
}

/// [`math::gelu_erf_coarse`](crate::ops::math::gelu_erf_coarse), the two comparisons of a clamp in one instruction. That makes
/// a number of NaN, but the last product makes it NaN again.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn gelu_coarse_512<S: Simd>(values: &mut [f32]) {
    /// The smaller magnitude, with the sign of the first.
    const CLAMP: i32 = 0b0010;
    let half = _mm512_set1_ps(0.5);
    let (chunks, rest) = values.as_chunks_mut::<16>();
    for values in chunks {
        // SAFETY: `values` has 16 elements; the accesses need no alignment.
        unsafe {
            let x = _mm512_loadu_ps(values.as_ptr());
            let clamped = _mm512_range_ps::<CLAMP>(x, _mm512_set1_ps(GELU_COARSE_LIMIT));
            let square = _mm512_mul_ps(clamped, clamped);
            let [rest @ .., last] = GELU_COARSE;
            let mut p = _mm512_set1_ps(last);
            for coefficient in rest.into_iter().rev() {
                p = _mm512_fmadd_ps(p, square, _mm512_set1_ps(coefficient));
            }
            let h = _mm512_range_ps::<CLAMP>(_mm512_mul_ps(clamped, p), half);
            let y = _mm512_fmadd_ps(x, h, _mm512_mul_ps(half, x));
            _mm512_storeu_ps(values.as_mut_ptr(), y);
        }
    }
    for value in rest {
        *value = gelu_erf_coarse::<S>(*value);
    }
}
