//! Codes as they lie in memory: panels of as many output channels as the micro-kernel of an instruction set has columns.
//!
//! A panel is an array of 32-bit words, lane by lane: word `[group][plane][lane]` holds codes of one output channel
//! (`lane`) only, so that expanding a vector of words is shift and mask on every lane at once, to floats as well as to the
//! bytes of an integer dot product, without a shuffle. Within a word, code `k = 4 * j + i` of a group lies in byte `i`:
//!
//! ```text
//! 2 bit (and 1.58): 16 codes, bits 8 i + 2 j .. + 2     one word
//! 3 bit:            32 codes, their low two bits in two words as above, their high bits at bit 8 i + j of a third
//! 4 bit:             8 codes, bits 8 i + 4 j .. + 4     one word
//! 8 bit:             4 codes, byte i                    one word
//! ```
//!
//! Byte `i` of `word >> (bits * j)` is therefore, masked, the operand of input feature `4 * j + i`: four neighbours of the
//! input dimension in one 32-bit lane, which is what `vpdpbusd` and `maddubs` multiply. Ternary codes are widened to two
//! bits here: five digits per byte would need a multiplication per digit in the inner loop for a fifth less memory.

use crate::Width;
use crate::arch::one_at_a_time;

/// Codes of one output channel in a group of words; every block of the input dimension holds whole groups.
pub(crate) const fn group_depth(width: Width) -> usize {
    match width {
        Width::Ternary | Width::Two => 16,
        Width::Three => 32,
        Width::Four => 8,
        Width::Eight => 4,
    }
}

/// Words per lane in a group.
pub(crate) const fn group_words(width: Width) -> usize {
    match width {
        Width::Three => 3,
        _ => 1,
    }
}

/// A multiple of every `group_depth`.
pub(crate) const DEPTH_STEP: usize = 32;

/// Words of one panel of `lanes` channels with `depth` input features.
pub(crate) const fn panel_words(width: Width, depth: usize, lanes: usize) -> usize {
    depth.div_ceil(group_depth(width)) * group_words(width) * lanes
}

/// Expands whole groups to centred floats `k - width.middle()`, `[depth][LANES]`.
///
/// Here and below a word is shifted step by step, not by a shift of its own for each code, for the same reason: each row
/// follows from the one before, which leaves the compiler only the lanes to vectorise across.
#[inline(always)]
pub(crate) fn expand_f32<const LANES: usize>(width: Width, words: &[u32], out: &mut [f32]) {
    let (words, _) = words.as_chunks::<LANES>();
    let (out, _) = out.as_chunks_mut::<LANES>();
    match width {
        Width::Ternary => expand_f32_words::<LANES, 2, 4>(1, words, out),
        Width::Two => expand_f32_words::<LANES, 2, 4>(2, words, out),
        Width::Three => expand_f32_planes(words, out),
        Width::Four => expand_f32_words::<LANES, 4, 2>(8, words, out),
        Width::Eight => expand_f32_words::<LANES, 8, 1>(128, words, out),
    }
}

#[inline(always)]
fn expand_f32_words<const LANES: usize, const BITS: usize, const STEPS: usize>(
    middle: i32,
    words: &[[u32; LANES]],
    out: &mut [[f32; LANES]],
) {
    let mask = (1_u32 << BITS) - 1;
    for (word, rows) in words.iter().zip(out.chunks_exact_mut(4 * STEPS)) {
        one_at_a_time();
        let mut rest = *word;
        for byte in 0..4 {
            for step in 0..STEPS {
                let row = &mut rows[4 * step + byte];
                for lane in 0..LANES {
                    row[lane] = ((rest[lane] & mask) as i32 - middle) as f32;
                    rest[lane] >>= BITS;
                }
            }
        }
    }
}

#[inline(always)]
fn expand_f32_planes<const LANES: usize>(words: &[[u32; LANES]], out: &mut [[f32; LANES]]) {
    let (groups, _) = words.as_chunks::<3>();
    for (group, rows) in groups.iter().zip(out.chunks_exact_mut(32)) {
        one_at_a_time();
        let [mut first, mut second, mut high] = *group;
        for byte in 0..4 {
            for step in 0..8 {
                let low = if step < 4 { &mut first } else { &mut second };
                let row = &mut rows[4 * step + byte];
                for lane in 0..LANES {
                    let code = low[lane] & 3 | (high[lane] & 1) << 2;
                    row[lane] = (code as i32 - 4) as f32;
                    low[lane] >>= 2;
                    high[lane] >>= 1;
                }
            }
        }
    }
}

/// Expands whole groups to unsigned bytes, four input features to a word: `[depth / 4][LANES]`.
#[inline(always)]
pub(crate) fn expand_bytes<const LANES: usize>(width: Width, words: &[u32], out: &mut [u32]) {
    let (words, _) = words.as_chunks::<LANES>();
    let (out, _) = out.as_chunks_mut::<LANES>();
    match width {
        Width::Ternary | Width::Two => {
            expand_byte_words::<LANES, 2, 4>(0x0303_0303, words, out);
        }
        Width::Three => expand_byte_planes(words, out),
        Width::Four => expand_byte_words::<LANES, 4, 2>(0x0f0f_0f0f, words, out),
        // One word holds one step: there is nothing to shift.
        Width::Eight => expand_byte_words::<LANES, 0, 1>(0xffff_ffff, words, out),
    }
}

