//! The canonical layout of codes, as they lie on disk.
//!
//! Codes run along a row (the input features of one output channel); each row is padded to a whole byte with zero bits or,
//! at 1.58 bit, zero digits. One file per width says how its codes lie in a byte or group:
//!
//! | width | group | bytes per row of `cols` codes |
//! |---|---|---|
//! | 1.58 | 5 codes in 1 byte, base 3 | `ceil(cols / 5)` |
//! | 2 | 4 codes in 1 byte | `ceil(cols / 4)` |
//! | 3 | 8 codes in 3 bytes | `ceil(3 * cols / 8)` |
//! | 4 | 2 codes in 1 byte | `ceil(cols / 2)` |
//! | 8 | 1 code in 1 byte | `cols` |
//!
//! A given matrix of codes has exactly one packed form: what [`unpack`] accepts, [`pack`] reproduces byte for byte.
//! [`Matrix`](crate::Matrix) reorders the codes once more, into the panels of one instruction set.

mod eight;
mod four;
pub(crate) mod lane;
pub(crate) mod panel;
mod ternary;
#[cfg(test)]
mod tests;
mod three;
mod two;

use crate::{PackError, Width};

/// Packs `codes` (row-major, `[rows, cols]`) into the canonical layout.
///
/// # Errors
/// When the length of `codes` is not `rows * cols`, or a code is not below `width.levels()`; the error names its row and
/// column.
pub fn pack(width: Width, rows: usize, cols: usize, codes: &[u8]) -> Result<Vec<u8>, PackError> {
    let (count, bytes) = sizes(width, rows, cols)?;
    check_length("codes", count, codes.len())?;
    let levels = width.levels();
    if let Some(index) = codes.iter().position(|&code| u32::from(code) >= levels) {
        return Err(PackError::CodeOutOfRange {
            row: index / cols,
            col: index % cols,
            code: codes[index],
            width,
            levels,
        });
    }
    let mut packed = Vec::with_capacity(bytes);
    if cols > 0 {
        for row in codes.chunks_exact(cols) {
            pack_row(width, row, &mut packed);
        }
    }
    Ok(packed)
}

/// Reads `rows * cols` codes (row-major) back from the canonical layout.
///
/// # Errors
/// When the length of `packed` is not that of the shape, a ternary byte is one of the 13 unused ones, or padding is not
/// zero.
pub fn unpack(width: Width, rows: usize, cols: usize, packed: &[u8]) -> Result<Vec<u8>, PackError> {
    let (count, _) = sizes(width, rows, cols)?;
    validate(width, rows, cols, packed)?;
    let mut codes = vec![0; count];
    if cols > 0 {
        let row_bytes = width.row_bytes(cols);
        for (row, bytes) in codes.chunks_exact_mut(cols).zip(packed.chunks_exact(row_bytes)) {
            unpack_row(width, bytes, row);
        }
    }
    Ok(codes)
}

/// Makes every check of [`unpack`] without allocating.
///
/// # Errors
/// As [`unpack`].
pub fn validate(width: Width, rows: usize, cols: usize, packed: &[u8]) -> Result<(), PackError> {
    let (_, bytes) = sizes(width, rows, cols)?;
    check_length("packed bytes", bytes, packed.len())?;
    let row_bytes = width.row_bytes(cols);
    if row_bytes == 0 {
        return Ok(());
    }
    // Every byte is asked about, without an early exit: such a loop is compiled to vector instructions.
    let unused =
        |bytes: &[u8]| bytes.iter().fold(false, |any, &byte| any | !ternary::is_used(byte));
    if width == Width::Ternary && unused(packed) {
        let at = packed.iter().position(|&byte| !ternary::is_used(byte)).unwrap_or(0);
        return Err(PackError::UnusedByte {
            row: at / row_bytes,
            index: at % row_bytes,
            byte: packed[at],
        });
    }
    let mut last_bytes = packed.iter().skip(row_bytes - 1).step_by(row_bytes);
    if let Some(row) = last_bytes.position(|&byte| !padding_is_zero(width, cols, byte)) {
        return Err(PackError::Padding { row });
    }
    Ok(())
}

/// Number of codes and of packed bytes of a shape.
fn sizes(width: Width, rows: usize, cols: usize) -> Result<(usize, usize), PackError> {
    let count = rows.checked_mul(cols);
    let bytes = rows.checked_mul(width.row_bytes(cols));
    count.zip(bytes).ok_or(PackError::TooLarge { rows, cols })
}

fn check_length(unit: &'static str, expected: usize, found: usize) -> Result<(), PackError> {
    if expected == found { Ok(()) } else { Err(PackError::Length { unit, expected, found }) }
}

/// Whether what follows the last code in the last byte of a row is zero.
fn padding_is_zero(width: Width, cols: usize, last: u8) -> bool {
    let used_bits = match width {
        Width::Ternary => {
            let used = cols % ternary::GROUP;
            return used == 0 || ternary::decode(last)[used..].iter().all(|&digit| digit == 0);
        }
        Width::Two => cols % two::GROUP * 2,
        Width::Three => cols % three::GROUP * 3 % 8,
        Width::Four => cols % four::GROUP * 4,
        Width::Eight => 0,
    };
    used_bits == 0 || last >> used_bits == 0
}

/// Appends one row of valid codes.
fn pack_row(width: Width, codes: &[u8], packed: &mut Vec<u8>) {
    match width {
        Width::Ternary => packed.extend(groups(codes).map(ternary::encode)),
        Width::Two => packed.extend(groups(codes).map(two::encode)),
        Width::Four => packed.extend(groups(codes).map(four::encode)),
        Width::Eight => packed.extend(groups(codes).map(eight::encode)),
        Width::Three => {
            let end = packed.len() + width.row_bytes(codes.len());
            packed.extend(groups(codes).flat_map(three::encode));
            packed.truncate(end);
        }
    }
}

/// Cuts codes into groups of `GROUP`, the last one filled up with zeros.
fn groups<const GROUP: usize>(codes: &[u8]) -> impl Iterator<Item = [u8; GROUP]> {
    codes.chunks(GROUP).map(|chunk| {
        let mut group = [0; GROUP];
        group[..chunk.len()].copy_from_slice(chunk);
        group
    })
}

/// Reads one row of valid packed bytes; `codes.len()` codes are written.
fn unpack_row(width: Width, packed: &[u8], codes: &mut [u8]) {
    match width {
        Width::Ternary => unpack_groups(packed, codes, ternary::decode),
        Width::Two => unpack_groups(packed, codes, two::decode),
        Width::Four => unpack_groups(packed, codes, four::decode),
        Width::Eight => unpack_groups(packed, codes, eight::decode),
        Width::Three => {
            for (bytes, codes) in packed.chunks(three::BYTES).zip(codes.chunks_mut(three::GROUP)) {
                let mut group = [0; three::BYTES];
                group[..bytes.len()].copy_from_slice(bytes);
                codes.copy_from_slice(&three::decode(group)[..codes.len()]);
            }
        }
    }
}

fn unpack_groups<const GROUP: usize>(
    packed: &[u8],
    codes: &mut [u8],
    decode: impl Fn(u8) -> [u8; GROUP],
) {
    for (&byte, codes) in packed.iter().zip(codes.chunks_mut(GROUP)) {
        codes.copy_from_slice(&decode(byte)[..codes.len()]);
    }
}
