//! Operands and sums of tiles between memory and vector registers, the same in the three instruction sets.

use std::arch::aarch64::*;

use super::{LANES, VECTORS};

/// Vectors of the rows of a tile, four rows each.
pub(super) const ROW_VECTORS: usize = 2;

/// The left operand of up to 8 rows, four to a vector.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_f32_rows<const ROWS: usize>(values: &[f32; ROWS]) -> [float32x4_t; ROW_VECTORS] {
    let mut vectors = [vdupq_n_f32(0.0); ROW_VECTORS];
    let (whole, rest) = values.as_chunks::<4>();
    for (vector, values) in vectors.iter_mut().zip(whole) {
        // SAFETY: `values` has 4 elements, one vector; the load needs no alignment.
        *vector = unsafe { vld1q_f32(values.as_ptr()) };
    }
    if !rest.is_empty() {
        let mut last = [0.0; 4];
        last[..rest.len()].copy_from_slice(rest);
        // SAFETY: `last` has 4 elements, one vector; the load needs no alignment.
        vectors[whole.len()] = unsafe { vld1q_f32(last.as_ptr()) };
    }
    vectors
}

/// The left operand of up to 8 rows, four to a vector.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_i8_rows<const ROWS: usize>(words: &[u32; ROWS]) -> [int8x16_t; ROW_VECTORS] {
    let mut vectors = [vdupq_n_s8(0); ROW_VECTORS];
    let (whole, rest) = words.as_chunks::<4>();
    for (vector, words) in vectors.iter_mut().zip(whole) {
        // SAFETY: `words` has 16 bytes, one vector; the load needs no alignment.
        *vector = unsafe { vld1q_s8(words.as_ptr().cast()) };
    }
    if !rest.is_empty() {
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        // SAFETY: `last` has 16 bytes, one vector; the load needs no alignment.
        vectors[whole.len()] = unsafe { vld1q_s8(last.as_ptr().cast()) };
    }
    vectors
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_f32(values: &[f32; LANES]) -> [float32x4_t; VECTORS] {
    let mut vectors = [vdupq_n_f32(0.0); VECTORS];
    for (vector, values) in vectors.iter_mut().zip(values.as_chunks::<4>().0) {
        // SAFETY: `values` has 4 elements, one vector; the load needs no alignment.
        *vector = unsafe { vld1q_f32(values.as_ptr()) };
    }
    vectors
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn store_f32(values: &mut [f32; LANES], vectors: [float32x4_t; VECTORS]) {
    for (values, vector) in values.as_chunks_mut::<4>().0.iter_mut().zip(vectors) {
        // SAFETY: `values` has 4 elements, one vector; the store needs no alignment.
        unsafe { vst1q_f32(values.as_mut_ptr(), vector) };
    }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_i32(values: &[i32; LANES]) -> [int32x4_t; VECTORS] {
    let mut vectors = [vdupq_n_s32(0); VECTORS];
    for (vector, values) in vectors.iter_mut().zip(values.as_chunks::<4>().0) {
        // SAFETY: `values` has 4 elements, one vector; the load needs no alignment.
        *vector = unsafe { vld1q_s32(values.as_ptr()) };
    }
    vectors
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn store_i32(values: &mut [i32; LANES], vectors: [int32x4_t; VECTORS]) {
    for (values, vector) in values.as_chunks_mut::<4>().0.iter_mut().zip(vectors) {
        // SAFETY: `values` has 4 elements, one vector; the store needs no alignment.
        unsafe { vst1q_s32(values.as_mut_ptr(), vector) };
    }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_i8(words: &[u32; LANES]) -> [int8x16_t; VECTORS] {
    let mut vectors = [vdupq_n_s8(0); VECTORS];
    for (vector, words) in vectors.iter_mut().zip(words.as_chunks::<4>().0) {
        // SAFETY: `words` has 16 bytes, one vector; the load needs no alignment.
        *vector = unsafe { vld1q_s8(words.as_ptr().cast()) };
    }
    vectors
}
