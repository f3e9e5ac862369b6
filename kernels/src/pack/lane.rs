//! From the canonical layout to a lane of a panel, by whole words.
//!
//! A lane holds the codes of one row. What the canonical bytes of a row and the words of its lane have in common is a
//! piece: the fewest bytes whose codes fill whole words. Each width turns one piece into words, with masks and shifts on
//! all codes of a word at once; here the pieces of a row follow one another, and their codes are summed.
//!
//! | width | bytes of a piece | words |
//! |---|---|---|
//! | 1.58 | 16 | 5 |
//! | 2, 4, 8 | 4 | 1 |
//! | 3 | 12 | 3 |

use super::{four, ternary, three, two};
use crate::Width;

/// Pieces converted, into a contiguous buffer, before they are spread over the panel: the compiler vectorises such a loop.
const BLOCK: usize = 32;

/// Writes a row of valid canonical bytes into its lane of a panel `[word][lane]`; returns the sum of its codes.
///
/// The sum wraps, which takes at least 2^31 / 255 codes. Words beyond the row's bytes are left alone.
pub(crate) fn fill(
    width: Width,
    packed: &[u8],
    panel: &mut [u32],
    lanes: usize,
    lane: usize,
) -> i32 {
    let mut words = panel.chunks_exact_mut(lanes).map(|word| &mut word[lane]);
    let sum = match width {
        Width::Ternary => convert(
            packed,
            ternary::panel_words,
            |[a, b, c, d, e]| {
                sum_of_two_bits(a)
                    + sum_of_two_bits(b)
                    + sum_of_two_bits(c)
                    + sum_of_two_bits(d)
                    + sum_of_two_bits(e)
            },
            &mut words,
        ),
        Width::Two => convert(
            packed,
            |bytes| [two::panel_word(u32::from_le_bytes(bytes))],
            |[word]| sum_of_two_bits(word),
            &mut words,
        ),
        Width::Three => convert(
            packed,
            three::panel_words,
            |[first, second, high]| {
                sum_of_two_bits(first) + sum_of_two_bits(second) + 4 * sum_of_bits(high)
            },
            &mut words,
        ),
        Width::Four => convert(
            packed,
            |bytes| [four::panel_word(u32::from_le_bytes(bytes))],
            |[word]| sum_of_four_bits(word),
            &mut words,
        ),
        Width::Eight => convert(
            packed,
            |bytes| [u32::from_le_bytes(bytes)],
            |[word]| sum_of_bytes(word),
            &mut words,
        ),
    };
    sum as i32
}

/// Turns `packed` into words, a piece at a time, the last one filled up with zeros; returns the sum of what `sum` finds.
#[inline(always)]
fn convert<'a, const BYTES: usize, const WORDS: usize>(
    packed: &[u8],
    words_of: impl Fn([u8; BYTES]) -> [u32; WORDS],
    sum: impl Fn([u32; WORDS]) -> u32,
    out: &mut impl Iterator<Item = &'a mut u32>,
) -> u32 {
    let mut total = 0_u32;
    let mut block = [[0; WORDS]; BLOCK];
    for bytes in packed.chunks(BYTES * BLOCK) {
        let (pieces, rest) = bytes.as_chunks::<BYTES>();
        let mut count = pieces.len();
        for (piece, words) in pieces.iter().zip(&mut block) {
            *words = words_of(*piece);
        }
        if !rest.is_empty() {
            let mut piece = [0; BYTES];
            piece[..rest.len()].copy_from_slice(rest);
            block[count] = words_of(piece);
            count += 1;
        }
        for words in &block[..count] {
            total = total.wrapping_add(sum(*words));
        }
        for (word, out) in block[..count].as_flattened().iter().zip(&mut *out) {
            *out = *word;
        }
    }
    total
}

/// Exchanges the bits of `word` under `mask` with those `distance` above them.
#[inline(always)]
pub(super) fn exchange(word: u32, mask: u32, distance: u32) -> u32 {
    let difference = (word ^ word >> distance) & mask;
    word ^ difference ^ difference << distance
}

// Sums of the fields of a word: neighbours are added until one field is left.

#[inline(always)]
fn sum_of_bits(word: u32) -> u32 {
    sum_of_two_bits((word & 0x5555_5555) + (word >> 1 & 0x5555_5555))
}

#[inline(always)]
fn sum_of_two_bits(word: u32) -> u32 {
    sum_of_four_bits((word & 0x3333_3333) + (word >> 2 & 0x3333_3333))
}

#[inline(always)]
fn sum_of_four_bits(word: u32) -> u32 {
    sum_of_bytes((word & 0x0f0f_0f0f) + (word >> 4 & 0x0f0f_0f0f))
}

#[inline(always)]
fn sum_of_bytes(word: u32) -> u32 {
    let pairs = (word & 0x00ff_00ff) + (word >> 8 & 0x00ff_00ff);
    (pairs & 0xffff) + (pairs >> 16)
}
