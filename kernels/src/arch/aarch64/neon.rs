//! NEON, which every 64-bit ARM processor has: float tiles of 6 rows by 16 columns, integer tiles of 4 by 16.
//!
//! The integer tile multiplies eight signed bytes at once to 16 bits (`smlal`). Codes below 8 bit are signed bytes as they
//! are, and so small that several products are gathered in 16 bits before the sums are widened. Codes of 8 bit are moved
//! into the range of signed bytes, and the sums put right with the sums of the rows. Two products of such bytes can reach
//! 2^15, one too many, but their difference cannot: every second word of codes is negated, and its products subtracted.

use std::arch::aarch64::*;
use std::arch::is_aarch64_feature_detected;

use super::registers::{
    ROW_VECTORS, load_f32, load_f32_rows, load_i8_rows, load_i32, store_f32, store_i32,
};
use super::{LANES, VECTORS};
use crate::arch::witness::ran;
use crate::arch::{Simd, Vectorized, with_rows};
use crate::pack::panel;
use crate::{Isa, Width};

/// Proof that NEON is available.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neon(());

impl Neon {
    pub(crate) fn detect() -> Option<Neon> {
        is_aarch64_feature_detected!("neon").then_some(Neon(()))
    }
}

impl Simd for Neon {
    const ISA: Isa = Isa::Neon;
    const FUSED: bool = true;
    const LANES: usize = LANES;
    const F32_ROWS: usize = 6;
    const INT8_ROWS: usize = 4;

    fn vectorize<T: Vectorized>(self, task: T) -> T::Output {
        #[target_feature(enable = "neon")]
        fn run<T: Vectorized>(simd: Neon, task: T) -> T::Output {
            ran!("neon code");
            task.run(simd)
        }
        // SAFETY: the token `self` exists only where `detect` found neon.
        unsafe { run(self, task) }
    }

    fn expand_f32(self, width: Width, words: &[u32], out: &mut [f32]) {
        // SAFETY: the token `self` exists only where `detect` found neon.
        unsafe { expand_f32(width, words, out) }
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
        unsafe { f32_rows(rows, left, right, sums, start) }
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
        // SAFETY: the token `self` exists only where `detect` found neon.
        unsafe { int8_rows(rows, width, left, right, sums, start) }
    }
}

// Not inlined: as arguments of their own, the two slices are known not to overlap.
#[inline(never)]
#[target_feature(enable = "neon")]
pub(super) fn expand_f32(width: Width, words: &[u32], out: &mut [f32]) {
    panel::expand_f32::<LANES>(width, words, out);
}

#[inline(never)]
#[target_feature(enable = "neon")]
fn expand_int8(width: Width, words: &[u32], out: &mut [u32]) {
    if width == Width::Eight {
        // As signed bytes: `code - 128`, and `127 - code` in every second word.
        for (index, (words, out)) in
            words.as_chunks::<LANES>().0.iter().zip(out.as_chunks_mut::<LANES>().0).enumerate()
        {
            let flips = if index % 2 == 0 { 0x8080_8080 } else { 0x7f7f_7f7f };
            for lane in 0..LANES {
                out[lane] = words[lane] ^ flips;
            }
        }
    } else {
        panel::expand_bytes::<LANES>(width, words, out);
    }
}

#[target_feature(enable = "neon")]
pub(super) fn f32_rows(rows: usize, left: &[f32], right: &[f32], sums: &mut [f32], start: bool) {
    with_rows!(rows, [1 2 3 4 5 6], f32_tile(left, right, sums, start));
}

#[target_feature(enable = "neon")]
fn int8_rows(
    rows: usize,
    width: Width,
    left: &[u32],
    right: &[u32],
    sums: &mut [i32],
    start: bool,
) {
    if width == Width::Eight {
        with_rows!(rows, [1 2 3 4], differences_tile(left, right, sums, start));
    } else {
        // Steps whose products, of at most 128 * (levels - 1) each, fit in 16 bits together.
        let steps = i16::MAX as usize / (128 * (width.levels() as usize - 1));
        with_rows!(rows, [1 2 3 4], gathered_tile(steps, left, right, sums, start));
    }
}

