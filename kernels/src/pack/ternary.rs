//! Ternary: five codes per byte.
//!
//! Five digits `t0..t4` make `v = sum t_i * 3^(4-i)`, `0 <= v < 243`, and the byte is `ceil(v * 256 / 243)`: the fraction
//! `v / 243` in units of 1/256, rounded up. Multiplying it by three moves the next digit, first digit first, into the
//! carry out of the low eight bits:
//!
//! ```text
//! byte * 3 = t0 * 256 + rest;   rest * 3 = t1 * 256 + rest';   ...
//! ```
//!
//! 13 byte values stand for no `v`. A row whose length is no multiple of five is filled up with digits 0.

use super::two;

/// Codes per byte.
pub(super) const GROUP: usize = 5;

/// The byte of five digits.
pub(super) fn encode(digits: [u8; GROUP]) -> u8 {
    let value = digits.iter().fold(0_u32, |value, &digit| value * 3 + u32::from(digit));
    // At most ceil(242 * 256 / 243) = 255.
    (value * 256).div_ceil(243) as u8
}

/// The five digits of a byte; each is below 3, whatever the byte.
pub(super) fn decode(byte: u8) -> [u8; GROUP] {
    let mut rest = u32::from(byte);
    std::array::from_fn(|_| {
        let tripled = rest * 3;
        rest = tripled & 0xff;
        (tripled >> 8) as u8
    })
}

/// Whether the byte stands for five digits.
///
/// It does where some `v` has `256 v <= 243 byte < 256 v + 243`, that is where `243 byte` leaves a remainder below 243
/// when it is divided by 256. As 243 is -13 there, the other bytes are those for which `13 byte` leaves 1 to 13.
#[inline(always)]
pub(super) fn is_used(byte: u8) -> bool {
    byte.wrapping_mul(13).wrapping_sub(1) >= 13
}

/// The five codes of every byte at two bits each, the first in the lowest bits.
const TWO_BITS: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut rest, mut digit) = (byte as u32, 0);
        while digit < GROUP {
            let tripled = rest * 3;
            table[byte] |= ((tripled >> 8) << (2 * digit)) as u16;
            rest = tripled & 0xff;
            digit += 1;
        }
        byte += 1;
    }
    table
};

/// The five words of a panel that hold the 80 codes of sixteen bytes, at two bits each.
#[inline(always)]
pub(super) fn panel_words(packed: [u8; 16]) -> [u32; 5] {
    let wide = |index: usize| u64::from(TWO_BITS[usize::from(packed[index])]);
    // Four bytes make 40 bits.
    let quarter =
        |index| wide(index) | wide(index + 1) << 10 | wide(index + 2) << 20 | wide(index + 3) << 30;
    let (a, b, c, d) = (quarter(0), quarter(4), quarter(8), quarter(12));
    [
        two::panel_word(a as u32),
        two::panel_word((a >> 32 | b << 8) as u32),
        two::panel_word((b >> 24 | c << 16) as u32),
        two::panel_word((c >> 16 | d << 24) as u32),
        two::panel_word((d >> 8) as u32),
    ]
}
