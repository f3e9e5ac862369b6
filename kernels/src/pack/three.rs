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

/// The three words of a panel that hold the 32 codes of `packed`: two words of low bits and one of high bits.
///
/// Of each eight codes, those of an even step `j` (see `panel.rs`) come to lie in the lower half of 64 bits and those of
/// the odd one behind it in the upper half, a byte each, so that one operation serves eight codes.
#[inline(always)]
pub(super) fn panel_words(packed: [u8; 4 * BYTES]) -> [u32; 3] {
    let eight = |at| u32::from_le_bytes([packed[at], packed[at + 1], packed[at + 2], 0]);
    let (a, b, c, d) = (spread(eight(0)), spread(eight(3)), spread(eight(6)), spread(eight(9)));
    // A code takes three of the eight bits of its byte: two steps share one.
    let (ab, cd) = (a | b << 4, c | d << 4);
    // Where the halves come together, odd steps move up beside even ones.
    let low = |codes: u64| {
        let low = codes & 0x3333_3333_3333_3333;
        (low | low >> 30) as u32
    };
    let high = ab >> 2 & 0x0101_0101_0101_0101
        | ab >> 4 & 0x0404_0404_0404_0404
        | cd << 2 & 0x1010_1010_1010_1010
        | cd & 0x4040_4040_4040_4040;
    [low(ab), low(cd), (high | high >> 31) as u32]
}

/// The eight codes in 24 bits, a byte each.
#[inline(always)]
fn spread(bits: u32) -> u64 {
    let codes = u64::from(bits);
    let codes = (codes | codes << 20) & 0x0000_0fff_0000_0fff;
    let codes = (codes | codes << 10) & 0x003f_003f_003f_003f;
    (codes | codes << 5) & 0x0707_0707_0707_0707
}
