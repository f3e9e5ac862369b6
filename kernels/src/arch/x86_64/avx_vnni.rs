//! AVX2 with AVX-VNNI: the tiles of AVX2, integer products with the 256-bit `vpdpbusd`.

use std::arch::x86_64::*;

use half::f16;

use super::avx2::{Avx2, expand_f32, f32_rows, load_i32, load_u32, narrow, store_i32, widen};
use super::exponentials::exponentials_256;
use super::fetch::fetch;
use super::gelu::gelu_coarse_256;
use super::rounding::{round_products_256, round_to_grid_256};
use super::rows::{add_lanes_256, extremes_256, round_codes_256, square_lanes_256, sum_lanes_256};
use crate::arch::witness::ran;
use crate::arch::{Simd, Vectorized, with_rows};
use crate::ops::exponentials::ScoreRow;
use crate::ops::{Extremes, SUM_LANES};
use crate::pack::panel;
use crate::{Isa, Width};

/// Proof that AVX-VNNI (and AVX2, FMA, F16C) are available.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AvxVnni(());

const LANES: usize = Avx2::LANES;

impl AvxVnni {
    pub(crate) fn detect() -> Option<AvxVnni> {
        (Avx2::detect().is_some() && is_x86_feature_detected!("avxvnni")).then_some(AvxVnni(()))
    }
}

impl Simd for AvxVnni {
    const ISA: Isa = Isa::AvxVnni;
    const FUSED: bool = true;
    const LANES: usize = LANES;
    const F32_ROWS: usize = 6;
    const INT8_ROWS: usize = 6;

    #[inline(always)]
    fn fetch(self, words: &[u32]) {
        fetch(words);
    }

    fn vectorize<T: Vectorized>(self, task: T) -> T::Output {
        #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
        fn run<T: Vectorized>(simd: AvxVnni, task: T) -> T::Output {
            ran!("avxvnni code");
            task.run(simd)
        }
        // SAFETY: the token `self` exists only where `detect` found avx2, fma, f16c and avxvnni.
        unsafe { run(self, task) }
    }

    #[inline(always)]
    fn gelu_coarse(self, values: &mut [f32]) {
        // SAFETY: the token `self` exists only where `detect` found avx2 and fma.
        unsafe { gelu_coarse_256::<Self>(values) }
    }

    #[inline(always)]
    fn narrow(self, values: &[f32], out: &mut [f16]) {
        // SAFETY: the token `self` exists only where `detect` found avx and f16c.
        unsafe { narrow(values, out) }
    }

    #[inline(always)]
    fn widen(self, values: &[f16], out: &mut [f32]) {
        // SAFETY: the token `self` exists only where `detect` found avx and f16c.
        unsafe { widen(values, out) }
    }

    #[inline(always)]
    fn sum_lanes(self, chunks: &[[f32; SUM_LANES]]) -> [f32; SUM_LANES] {
        // SAFETY: the token `self` exists only where `detect` found avx2.
        unsafe { sum_lanes_256(chunks) }
    }

    #[inline(always)]
    fn square_lanes(self, chunks: &[[f32; SUM_LANES]], middle: f32) -> [f32; SUM_LANES] {
        // SAFETY: the token `self` exists only where `detect` found avx2.
        unsafe { square_lanes_256(chunks, middle) }
    }

    #[inline(always)]
    fn add_lanes(self, lanes: &[f32; SUM_LANES]) -> f32 {
        // SAFETY: the token `self` exists only where `detect` found avx2.
        unsafe { add_lanes_256(lanes) }
    }

    #[inline(always)]
    fn extremes(self, row: &[f32]) -> Extremes {
        // SAFETY: the token `self` exists only where `detect` found avx2 and fma.
        unsafe { extremes_256(row) }
    }

    #[inline(always)]
    fn round_codes(self, values: &[f32], inverse: f32, zero: i32, codes: &mut [i8]) -> i32 {
        // SAFETY: the token `self` exists only where `detect` found avx2.
        unsafe { round_codes_256(values, inverse, zero, codes) }
    }

    #[inline(always)]
    fn round_products(self, values: &[f16], factors: &[f32], codes: &mut [i8]) {
        // SAFETY: the token `self` exists only where `detect` found avx2 and f16c.
        unsafe { round_products_256(values, factors, codes) }
    }

    #[inline(always)]
    fn round_to_grid(self, values: &[f16], factors: &[f32], codes: &mut [i8]) -> f32 {
        // SAFETY: the token `self` exists only where `detect` found avx2 and f16c.
        unsafe { round_to_grid_256(values, factors, codes) }
    }

    #[inline(always)]
    fn exponentials(self, row: &ScoreRow<'_>, codes: &mut [i8]) -> i32 {
        // SAFETY: the token `self` exists only where `detect` found avx2 and fma.
        unsafe { exponentials_256::<Self>(row, codes) }
    }

    fn expand_f32(self, width: Width, words: &[u32], out: &mut [f32]) {
        // SAFETY: the token `self` exists only where `detect` found avx2.
        unsafe { expand_f32(width, words, out) }
    }

    fn expand_int8(self, width: Width, words: &[u32], out: &mut [u32]) {
        // SAFETY: the token `self` exists only where `detect` found avx2.
        unsafe { expand_int8(width, words, out) }
    }

    fn f32_tile(self, rows: usize, left: &[f32], right: &[f32], sums: &mut [f32], start: bool) {
        // SAFETY: the token `self` exists only where `detect` found avx2 and fma.
        unsafe { f32_rows(rows, left, right, sums, start) }
    }

    fn int8_tile(
        self,
        rows: usize,
        _: Width,
        left: &[u32],
        right: &[u32],
        sums: &mut [i32],
        start: bool,
    ) {
        // SAFETY: the token `self` exists only where `detect` found avx2 and avxvnni.
        unsafe { int8_rows(rows, left, right, sums, start) }
    }
}

// Not inlined: as arguments of their own, the two slices are known not to overlap.
#[inline(never)]
#[target_feature(enable = "avx2")]
fn expand_int8(width: Width, words: &[u32], out: &mut [u32]) {
    panel::expand_bytes::<LANES>(width, words, out);
}

#[target_feature(enable = "avx2,avxvnni")]
fn int8_rows(rows: usize, left: &[u32], right: &[u32], sums: &mut [i32], start: bool) {
    with_rows!(rows, [1 2 3 4 5 6], int8_tile(left, right, sums, start));
}

#[target_feature(enable = "avx2,avxvnni")]
fn int8_tile<const ROWS: usize>(left: &[u32], right: &[u32], sums: &mut [i32], start: bool) {
    ran!("avxvnni int8");
    let (left, _) = left.as_chunks::<ROWS>();
    let (right, _) = right.as_chunks::<LANES>();
    let (sums, _) = sums.as_chunks_mut::<LANES>();
    let sums = &mut sums[..ROWS];
    let mut totals = [[_mm256_setzero_si256(); 2]; ROWS];
    if !start {
        for (totals, sums) in totals.iter_mut().zip(&*sums) {
            *totals = load_i32(sums);
        }
    }
    for (left, right) in left.iter().zip(right) {
        let right = load_u32(right);
        for (totals, &left) in totals.iter_mut().zip(left) {
            let left = _mm256_set1_epi32(left as i32);
            totals[0] = _mm256_dpbusd_avx_epi32(totals[0], right[0], left);
            totals[1] = _mm256_dpbusd_avx_epi32(totals[1], right[1], left);
        }
    }
    for (totals, sums) in totals.iter().zip(sums) {
        store_i32(sums, *totals);
    }
}
