//! Reading: every rule is enforced, in an order that keeps a hostile file from costing anything.
//!
//! 1. the 64 bytes of the header, and the lengths in it against the real length;
//! 2. the manifest (at most 1 MiB): checksum, decoding, every rule that needs no data;
//! 3. the data section, into one aligned buffer of exactly the length now known to be right;
//! 4. per tensor: checksum, finite numbers, scales that are not negative, valid codes; zero padding.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::aligned::AlignedBytes;
use super::header::{self, HEADER_BYTES, Header, MAGIC, MINOR};
use super::limits::MAX_EXTENSIONS;
use super::manifest::{Manifest, TensorEntry};
use super::validate;
use crate::error::{Error, ErrorKind};

/// A file that has passed every check: its manifest and the data of its tensors.
pub struct Container {
    manifest: Manifest,
    data: AlignedBytes,
    file_bytes: u64,
    /// Where each tensor stands in the manifest.
    index: HashMap<String, usize>,
}

const _: () = {
    const fn shared_between_threads<T: Send + Sync>() {}
    shared_between_threads::<Container>();
};

/// One tensor of a [`Container`].
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// Name, shape and encoding.
    pub entry: &'a TensorEntry,
    /// The encoded values, little-endian; starts at an address divisible by 64.
    pub bytes: &'a [u8],
}

impl Container {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be read; [`ErrorKind::NotAFresnelFile`],
    /// [`ErrorKind::UnsupportedVersion`], [`ErrorKind::Truncated`], [`ErrorKind::Corrupt`],
    /// [`ErrorKind::Limit`] or [`ErrorKind::Invalid`] when it breaks a rule of the format. The error
    /// names the file, and the tensor or byte where there is one.
    pub fn open(path: impl AsRef<Path>) -> Result<Container, Error> {
        let path = path.as_ref();
        let open = || {
            let failed = |source| Error::io("cannot open", source);
            // Before opening, which would wait for ever at a pipe.
            if !std::fs::metadata(path).map_err(failed)?.is_file() {
                return Err(Error::new(ErrorKind::Io, "expected a file, found something else"));
            }
            let file = File::open(path).map_err(failed)?;
            let about = file.metadata().map_err(failed)?;
            read(file, about.len())
        };
        open().map_err(|error| error.at_path(path))
    }

    /// Reads a file that is already in memory; the tensors' data is copied.
    ///
    /// # Errors
    /// As [`open`](Self::open), but for [`ErrorKind::Io`].
    pub fn from_bytes(bytes: impl AsRef<[u8]>) -> Result<Container, Error> {
        let bytes = bytes.as_ref();
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        read(bytes, length)
    }

    /// Everything but the tensors' data.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Length of the file.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// The tensor called `name`, where there is one.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let entry = self.manifest.tensors.get(*self.index.get(name)?)?;
        Some(TensorView { entry, bytes: slice(self.data.as_slice(), entry.offset, entry.length)? })
    }

    /// Every tensor, in the order of the file.
    pub fn tensors(&self) -> impl Iterator<Item = TensorView<'_>> {
        self.manifest.tensors.iter().filter_map(|entry| self.tensor(&entry.name))
    }
}

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Container")
            .field("architecture", &self.manifest.config.architecture)
            .field("tensors", &self.manifest.tensors.len())
            .field("file_bytes", &self.file_bytes)
            .finish_non_exhaustive()
    }
}

/// Reads a file of `length` bytes.
fn read(mut reader: impl Read, length: u64) -> Result<Container, Error> {
    let header = read_header(&mut reader, length)?;
    let manifest = read_manifest(&mut reader, &header)?;

    let manifest_end = header_bytes().saturating_add(header.manifest_len.into());
    let padding =
        read_vec(&mut reader, header.data_offset().saturating_sub(manifest_end), manifest_end)?;
    zeros(&padding, manifest_end)?;
    let data = AlignedBytes::read(&mut reader, header.data_len)
        .map_err(|error| error.at_offset(header.data_offset()))?;
    // The length was known beforehand, but the file may have grown since.
    let mut more = Vec::new();
    let found = reader.take(1).read_to_end(&mut more);
    if found.map_err(|source| read_failed(source, header.file_len()))? != 0 {
        return Err(too_long(header.file_len()));
    }

    check_data(&manifest.tensors, data.as_slice(), header.data_offset())?;
    let index =
        manifest.tensors.iter().enumerate().map(|(at, entry)| (entry.name.clone(), at)).collect();
    Ok(Container { manifest, data, file_bytes: header.file_len(), index })
}

fn header_bytes() -> u64 {
    u64::try_from(HEADER_BYTES).unwrap_or(u64::MAX)
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

/// Checks every tensor's data and the padding between the tensors; `data_offset` is for messages.
fn check_data(tensors: &[TensorEntry], data: &[u8], data_offset: u64) -> Result<(), Error> {
    let mut end = 0_u64;
    for entry in tensors {
        let at = data_offset.saturating_add(end);
        let gap = slice(data, end, entry.offset.saturating_sub(end)).ok_or_else(outside)?;
        zeros(gap, at)?;
        let bytes = slice(data, entry.offset, entry.length).ok_or_else(outside)?;
        validate::values(entry, bytes)
            .map_err(|error| error.at_offset(data_offset.saturating_add(entry.offset)))?;
        end = entry.offset.saturating_add(entry.length);
    }
    Ok(())
}

/// `length` bytes of `data` from `offset`, where they exist.
fn slice(data: &[u8], offset: u64, length: u64) -> Option<&[u8]> {
    let offset = usize::try_from(offset).ok()?;
    let length = usize::try_from(length).ok()?;
    data.get(offset..)?.get(..length)
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

fn zeros(padding: &[u8], offset: u64) -> Result<(), Error> {
    if padding.iter().any(|&byte| byte != 0) {
        return Err(Error::new(ErrorKind::Corrupt, "the padding is not zero: the file is damaged")
            .at_offset(offset));
    }
    Ok(())
}

fn damaged(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, message).at_offset(header_bytes())
}

fn outside() -> Error {
    Error::new(ErrorKind::Corrupt, "a tensor lies outside the data section")
}

fn truncated(expected: u64, found: u64) -> Error {
    Error::new(
        ErrorKind::Truncated,
        format!("the file is cut off: expected {expected} bytes, found {found}"),
    )
    .at_offset(found)
}

fn too_long(expected: u64) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the file goes on after its end at byte {expected}"))
        .at_offset(expected)
}

/// The file became shorter while it was read, or cannot be read.
fn read_failed(source: std::io::Error, offset: u64) -> Error {
    if source.kind() == std::io::ErrorKind::UnexpectedEof {
        return Error::new(ErrorKind::Truncated, "the file is cut off").at_offset(offset);
    }
    Error::io("cannot read", source).at_offset(offset)
}
