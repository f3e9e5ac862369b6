//! What is checked in a file's structure before its decoder runs.

use crate::error::{Error, ErrorKind};

/// Width and height from the first chunk of a PNG, where they always stand.
pub(super) fn png_dimensions(bytes: &[u8]) -> Option<(u32, u32)> {
    let width = bytes.get(16..20)?.try_into().ok()?;
    let height = bytes.get(20..24)?.try_into().ok()?;
    Some((u32::from_be_bytes(width), u32::from_be_bytes(height)))
}

/// Refuses palettes that are not whole RGB entries, or too many: the decoder trusts them.
///
/// # Errors
/// [`ErrorKind::Image`] with the offset of the palette.
pub(super) fn check_png_palette(bytes: &[u8]) -> Result<(), Error> {
    // Behind the signature: chunks of length, type, content and checksum.
    let mut offset = 8_usize;
    while let Some(&[l0, l1, l2, l3, ref name @ ..]) =
        bytes.get(offset..).and_then(|rest| rest.first_chunk::<8>())
    {
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        match name {
            b"PLTE" if length == 0 || length % 3 != 0 || length > 3 * 256 => {
                let message = format!(
                    "the PNG file is damaged: expected a palette of 1 to 256 entries of 3 bytes, \
                     found {length} bytes"
                );
                return Err(Error::new(ErrorKind::Image, message).at_offset(offset as u64));
            }
            // The palette stands before the pixels.
            b"IDAT" | b"IEND" => break,
            _ => {}
        }
        let next = offset.checked_add(length as usize).and_then(|end| end.checked_add(12));
        let Some(next) = next else { break };
        offset = next;
    }
    Ok(())
}

/// Whether the end-of-image marker of a JPEG is there. The decoder fills what is missing with grey,
/// without a word, so the file's segments are walked once here.
pub(super) fn jpeg_is_complete(bytes: &[u8]) -> bool {
    // Behind the start-of-image marker.
    let mut rest = bytes.get(2..).unwrap_or_default();
    // Anything up to the next 0xFF is compressed data (or junk that decoders skip).
    while let Some(position) = rest.iter().position(|&byte| byte == 0xFF) {
        rest = &rest[position..];
        let Some(fill) = rest.iter().position(|&byte| byte != 0xFF) else {
            return false;
        };
        let marker = rest[fill];
        rest = &rest[fill + 1..];
        match marker {
            0xD9 => return true,
            // A stuffed byte of compressed data, a temporary or restart marker, a second start:
            // no length follows.
            0x00 | 0x01 | 0xD0..=0xD8 => {}
            _ => {
                let Some(&[high, low]) = rest.first_chunk::<2>() else {
                    return false;
                };
                let length = usize::from(u16::from_be_bytes([high, low]));
                let Some(behind) = rest.get(length..) else {
                    return false;
                };
                rest = behind;
            }
        }
    }
    false
}