#[inline(always)]
fn expand_byte_words<const LANES: usize, const BITS: usize, const STEPS: usize>(
    mask: u32,
    words: &[[u32; LANES]],
    out: &mut [[u32; LANES]],
) {
    for (word, rows) in words.iter().zip(out.chunks_exact_mut(STEPS)) {
        one_at_a_time();
        let mut rest = *word;
        for row in rows {
            for lane in 0..LANES {
                row[lane] = rest[lane] & mask;
                rest[lane] >>= BITS;
            }
        }
    }
}

#[inline(always)]
fn expand_byte_planes<const LANES: usize>(words: &[[u32; LANES]], out: &mut [[u32; LANES]]) {
    let (groups, _) = words.as_chunks::<3>();
    for (group, rows) in groups.iter().zip(out.chunks_exact_mut(8)) {
        one_at_a_time();
        let [mut first, mut second, mut high] = *group;
        for (step, row) in rows.iter_mut().enumerate() {
            let low = if step < 4 { &mut first } else { &mut second };
            for lane in 0..LANES {
                row[lane] = low[lane] & 0x0303_0303 | (high[lane] & 0x0101_0101) << 2;
                low[lane] >>= 2;
                high[lane] >>= 1;
            }
        }
    }
}

/// Widens 8-bit codes to 16 bits, the even ones of each word and then the odd ones: `[depth / 4][2][LANES]` words of two.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
#[inline(always)]
pub(crate) fn expand_pairs<const LANES: usize>(words: &[u32], out: &mut [u32]) {
    let (words, _) = words.as_chunks::<LANES>();
    let (out, _) = out.as_chunks_mut::<LANES>();
    for (word, rows) in words.iter().zip(out.chunks_exact_mut(2)) {
        one_at_a_time();
        let mut rest = *word;
        for row in rows {
            for lane in 0..LANES {
                row[lane] = rest[lane] & 0x00ff_00ff;
                rest[lane] >>= 8;
            }
        }
    }
}

/// Expands whole groups to pairs of centred bfloat16 numbers `k - width.middle()`, two input features to a word:
/// `[depth / 2][LANES]`. All of them are exact: their magnitude is at most 128.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
#[inline(always)]
pub(crate) fn expand_half<const LANES: usize>(width: Width, words: &[u32], out: &mut [u32]) {
    let (words, _) = words.as_chunks::<LANES>();
    let (out, _) = out.as_chunks_mut::<LANES>();
    match width {
        Width::Ternary => expand_half_words::<LANES, 2, 4>(1, words, out),
        Width::Two => expand_half_words::<LANES, 2, 4>(2, words, out),
        Width::Three => expand_half_planes(words, out),
        Width::Four => expand_half_words::<LANES, 4, 2>(8, words, out),
        Width::Eight => expand_half_words::<LANES, 8, 1>(128, words, out),
    }
}

/// Two centred codes as a pair of bfloat16 numbers, the first in the low half.
#[inline(always)]
fn half_pair(first: u32, second: u32, middle: i32) -> u32 {
    // A number of so few bits is its own upper half.
    let bits = |code: u32| ((code as i32 - middle) as f32).to_bits();
    bits(first) >> 16 | bits(second)
}

#[inline(always)]
fn expand_half_words<const LANES: usize, const BITS: usize, const STEPS: usize>(
    middle: i32,
    words: &[[u32; LANES]],
    out: &mut [[u32; LANES]],
) {
    let mask = (1_u32 << BITS) - 1;
    for (word, rows) in words.iter().zip(out.chunks_exact_mut(2 * STEPS)) {
        one_at_a_time();
        let mut rest = *word;
        for pair in rows.chunks_exact_mut(2) {
            let [low, high] = pair else { unreachable!("chunks of two") };
            for lane in 0..LANES {
                let code = |shift: u32| rest[lane] >> shift & mask;
                low[lane] = half_pair(code(0), code(8), middle);
                high[lane] = half_pair(code(16), code(24), middle);
                rest[lane] >>= BITS % 8;
            }
        }
    }
}

#[inline(always)]
fn expand_half_planes<const LANES: usize>(words: &[[u32; LANES]], out: &mut [[u32; LANES]]) {
    let (groups, _) = words.as_chunks::<3>();
    for (group, rows) in groups.iter().zip(out.chunks_exact_mut(16)) {
        one_at_a_time();
        let [mut first, mut second, mut high] = *group;
        for (step, pair) in rows.chunks_exact_mut(2).enumerate() {
            let low = if step < 4 { &mut first } else { &mut second };
            for lane in 0..LANES {
                let codes = low[lane] & 0x0303_0303 | (high[lane] & 0x0101_0101) << 2;
                let code = |shift: u32| codes >> shift & 7;
                pair[0][lane] = half_pair(code(0), code(8), 4);
                pair[1][lane] = half_pair(code(16), code(24), 4);
                low[lane] >>= 2;
                high[lane] >>= 1;
            }
        }
    }
}
