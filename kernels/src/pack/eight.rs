//! Eight bits: one code per byte, so the packed bytes are the codes.

/// Codes per byte.
pub(super) const GROUP: usize = 1;

/// The byte of a code.
pub(super) fn encode(codes: [u8; GROUP]) -> u8 {
    codes[0]
}

/// The code of a byte.
pub(super) fn decode(byte: u8) -> [u8; GROUP] {
    [byte]
}
