//! AVX2 with FMA: tiles of 6 rows by 16 columns, twelve accumulators of sixteen registers.

use std::arch::x86_64::*;

use half::f16;

use super::avx2_integer::{int8_panels, int8_rows};
use super::vector_256::operations_of_256_bits;
use crate::arch::witness::ran;
use crate::arch::{LeftBlock, Simd, Vectorized, with_rows};
use crate::pack::panel;
use crate::{Isa, Width};

/// Proof that AVX2, FMA and F16C are available.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

pub(super) const LANES: usize = 16;

impl Avx2 {
    pub(crate) fn detect() -> Option<Avx2> {
        let available = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        available.then_some(Avx2(()))
    }
}

impl Simd for Avx2 {
    const ISA: Isa = Isa::Avx2;
    operations_of_256_bits!();

    fn vectorize<T: Vectorized>(self, task: T) -> T::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn run<T: Vectorized>(simd: Avx2, task: T) -> T::Output {
            ran!("avx2 code");
            task.run(simd)
        }
        // SAFETY: the token `self` exists only where `detect` found avx2, fma and f16c.
        unsafe { run(self, task) }
    }

    fn int8_words(width: Width) -> usize {
        if width == Width::Eight { 2 } else { 1 }
    }

    fn multiplies_stored_bytes() -> bool {
        false
    }

    fn expand_int8(self, width: Width, words: &[u32], out: &mut [u32]) {
        // SAFETY: the token `self` exists only where `detect` found avx2.
        unsafe { expand_int8(width, words, out) }
    }

    #[inline(always)]
    fn int8_panels(self, left: LeftBlock<'_, u32>, panels: &[u32], sums: &mut [i32]) {
        let stride = left.packed.len() / left.per_row * LANES;
        for (index, left_tile) in left.tiles().enumerate() {
            let sums = &mut sums[index * left.tile_rows * LANES..];
            let rows = left_tile.len() / left.per_row;
            // SAFETY: the token `self` exists only where `detect` found avx2.
            unsafe { int8_panels(rows, left_tile, panels, sums, stride) }
        }
    }

    fn int8_tile(
        self,
        rows: usize,
        width: Width,
        left: &[u32],
        right: &[u32],
        sums: &mut [i32],
        start: bool,
    ) {
        // SAFETY: the token `self` exists only where `detect` found avx2.
        unsafe { int8_rows(rows, width, left, right, sums, start) }
    }
}

#[inline]
#[target_feature(enable = "avx,f16c")]
pub(super) fn narrow(values: &[f32], out: &mut [f16]) {
    let count = values.len().min(out.len());
    let (chunks, rest) = values[..count].as_chunks::<8>();
    let (out_chunks, out_rest) = out[..count].as_chunks_mut::<8>();
    for (values, out) in chunks.iter().zip(out_chunks) {
        // SAFETY: `values` has 8 floats and `out` 8 numbers of 16 bits; neither access needs alignment.
        unsafe {
            let rounded =
                _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(values.as_ptr()));
            _mm_storeu_si128(out.as_mut_ptr().cast(), rounded);
        }
    }
    for (value, out) in rest.iter().zip(out_rest) {
        *out = f16::from_f32(*value);
    }
}

#[inline]
#[target_feature(enable = "avx,f16c")]
pub(super) fn widen(values: &[f16], out: &mut [f32]) {
    let count = values.len().min(out.len());
    let (chunks, rest) = values[..count].as_chunks::<8>();
    let (out_chunks, out_rest) = out[..count].as_chunks_mut::<8>();
    for (values, out) in chunks.iter().zip(out_chunks) {
        // SAFETY: `values` has 8 numbers of 16 bits and `out` 8 floats; neither access needs alignment.
        unsafe {
            let widened = _mm256_cvtph_ps(_mm_loadu_si128(values.as_ptr().cast()));
            _mm256_storeu_ps(out.as_mut_ptr(), widened);
        }
    }
    for (value, out) in rest.iter().zip(out_rest) {
        *out = value.to_f32();
    }
}

// Not inlined: as arguments of their own, the two slices are known not to overlap.
#[inline(never)]
#[target_feature(enable = "avx2")]
pub(super) fn expand_f32(width: Width, words: &[u32], out: &mut [f32]) {
    panel::expand_f32::<LANES>(width, words, out);
}

#[inline(never)]
#[target_feature(enable = "avx2")]
fn expand_int8(width: Width, words: &[u32], out: &mut [u32]) {
    if width == Width::Eight {
        panel::expand_pairs::<LANES>(words, out);
    } else {
        panel::expand_bytes::<LANES>(width, words, out);
    }
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn f32_rows(rows: usize, left: &[f32], right: &[f32], sums: &mut [f32], start: bool) {
    with_rows!(rows, [1 2 3 4 5 6], f32_tile(left, right, sums, start));
}

#[target_feature(enable = "avx2,fma")]
fn f32_tile<const ROWS: usize>(left: &[f32], right: &[f32], sums: &mut [f32], start: bool) {
    ran!("avx2 f32");
    let (left, _) = left.as_chunks::<ROWS>();
    let (right, _) = right.as_chunks::<LANES>();
    let (sums, _) = sums.as_chunks_mut::<LANES>();
    let sums = &mut sums[..ROWS];
    let mut totals = [[_mm256_setzero_ps(); 2]; ROWS];
    if !start {
        for (totals, sums) in totals.iter_mut().zip(&*sums) {
            *totals = load_f32(sums);
        }
    }
    for (left, right) in left.iter().zip(right) {
        let right = load_f32(right);
        for (totals, &left) in totals.iter_mut().zip(left) {
            let left = _mm256_set1_ps(left);
            totals[0] = _mm256_fmadd_ps(left, right[0], totals[0]);
            totals[1] = _mm256_fmadd_ps(left, right[1], totals[1]);
        }
    }
    for (totals, sums) in totals.iter().zip(sums) {
        store_f32(sums, *totals);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_f32(values: &[f32; LANES]) -> [__m256; 2] {
    let start = values.as_ptr();
    // SAFETY: `values` has 16 elements, two vectors of 8; the loads need no alignment.
    unsafe { [_mm256_loadu_ps(start), _mm256_loadu_ps(start.add(8))] }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_f32(values: &mut [f32; LANES], vectors: [__m256; 2]) {
    let start = values.as_mut_ptr();
    // SAFETY: `values` has 16 elements, two vectors of 8; the stores need no alignment.
    unsafe {
        _mm256_storeu_ps(start, vectors[0]);
        _mm256_storeu_ps(start.add(8), vectors[1]);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_u32(values: &[u32; LANES]) -> [__m256i; 2] {
    let start = values.as_ptr().cast::<__m256i>();
    // SAFETY: `values` has 16 elements, two vectors of 8; the loads need no alignment.
    unsafe { [_mm256_loadu_si256(start), _mm256_loadu_si256(start.add(1))] }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_i32(values: &[i32; LANES]) -> [__m256i; 2] {
    let start = values.as_ptr().cast::<__m256i>();
    // SAFETY: `values` has 16 elements, two vectors of 8; the loads need no alignment.
    unsafe { [_mm256_loadu_si256(start), _mm256_loadu_si256(start.add(1))] }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store_i32(values: &mut [i32; LANES], vectors: [__m256i; 2]) {
    let start = values.as_mut_ptr().cast::<__m256i>();
    // SAFETY: `values` has 16 elements, two vectors of 8; the stores need no alignment.
    unsafe {
        _mm256_storeu_si256(start, vectors[0]);
        _mm256_storeu_si256(start.add(1), vectors[1]);
    }
}
