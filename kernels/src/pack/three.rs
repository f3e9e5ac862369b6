//! Three bits: eight codes in three bytes, as a stream of bits with the first code in the lowest.
//!
//! ```text
//! byte 2          | byte 1          | byte 0
//! 23 .. 21  20 .. 18  17 .. 15  ...   5 .. 3   2 .. 0
//!    k7        k6        k5              k1       k0
//! ```
//!
//! A stream rather than a plane of two bits and a plane of one, because then a row of any length has `ceil(3 * cols / 8)`
//! bytes: the last group is cut after the byte that holds its last code.

/// Codes per group.
pub(super) const GROUP: usize = 8;

/// Bytes per group.
pub(super) const BYTES: usize = 3;

/// The three bytes of eight codes below 8.
pub(super) fn encode(codes: [u8; GROUP]) -> [u8; BYTES] {
    let bits = codes.iter().rev().fold(0_u32, |bits, &code| bits << 3 | u32::from(code));
    let [low, middle, high, _] = bits.to_le_bytes();
    [low, middle, high]
}

/// The eight codes of three bytes.
pub(super) fn decode(bytes: [u8; BYTES]) -> [u8; GROUP] {
    let bits = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
    std::array::from_fn(|index| (bits >> (3 * index) & 7) as u8)
}
