//! Integer products with AVX2: tiles of 6 rows by 16 columns.
//!
//! Unsigned codes are multiplied by signed bytes with `vpmaddubsw`, whose 16-bit sums of two products cannot saturate below
//! 8 bit: they are gathered in 16 bits for as many steps as cannot overflow, then widened. Codes of 8 bit would saturate.
//! They are expanded to 16 bits, the bytes of the left operand are widened as they are needed, and `vpmaddwd` makes sums
//! of 32 bits.

use std::arch::x86_64::*;

use super::avx2::{LANES, load_i32, load_u32, store_i32};
use crate::Width;
use crate::arch::with_rows;
use crate::arch::witness::ran;

/// [`Simd::int8_tile`](crate::arch::Simd::int8_tile).
#[target_feature(enable = "avx2")]
pub(super) fn int8_rows(
    rows: usize,
    width: Width,
    left: &[u32],
    right: &[u32],
    sums: &mut [i32],
    start: bool,
) {
    if width == Width::Eight {
        let stride = sums.len();
        with_rows!(rows, [1 2 3 4 5 6], pairs_panels(left, right, sums, stride, start));
    } else {
        // Steps whose sums of two products, of at most 128 * (levels - 1) each, fit in 16 bits together.
        let steps = i16::MAX as usize / (2 * 128 * (width.levels() as usize - 1));
        with_rows!(rows, [1 2 3 4 5 6], bytes_tile(steps, left, right, sums, start));
    }
}

/// [`Simd::int8_panels`](crate::arch::Simd::int8_panels) of a row tile.
#[target_feature(enable = "avx2")]
pub(super) fn int8_panels(
    rows: usize,
    left: &[u32],
    panels: &[u32],
    sums: &mut [i32],
    stride: usize,
) {
    with_rows!(rows, [1 2 3 4 5 6], pairs_panels(left, panels, sums, stride, true));
}

#[target_feature(enable = "avx2")]
fn bytes_tile<const ROWS: usize>(
    steps: usize,
    left: &[u32],
    right: &[u32],
    sums: &mut [i32],
    start: bool,
) {
    ran!("avx2 int8");
    let (left, _) = left.as_chunks::<ROWS>();
    let (right, _) = right.as_chunks::<LANES>();
    let (sums, _) = sums.as_chunks_mut::<LANES>();
    let sums = &mut sums[..ROWS];
    if start {
        sums.fill([0; LANES]);
    }
    let one = _mm256_set1_epi16(1);
    for (left, right) in left.chunks(steps).zip(right.chunks(steps)) {
        // Of one length for the compiler too, which otherwise works it out anew at every step.
        let right = &right[..left.len()];
        let mut totals = [[_mm256_setzero_si256(); 2]; ROWS];
        for step in 0..left.len() {
            let (left, right) = (&left[step], load_u32(&right[step]));
            for (totals, &left) in totals.iter_mut().zip(left) {
                let left = _mm256_set1_epi32(left as i32);
                totals[0] = _mm256_add_epi16(totals[0], _mm256_maddubs_epi16(right[0], left));
                totals[1] = _mm256_add_epi16(totals[1], _mm256_maddubs_epi16(right[1], left));
            }
        }
        for (totals, sums) in totals.iter().zip(sums.iter_mut()) {
            let before = load_i32(sums);
            let widened = [
                _mm256_add_epi32(before[0], _mm256_madd_epi16(totals[0], one)),
                _mm256_add_epi32(before[1], _mm256_madd_epi16(totals[1], one)),
            ];
            store_i32(sums, widened);
        }
    }
}

/// Words of a row that are widened at a time.
const WIDENED: usize = 64;

/// A tile times panels of 8-bit codes, whose sums are `stride` apart.
#[target_feature(enable = "avx2")]
fn pairs_panels<const ROWS: usize>(
    left: &[u32],
    panels: &[u32],
    sums: &mut [i32],
    stride: usize,
    start: bool,
) {
    ran!("avx2 int8");
    let (left, _) = left.as_chunks::<ROWS>();
    let mut halves = [[[0; ROWS]; 2]; WIDENED];
    for (index, block) in left.chunks(WIDENED).enumerate() {
        let halves = &mut halves[..block.len()];
        widen_halves(block, halves);
        let panels = panels.chunks_exact(left.len() * 2 * LANES);
        for (right, sums) in panels.zip(sums.chunks_mut(stride)) {
            let right = &right[index * WIDENED * 2 * LANES..];
            pairs_tile(halves, right, sums, start && index == 0);
        }
    }
}

/// `right` holds the even and the odd codes of each word in turn, in 16 bits each.
#[inline]
#[target_feature(enable = "avx2")]
fn pairs_tile<const ROWS: usize>(
    left: &[[[u32; ROWS]; 2]],
    right: &[u32],
    sums: &mut [i32],
    start: bool,
) {
    let left = left.as_flattened();
    let (right, _) = right.as_chunks::<LANES>();
    let right = &right[..left.len()];
    let (sums, _) = sums.as_chunks_mut::<LANES>();
    let sums = &mut sums[..ROWS];
    let mut totals = [[_mm256_setzero_si256(); 2]; ROWS];
    if !start {
        for (totals, sums) in totals.iter_mut().zip(&*sums) {
            *totals = load_i32(sums);
        }
    }
    for step in 0..left.len() {
        let (left, right) = (&left[step], load_u32(&right[step]));
        for (totals, &left) in totals.iter_mut().zip(left) {
            let left = _mm256_set1_epi32(left as i32);
            totals[0] = _mm256_add_epi32(totals[0], _mm256_madd_epi16(right[0], left));
            totals[1] = _mm256_add_epi32(totals[1], _mm256_madd_epi16(right[1], left));
        }
    }
    for (totals, sums) in totals.iter().zip(sums) {
        store_i32(sums, *totals);
    }
}

/// The even and the odd bytes of each word, in 16 bits each.
#[inline]
#[target_feature(enable = "avx2")]
fn widen_halves<const ROWS: usize>(words: &[[u32; ROWS]], halves: &mut [[[u32; ROWS]; 2]]) {
    for (words, [even, odd]) in words.iter().zip(halves) {
        let words: &[i16] = bytemuck::cast_slice(words);
        let even: &mut [i16] = bytemuck::cast_slice_mut(even);
        let odd: &mut [i16] = bytemuck::cast_slice_mut(odd);
        for index in 0..2 * ROWS {
            even[index] = words[index] << 8 >> 8;
            odd[index] = words[index] >> 8;
        }
    }
}
