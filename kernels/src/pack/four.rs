//! Four bits: two codes per byte, the first in the low half.

use super::lane::exchange;

/// Codes per byte.
pub(super) const GROUP: usize = 2;

/// The byte of two codes below 16.
pub(super) fn encode(codes: [u8; GROUP]) -> u8 {
    codes[0] | codes[1] << 4
}

/// The two codes of a byte.
pub(super) fn decode(byte: u8) -> [u8; GROUP] {
    [byte & 15, byte >> 4]
}

/// The word of a panel that holds the eight codes of `packed`: code `4 j + i` goes from bit `4 (4 j + i)` to bit
/// `4 (2 i + j)`, which interleaves the codes of the lower half with those of the upper one.
#[inline(always)]
pub(super) fn panel_word(packed: u32) -> u32 {
    exchange(exchange(packed, 0x0000_ff00, 8), 0x00f0_00f0, 4)
}
