//! NEON with the matrix product of bytes (FEAT_I8MM, Armv8.6): tiles of 6 rows by 16 columns.
//!
//! `usmmla` multiplies 2 channels of 8 unsigned codes by 2 rows of 8 signed activations into a 2 x 2 block of sums: twice
//! the products of a dot product. Eight neighbours of the input dimension lie together on both sides, so the words of the
//! right operand are zipped in pairs as they are expanded, which costs nothing where shifts and masks are done on zipped
//! words.

use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};

use super::{LANES, VECTORS, neon, registers};
use crate::arch::witness::ran;
use crate::arch::{Simd, Vectorized, with_rows};
use crate::{Isa, Width};

/// Proof that NEON with dot products and byte matrix products is available.
#[derive(Clone, Copy, Debug)]
pub(crate) struct I8mm(());

impl I8mm {
    pub(crate) fn detect() -> Option<I8mm> {
        let available = is_aarch64_feature_detected!("neon")
            && is_aarch64_feature_detected!("dotprod")
            && is_aarch64_feature_detected!("i8mm");
        available.then_some(I8mm(()))
    }
}

impl Simd for I8mm {
    const ISA: Isa = Isa::I8mm;
    const FUSED: bool = true;
    const LANES: usize = LANES;
    const F32_ROWS: usize = 6;
    const INT8_ROWS: usize = 6;
    const INT8_STEP: usize = 8;

    fn vectorize<T: Vectorized>(self, task: T) -> T::Output {
        #[target_feature(enable = "neon,dotprod,i8mm")]
        fn run<T: Vectorized>(simd: I8mm, task: T) -> T::Output {
            ran!("i8mm code");
            task.run(simd)
        }
        // SAFETY: the token `self` exists only where `detect` found neon, dotprod and i8mm.
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
        _: Width,
        left: &[u32],
        right: &[u32],
        sums: &mut [i32],
        start: bool,
    ) {
        // SAFETY: the token `self` exists only where `detect` found neon and i8mm.
        unsafe { int8_rows(rows, left, right, sums, start) }
    }
}

/// Words of one step of eight input features: `[lane][2]`.
const STEP_WORDS: usize = 2 * LANES;

// Not inlined: as arguments of their own, the two slices are known not to overlap.
#[inline(never)]
#[target_feature(enable = "neon")]
fn expand_int8(width: Width, words: &[u32], out: &mut [u32]) {
    let (words, _) = words.as_chunks::<LANES>();
    let (out, _) = out.as_chunks_mut::<STEP_WORDS>();
    match width {
        Width::Ternary | Width::Two => expand_words::<2, 2>(0x0303_0303, words, out),
        Width::Three => expand_planes(words, out),
        Width::Four => expand_words::<4, 1>(0x0f0f_0f0f, words, out),
        Width::Eight => {
            for (words, out) in words.chunks(2).zip(out) {
                // The activations beyond the last word are zero.
                let second = words.get(1).unwrap_or(&[0; LANES]);
                *out = zip(&words[0], second);
            }
        }
    }
}

/// Words of `2 * STEPS` times four codes of `BITS` bits each.
#[inline(always)]
fn expand_words<const BITS: usize, const STEPS: usize>(
    mask: u32,
    words: &[[u32; LANES]],
    out: &mut [[u32; STEP_WORDS]],
) {
    for (words, steps) in words.iter().zip(out.chunks_exact_mut(STEPS)) {
        let mut rest = zip_shifted::<BITS>(words);
        for step in steps {
            for (out, rest) in step.iter_mut().zip(&mut rest) {
                *out = *rest & mask;
                *rest >>= 2 * BITS;
            }
        }
    }
}

/// Groups of two words of low bits and one of high bits.
#[inline(always)]
fn expand_planes(words: &[[u32; LANES]], out: &mut [[u32; STEP_WORDS]]) {
    let (groups, _) = words.as_chunks::<3>();
    for (group, steps) in groups.iter().zip(out.chunks_exact_mut(4)) {
        let mut high = zip_shifted::<1>(&group[2]);
        for (words, steps) in group.iter().zip(steps.chunks_exact_mut(2)) {
            let mut low = zip_shifted::<2>(words);
            for step in steps {
                for ((out, low), high) in step.iter_mut().zip(&mut low).zip(&mut high) {
                    *out = *low & 0x0303_0303 | (*high & 0x0101_0101) << 2;
                    *low >>= 4;
                    *high >>= 2;
                }
            }
        }
    }
}

