//! NEON with the dot product of four bytes (FEAT_DotProd, in most processors since 2018): tiles of 6 rows by 16
//! columns.
//!
//! `sdot` by element multiplies four bytes of each of four channels by the same four of a row. Its operands are both signed:
//! codes below 8 bit are signed bytes as they are, those of 8 bit lose 128, which the sum of the row's bytes makes up for.

use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};

use super::{LANES, VECTORS, neon, registers};
use crate::arch::witness::ran;
use crate::arch::{Simd, Vectorized, with_rows};
use crate::pack::panel;
use crate::{Isa, Width};

/// Proof that NEON with dot products is available.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dotprod(());

impl Dotprod {
    pub(crate) fn detect() -> Option<Dotprod> {
        let available =
            is_aarch64_feature_detected!("neon") && is_aarch64_feature_detected!("dotprod");
        available.then_some(Dotprod(()))
    }
}

impl Simd for Dotprod {
    const ISA: Isa = Isa::Dotprod;
    const FUSED: bool = true;
    const LANES: usize = LANES;
    const F32_ROWS: usize = 6;
    const INT8_ROWS: usize = 6;

    fn vectorize<T: Vectorized>(self, task: T) -> T::Output {
        #[target_feature(enable = "neon,dotprod")]
        fn run<T: Vectorized>(simd: Dotprod, task: T) -> T::Output {
            ran!("dotprod code");
            task.run(simd)
        }
        // SAFETY: the token `self` exists only where `detect` found neon and dotprod.
        unsafe { run(self, task) }
    }

    fn expand_f32(self, width: Width, words: &[u32], out: &mut [f32]) {
        // SAFETY: the token `self` exists only where `detect` found neon.
        unsafe { neon::expand_f32(width, words, out) }
    }

    fn multiplies_stored_bytes() -> bool {
        false
    }

    fn expand_int8(self, width: Width, words: &[u32], out: &mut [u32]) {
        // SAFETY: the token `self` exists only where `detect` found neon.
        unsafe { expand_int8(width, words, out) }
    }

    fn f32_tile(self, rows: usize, left: &[f32], right: &[f32], sums: &mut [f32], start: bool) {
        // SAFETY: the token `self` exists only where `detect` found neon.
        unsafe { neon::f32_rows(rows, left, right, sums, start) }
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
        // SAFETY: the token `self` exists only where `detect` found neon and dotprod.
        unsafe { int8_rows(rows, width, left, right, sums, start) }
    }
}

// Not inlined: as arguments of their own, the two slices are known not to overlap.
#[inline(never)]
#[target_feature(enable = "neon")]
fn expand_int8(width: Width, words: &[u32], out: &mut [u32]) {
    if width == Width::Eight {
        // As signed bytes: `code - 128`.
        for (out, word) in out.iter_mut().zip(words) {
            *out = word ^ 0x8080_8080;
        }
    } else {
        panel::expand_bytes::<LANES>(width, words, out);
    }
}

#[target_feature(enable = "neon,dotprod")]
fn int8_rows(
    rows: usize,
    width: Width,
    left: &[u32],
    right: &[u32],
    sums: &mut [i32],
    start: bool,
) {
    let taken = if width == Width::Eight { 128 } else { 0 };
    with_rows!(rows, [1 2 3 4 5 6], int8_tile(taken, left, right, sums, start));
}

/// `taken` is what `expand_int8` took from each code.
#[target_feature(enable = "neon,dotprod")]
fn int8_tile<const ROWS: usize>(
    taken: i32,
    left: &[u32],
    right: &[u32],
    sums: &mut [i32],
    start: bool,
) {
    ran!("dotprod int8");
    let (left, _) = left.as_chunks::<ROWS>();
    let (right, _) = right.as_chunks::<LANES>();
    let (sums, _) = sums.as_chunks_mut::<LANES>();
    let sums = &mut sums[..ROWS];
    let mut totals = [[vdupq_n_s32(0); VECTORS]; ROWS];
    if !start {
        for (totals, sums) in totals.iter_mut().zip(&*sums) {
            *totals = registers::load_i32(sums);
        }
    }
    if taken != 0 {
        for (totals, row_sum) in totals.iter_mut().zip(neon::row_sums(left.iter())) {
            *totals = neon::add(*totals, [vdupq_n_s32(taken * row_sum); VECTORS]);
        }
    }
    for (left, right) in left.iter().zip(right) {
        let left = registers::load_i8_rows(left);
        let right = registers::load_i8(right);
        for (totals, left) in totals.chunks_mut(4).zip(left) {
            add_row::<0>(totals, right, left);
            add_row::<1>(totals, right, left);
            add_row::<2>(totals, right, left);
            add_row::<3>(totals, right, left);
        }
    }
    for (totals, sums) in totals.iter().zip(sums) {
        registers::store_i32(sums, *totals);
    }
}

/// Adds the products of row `ROW` of four, if there is such a row.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn add_row<const ROW: usize>(
    totals: &mut [[int32x4_t; VECTORS]],
    right: [int8x16_t; VECTORS],
    left: int8x16_t,
) {
    if let Some(totals) = totals.get_mut(ROW) {
        for (total, right) in totals.iter_mut().zip(right) {
            *total = sdot::<ROW>(*total, right, left);
        }
    }
}

/// The instruction, whose intrinsic is not stable: `total[n] + sum_i right[n][i] * left[ROW][i]` over four bytes.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot<const ROW: usize>(mut total: int32x4_t, right: int8x16_t, left: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction is there where this function may be called, and works on these registers only.
    unsafe {
        asm!(
            "sdot {total:v}.4s, {right:v}.16b, {left:v}.4b[{row}]",
            total = inout(vreg) total,
            right = in(vreg) right,
            left = in(vreg) left,
            row = const ROW,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    total
}
