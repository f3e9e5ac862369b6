//! Four bits: two codes per byte, the first in the low half.

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
