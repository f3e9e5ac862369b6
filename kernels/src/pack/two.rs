//! Two bits: four codes per byte, the first in the lowest bits.
//!
//! ```text
//! bit  7 6 | 5 4 | 3 2 | 1 0
//!      k3  | k2  | k1  | k0
//! ```

use super::lane::exchange;

/// Codes per byte.
pub(super) const GROUP: usize = 4;

/// The byte of four codes below 4.
pub(super) fn encode(codes: [u8; GROUP]) -> u8 {
    codes[0] | codes[1] << 2 | codes[2] << 4 | codes[3] << 6
}

/// The four codes of a byte.
pub(super) fn decode(byte: u8) -> [u8; GROUP] {
    [byte & 3, byte >> 2 & 3, byte >> 4 & 3, byte >> 6]
}

/// The word of a panel that holds the sixteen codes of `packed`: code `4 j + i` goes from bit `2 (4 j + i)` to bit
/// `2 (4 i + j)`, which transposes a 4 x 4 matrix of codes, first within its quarters, then the quarters.
#[inline(always)]
pub(super) fn panel_word(packed: u32) -> u32 {
    exchange(exchange(packed, 0x00cc_00cc, 6), 0x0000_f0f0, 12)
}
