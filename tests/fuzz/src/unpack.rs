//! Packed codes against a reader of the specification's words.

use arbitrary::{Result, Unstructured};
use fresnel_kernels::{Width, pack};

/// Reads any bytes as a matrix of codes, as the kernels do and by the words of the specification.
///
/// # Panics
/// When the two disagree, when validation and reading do, or when codes are packed to other bytes.
pub fn unpack(bytes: &[u8]) {
    let _ = compare(&mut Unstructured::new(bytes));
}

fn compare(u: &mut Unstructured<'_>) -> Result<()> {
    let width = *u.choose(&Width::ALL)?;
    let rows = u.int_in_range(0..=9)?;
    let columns = u.int_in_range(0..=70)?;
    // Mostly the right length, and digits that are mostly valid.
    let length =
        if u.ratio(1, 16)? { u.int_in_range(0..=700)? } else { rows * width.row_bytes(columns) };
    let mut packed = u.bytes(length.min(u.len()))?.to_vec();
    packed.resize(length, 0);

    let expected = specified(width, rows, columns, &packed);
    let found = pack::unpack(width, rows, columns, &packed);
    let valid = pack::validate(width, rows, columns, &packed);
    assert_eq!(found.is_ok(), valid.is_ok(), "{valid:?}");
    assert_eq!(found.as_ref().ok(), expected.as_ref(), "{width:?} {rows} x {columns}: {found:?}");
    if let Ok(codes) = found {
        assert_eq!(pack::pack(width, rows, columns, &codes).expect("codes"), packed);
    }
    Ok(())
}

/// The codes by the words of `FORMAT.md`, one after the other; nothing where a rule is broken.
fn specified(width: Width, rows: usize, columns: usize, packed: &[u8]) -> Option<Vec<u8>> {
    let row_bytes = match width {
        Width::Ternary => columns.div_ceil(5),
        Width::Two => columns.div_ceil(4),
        Width::Three => (3 * columns).div_ceil(8),
        Width::Four => columns.div_ceil(2),
        Width::Eight => columns,
    };
    if packed.len() != rows * row_bytes {
        return None;
    }
    let mut codes = Vec::new();
    for row in 0..rows {
        let bytes = &packed[row * row_bytes..][..row_bytes];
        // All codes that the bytes hold, those of the padding too.
        let all: Vec<u8> = match width {
            Width::Ternary => {
                bytes.iter().map(|&byte| digits(byte)).collect::<Option<Vec<_>>>()?.concat()
            }
            Width::Two => fields(bytes, 2),
            Width::Three => fields(bytes, 3),
            Width::Four => fields(bytes, 4),
            Width::Eight => bytes.to_vec(),
        };
        let (used, padding) = all.split_at(columns);
        if padding.iter().any(|&code| code != 0) {
            return None;
        }
        codes.extend_from_slice(used);
    }
    Some(codes)
}

/// The bytes as one number, least significant first, cut into fields; the last may be short.
fn fields(bytes: &[u8], bits: usize) -> Vec<u8> {
    let all: Vec<u8> =
        bytes.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1)).collect();
    all.chunks(bits).map(|field| field.iter().rev().fold(0, |code, bit| code << 1 | bit)).collect()
}

/// The five ternary digits of a byte, which is `ceil(value * 256 / 243)` of a value in base 3.
fn digits(byte: u8) -> Option<[u8; 5]> {
    let value = (0..243_u32).find(|value| (value * 256).div_ceil(243) == u32::from(byte))?;
    Some([81, 27, 9, 3, 1].map(|place| (value / place % 3) as u8))
}