/// Each word and the same shifted by `BITS`, which brings the next four codes to its low bits.
#[inline(always)]
fn zip_shifted<const BITS: usize>(words: &[u32; LANES]) -> [u32; STEP_WORDS] {
    zip(words, &words.map(|word| word >> BITS))
}

/// `[lane][2]`.
#[inline(always)]
fn zip(first: &[u32; LANES], second: &[u32; LANES]) -> [u32; STEP_WORDS] {
    std::array::from_fn(|index| if index % 2 == 0 { first[index / 2] } else { second[index / 2] })
}

#[target_feature(enable = "neon,i8mm")]
fn int8_rows(rows: usize, left: &[u32], right: &[u32], sums: &mut [i32], start: bool) {
    with_rows!(rows, [1 2 3 4 5 6], int8_tile(left, right, sums, start));
}

#[target_feature(enable = "neon,i8mm")]
fn int8_tile<const ROWS: usize>(left: &[u32], right: &[u32], sums: &mut [i32], start: bool) {
    ran!("i8mm int8");
    let (left, _) = left.as_chunks::<2>();
    let (left, _) = left.as_chunks::<ROWS>();
    let (right, _) = right.as_chunks::<STEP_WORDS>();
    let (sums, _) = sums.as_chunks_mut::<LANES>();
    let sums = &mut sums[..ROWS];
    // Of two rows, `[channel][row]` for two channels each.
    let mut totals = [[vdupq_n_s32(0); 2 * VECTORS]; MOST_PAIRS];
    for (left, right) in left.iter().zip(right) {
        let left = load_row_pairs(left);
        // Channels outside: three registers hold the rows, and one the channels at a time.
        for (channels, words) in right.as_chunks::<4>().0.iter().enumerate() {
            // SAFETY: `words` has 16 bytes, one vector; the load needs no alignment.
            let right = unsafe { vld1q_u8(words.as_ptr().cast()) };
            for (totals, left) in totals.iter_mut().zip(left).take(ROWS.div_ceil(2)) {
                totals[channels] = usmmla(totals[channels], right, left);
            }
        }
    }
    for (totals, sums) in totals.iter().zip(sums.chunks_mut(2)) {
        let mut rows = [[vdupq_n_s32(0); VECTORS]; 2];
        for (index, totals) in totals.as_chunks::<2>().0.iter().enumerate() {
            rows[0][index] = vuzp1q_s32(totals[0], totals[1]);
            rows[1][index] = vuzp2q_s32(totals[0], totals[1]);
        }
        for (sums, added) in sums.iter_mut().zip(rows) {
            let sum = if start { added } else { neon::add(registers::load_i32(sums), added) };
            registers::store_i32(sums, sum);
        }
    }
}

/// Pairs of the most rows of a tile.
const MOST_PAIRS: usize = 3;

/// Eight bytes of each row, two rows to a vector.
#[inline]
#[target_feature(enable = "neon")]
fn load_row_pairs<const ROWS: usize>(rows: &[[u32; 2]; ROWS]) -> [int8x16_t; MOST_PAIRS] {
    let mut vectors = [vdupq_n_s8(0); MOST_PAIRS];
    let (pairs, rest) = rows.as_chunks::<2>();
    for (vector, pair) in vectors.iter_mut().zip(pairs) {
        // SAFETY: `pair` has 16 bytes, one vector; the load needs no alignment.
        *vector = unsafe { vld1q_s8(pair.as_ptr().cast()) };
    }
    if let [row] = rest {
        // SAFETY: `row` has 8 bytes, half a vector; the load needs no alignment.
        let row = unsafe { vld1_s8(row.as_ptr().cast()) };
        vectors[pairs.len()] = vcombine_s8(row, vdup_n_s8(0));
    }
    vectors
}

/// The instruction, whose intrinsic is not stable: `total[i][j] + sum_k left[i][k] * right[j][k]`.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn usmmla(mut total: int32x4_t, left: uint8x16_t, right: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction is there where this function may be called, and works on these registers only.
    unsafe {
        asm!(
            "usmmla {total:v}.4s, {left:v}.16b, {right:v}.16b",
            total = inout(vreg) total,
            left = in(vreg) left,
            right = in(vreg) right,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    total
}
