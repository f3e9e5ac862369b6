//! What stands in front of the tensors' data: header and manifest, checked as far as that goes without the data.

use std::io::Read;

use super::header::{self, HEADER_BYTES, Header, MAGIC, MINOR};
use super::limits::MAX_EXTENSIONS;
use super::manifest::Manifest;
use super::validate;
use crate::error::{Error, ErrorKind};

fn header_bytes() -> u64 {
    u64::try_from(HEADER_BYTES).unwrap_or(u64::MAX)
}

/// Reads header, manifest and the padding behind it from the start of a file of `length` bytes.
///
/// # Errors
/// Whatever can be found wrong without the tensors' data.
pub(super) fn read(reader: &mut impl Read, length: u64) -> Result<(Header, Manifest), Error> {
    let header = read_header(reader, length)?;
    let manifest = read_manifest(reader, &header)?;
    let manifest_end = header_bytes().saturating_add(header.manifest_len.into());
    let padding =
        read_vec(reader, header.data_offset().saturating_sub(manifest_end), manifest_end)?;
    zeros(&padding, manifest_end)?;
    Ok((header, manifest))
}

/// Reads the header and compares its lengths with the real one.
fn read_header(reader: &mut impl Read, length: u64) -> Result<Header, Error> {
    if length < header_bytes() {
        let start = read_vec(reader, length, 0)?;
        let magic = MAGIC.get(..start.len()).unwrap_or(&MAGIC);
        if !start.starts_with(magic) {
            return Err(header::not_a_fresnel_file());
        }
        return Err(truncated(header_bytes(), length));
    }
    let mut bytes = [0; HEADER_BYTES];
    reader.read_exact(&mut bytes).map_err(|source| read_failed(source, 0))?;
    let header = Header::decode(&bytes)?;
    let expected = header.file_len();
    if length < expected {
        return Err(truncated(expected, length));
    }
    if length > expected {
        return Err(too_long(expected));
    }
    Ok(header)
}

/// Reads the manifest and checks all that it says by itself.
fn read_manifest(reader: &mut impl Read, header: &Header) -> Result<Manifest, Error> {
    let bytes = read_vec(reader, header.manifest_len.into(), header_bytes())?;
    if crc32fast::hash(&bytes) != header.manifest_crc32 {
        return Err(damaged("the manifest's checksum does not match: the file is damaged"));
    }
    let manifest = decode_manifest(&bytes, header.minor)?;
    validate::manifest(&manifest, header.data_len)?;
    Ok(manifest)
}

fn decode_manifest(bytes: &[u8], minor: u16) -> Result<Manifest, Error> {
    let (manifest, rest) = postcard::take_from_bytes::<Manifest>(bytes).map_err(|source| {
        if minor > MINOR {
            // A later minor version may use a variant of an enum that this one lacks.
            let message = format!(
                "the manifest of version 1.{minor} cannot be decoded; a newer release can read it"
            );
            Error::new(ErrorKind::UnsupportedVersion, message)
                .at_offset(header_bytes())
                .with_source(source)
        } else {
            damaged("the manifest cannot be decoded: its content is damaged or exceeds a limit")
                .with_source(source)
        }
    })?;
    // One value has one encoding: without this, padded varints would give many files for one model.
    let canonical = postcard::to_allocvec(&manifest)
        .map_err(|source| damaged("the manifest cannot be encoded").with_source(source))?;
    if bytes.strip_suffix(rest) != Some(&canonical) {
        return Err(damaged("the manifest is not in its canonical encoding"));
    }
    if minor == 0 && !rest.is_empty() {
        return Err(damaged(format!("{} bytes follow the manifest's last field", rest.len())));
    }
    check_extensions(rest)?;
    Ok(manifest)
}

/// Checks that `rest` is a sequence of extension records: tag u32, length u32, that many bytes.
///
/// Version 1.0 defines no tag and skips them all: what must be understood has a flag in the header.
fn check_extensions(mut rest: &[u8]) -> Result<(), Error> {
    for _ in 0..MAX_EXTENSIONS {
        if rest.is_empty() {
            return Ok(());
        }
        let record = rest.split_first_chunk::<4>().and_then(|(_, rest)| {
            let (length, rest) = rest.split_first_chunk::<4>()?;
            rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
        });
        let Some((_, behind)) = record else {
            return Err(damaged("an extension record behind the manifest is cut off"));
        };
        rest = behind;
    }
    if rest.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Limit,
        format!("at most {MAX_EXTENSIONS} extension records are allowed"),
    )
    .at_offset(header_bytes()))
}

/// Reads exactly `length` bytes that lie at `offset`; `length` has been checked against a limit.
fn read_vec(reader: &mut impl Read, length: u64, offset: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let found = reader
        .take(length)
        .read_to_end(&mut bytes)
        .map_err(|source| read_failed(source, offset))?;
    let found = u64::try_from(found).unwrap_or(u64::MAX);
    if found != length {
        return Err(truncated(offset.saturating_add(length), offset.saturating_add(found)));
    }
    Ok(bytes)
}

/// Checks that the padding, which lies at `offset`, is zero.
pub(super) fn zeros(padding: &[u8], offset: u64) -> Result<(), Error> {
    if padding.iter().any(|&byte| byte != 0) {
        return Err(Error::new(ErrorKind::Corrupt, "the padding is not zero: the file is damaged")
            .at_offset(offset));
    }
    Ok(())
}

fn damaged(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, message).at_offset(header_bytes())
}

fn truncated(expected: u64, found: u64) -> Error {
    Error::new(
        ErrorKind::Truncated,
        format!("the file is cut off: expected {expected} bytes, found {found}; fetch it again"),
    )
    .at_offset(found)
}

/// The error for bytes behind the end of the file at byte `expected`.
pub(super) fn too_long(expected: u64) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the file goes on after its end at byte {expected}"))
        .at_offset(expected)
}

/// The error for a file that became shorter while it was read, or that cannot be read.
pub(super) fn read_failed(source: std::io::Error, offset: u64) -> Error {
    if source.kind() == std::io::ErrorKind::UnexpectedEof {
        return Error::new(ErrorKind::Truncated, "the file is cut off").at_offset(offset);
    }
    Error::io("cannot read", source).at_offset(offset)
}