#[target_feature(enable = "neon")]
fn f32_tile<const ROWS: usize>(left: &[f32], right: &[f32], sums: &mut [f32], start: bool) {
    ran!("neon f32");
    let (left, _) = left.as_chunks::<ROWS>();
    let (right, _) = right.as_chunks::<LANES>();
    let (sums, _) = sums.as_chunks_mut::<LANES>();
    let sums = &mut sums[..ROWS];
    let mut totals = [[vdupq_n_f32(0.0); VECTORS]; ROWS];
    if !start {
        for (totals, sums) in totals.iter_mut().zip(&*sums) {
            *totals = load_f32(sums);
        }
    }
    for (left, right) in left.iter().zip(right) {
        let left = load_f32_rows(left);
        let right = load_f32(right);
        for (row, totals) in totals.iter_mut().enumerate() {
            for (total, right) in totals.iter_mut().zip(right) {
                *total = multiply_add_lane(*total, right, left[row / 4], row % 4);
            }
        }
    }
    for (totals, sums) in totals.iter().zip(sums) {
        store_f32(sums, *totals);
    }
}

/// Codes below 8 bit: `steps` products are gathered in 16 bits, each input feature of a word in a lane of its own.
#[target_feature(enable = "neon")]
fn gathered_tile<const ROWS: usize>(
    steps: usize,
    left: &[u32],
    right: &[u32],
    sums: &mut [i32],
    start: bool,
) {
    ran!("neon int8");
    let (left, _) = left.as_chunks::<ROWS>();
    let right = halves(right);
    if start {
        sums.fill(0);
    }
    for half in 0..2 {
        for (left, right) in left.chunks(steps).zip(right.chunks(steps)) {
            let mut totals = [[vdupq_n_s16(0); 4]; ROWS];
            for (left, right) in left.iter().zip(right) {
                let left = load_i8_rows(left);
                let right = load_i8_half(&right[half]);
                for (row, totals) in totals.iter_mut().enumerate() {
                    let left = broadcast_row(left, row);
                    totals[0] = vmlal_s8(totals[0], vget_low_s8(right[0]), vget_low_s8(left));
                    totals[1] = vmlal_high_s8(totals[1], right[0], left);
                    totals[2] = vmlal_s8(totals[2], vget_low_s8(right[1]), vget_low_s8(left));
                    totals[3] = vmlal_high_s8(totals[3], right[1], left);
                }
            }
            for (totals, sums) in totals.iter().zip(sums.as_chunks_mut::<LANES>().0) {
                add_to_half(sums, half, totals.map(|total| vpaddlq_s16(total)));
            }
        }
    }
}

/// Codes of 8 bit, as `expand_int8` writes them.
#[target_feature(enable = "neon")]
fn differences_tile<const ROWS: usize>(left: &[u32], right: &[u32], sums: &mut [i32], start: bool) {
    ran!("neon int8");
    let (left, _) = left.as_chunks::<ROWS>();
    let right = halves(right);
    if start {
        sums.fill(0);
    }
    // What `expand_int8` took from the codes, times the rows.
    let even = row_sums(left.iter().step_by(2));
    let odd = row_sums(left.iter().skip(1).step_by(2));
    for (row, sums) in sums.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let taken = vdupq_n_s32(128 * even[row] + 127 * odd[row]);
        store_i32(sums, add(load_i32(sums), [taken; VECTORS]));
    }
    let (left_pairs, left_rest) = left.as_chunks::<2>();
    let (right_pairs, right_rest) = right.as_chunks::<2>();
    for half in 0..2 {
        let mut totals = [[vdupq_n_s32(0); 4]; ROWS];
        for (left, right) in left_pairs.iter().zip(right_pairs) {
            let left = [load_i8_rows(&left[0]), load_i8_rows(&left[1])];
            let right = [load_i8_half(&right[0][half]), load_i8_half(&right[1][half])];
            for (row, totals) in totals.iter_mut().enumerate() {
                let left = [broadcast_row(left[0], row), broadcast_row(left[1], row)];
                for (totals, index) in totals.as_chunks_mut::<2>().0.iter_mut().zip(0..) {
                    let right = [right[0][index], right[1][index]];
                    let low = vmull_s8(vget_low_s8(right[0]), vget_low_s8(left[0]));
                    let low = vmlsl_s8(low, vget_low_s8(right[1]), vget_low_s8(left[1]));
                    let high = vmull_high_s8(right[0], left[0]);
                    let high = vmlsl_high_s8(high, right[1], left[1]);
                    totals[0] = vpadalq_s16(totals[0], low);
                    totals[1] = vpadalq_s16(totals[1], high);
                }
            }
        }
        for (left, right) in left_rest.iter().zip(right_rest) {
            let left = load_i8_rows(left);
            let right = load_i8_half(&right[half]);
            for (row, totals) in totals.iter_mut().enumerate() {
                let left = broadcast_row(left, row);
                for (totals, right) in totals.as_chunks_mut::<2>().0.iter_mut().zip(right) {
                    let low = vmull_s8(vget_low_s8(right), vget_low_s8(left));
                    totals[0] = vpadalq_s16(totals[0], low);
                    totals[1] = vpadalq_s16(totals[1], vmull_high_s8(right, left));
                }
            }
        }
        for (totals, sums) in totals.iter().zip(sums.as_chunks_mut::<LANES>().0) {
            add_to_half(sums, half, *totals);
        }
    }
}

