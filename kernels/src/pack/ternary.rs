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

/// Which byte values stand for five digits: a table, since every byte of a file is asked about when it is loaded.
const USED: [bool; 256] = {
    let mut used = [false; 256];
    let mut value = 0_usize;
    while value < 243 {
        used[(value * 256).div_ceil(243)] = true;
        value += 1;
    }
    used
};

/// Whether the byte stands for five digits.
pub(super) fn is_used(byte: u8) -> bool {
    USED[usize::from(byte)]
}