/// Lanes whose sums, two to four vectors a row, fit in the registers for four rows.
const HALF: usize = LANES / 2;

/// The right operand, step by step in two halves of the lanes.
#[inline(always)]
fn halves(right: &[u32]) -> &[[[u32; HALF]; 2]] {
    right.as_chunks::<HALF>().0.as_chunks::<2>().0
}

/// Adds sums of the lanes of a half, `[lane][2]`.
#[inline]
#[target_feature(enable = "neon")]
fn add_to_half(sums: &mut [i32; LANES], half: usize, totals: [int32x4_t; 4]) {
    let (vectors, _) = sums[half * HALF..].as_chunks_mut::<4>();
    for (sums, totals) in vectors.iter_mut().zip(totals.as_chunks::<2>().0) {
        // SAFETY: `sums` has 4 elements, one vector; load and store need no alignment.
        unsafe {
            let before = vld1q_s32(sums.as_ptr());
            vst1q_s32(sums.as_mut_ptr(), vaddq_s32(before, vpaddq_s32(totals[0], totals[1])));
        }
    }
}

/// The sum of the bytes of each row.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn row_sums<'a, const ROWS: usize>(
    left: impl Iterator<Item = &'a [u32; ROWS]>,
) -> [i32; ROWS] {
    let mut totals = [vdupq_n_s32(0); ROW_VECTORS];
    for words in left {
        for (totals, words) in totals.iter_mut().zip(load_i8_rows(words)).take(ROWS.div_ceil(4)) {
            *totals = vpadalq_s16(*totals, vpaddlq_s8(words));
        }
    }
    let mut sums = [0; 4 * ROW_VECTORS];
    for (sums, totals) in sums.as_chunks_mut::<4>().0.iter_mut().zip(totals) {
        // SAFETY: `sums` has 4 elements, one vector; the store needs no alignment.
        unsafe { vst1q_s32(sums.as_mut_ptr(), totals) };
    }
    std::array::from_fn(|row| sums[row])
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn add(a: [int32x4_t; VECTORS], b: [int32x4_t; VECTORS]) -> [int32x4_t; VECTORS] {
    let mut sums = a;
    for (sum, b) in sums.iter_mut().zip(b) {
        *sum = vaddq_s32(*sum, b);
    }
    sums
}

/// `total + right * left[lane]`.
#[inline]
#[target_feature(enable = "neon")]
fn multiply_add_lane(
    total: float32x4_t,
    right: float32x4_t,
    left: float32x4_t,
    lane: usize,
) -> float32x4_t {
    match lane {
        0 => vfmaq_laneq_f32::<0>(total, right, left),
        1 => vfmaq_laneq_f32::<1>(total, right, left),
        2 => vfmaq_laneq_f32::<2>(total, right, left),
        _ => vfmaq_laneq_f32::<3>(total, right, left),
    }
}

/// The four bytes of a row, four times.
#[inline]
#[target_feature(enable = "neon")]
fn broadcast_row(left: [int8x16_t; ROW_VECTORS], row: usize) -> int8x16_t {
    let words = vreinterpretq_s32_s8(left[row / 4]);
    vreinterpretq_s8_s32(match row % 4 {
        0 => vdupq_laneq_s32::<0>(words),
        1 => vdupq_laneq_s32::<1>(words),
        2 => vdupq_laneq_s32::<2>(words),
        _ => vdupq_laneq_s32::<3>(words),
    })
}

#[inline]
#[target_feature(enable = "neon")]
fn load_i8_half(words: &[u32; HALF]) -> [int8x16_t; 2] {
    let start = words.as_ptr().cast::<i8>();
    // SAFETY: `words` has 32 bytes, two vectors of 16; the loads need no alignment.
    unsafe { [vld1q_s8(start), vld1q_s8(start.add(16))] }
}
