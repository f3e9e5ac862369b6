//! The fixed 64 bytes at the start of a file.
//!
//! ```text
//!  0        8     10    12          16      20            24             28
//! +--------+-----+-----+-----------+-------+-------------+--------------+----------+
//! | magic  |major|minor|header_len | flags | manifest_len| manifest_crc | reserved |
//! +--------+-----+-----+-----------+-------+-------------+--------------+----------+
//!  32             40           48           56         60
//! +--------------+------------+------------+----------+------------+
//! | data_offset  | data_len   | file_len   | reserved | header_crc |
//! +--------------+------------+------------+----------+------------+
//! ```
//! All integers are little-endian; `header_crc` is the CRC-32 of bytes 0..60. This layout is the same in
//! every version, so that a reader of any age can tell damage from novelty.

use super::limits::{MAX_FILE_BYTES, MAX_MANIFEST_BYTES};
use crate::error::{Error, ErrorKind};

/// The first eight bytes. As in PNG, the high bit, the line ends and the end-of-file mark reveal a
/// transfer that treated the file as text.
pub const MAGIC: [u8; 8] = *b"\x89FRSL\r\n\x1a";
/// The major version written and read; any other is refused.
pub const MAJOR: u16 = 1;
/// The minor version written.
pub const MINOR: u16 = 0;
/// Length of the header in bytes.
pub const HEADER_BYTES: usize = 64;
/// Every tensor, and the data section itself, starts at a multiple of this many bytes.
pub const ALIGNMENT: u64 = 64;
/// The must-understand flags that this reader knows: none are defined in version 1.0.
pub const KNOWN_FLAGS: u32 = 0;

const HEADER_LEN: u32 = 64;

/// The header's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Minor version of the file.
    pub minor: u16,
    /// Must-understand flags; a reader refuses a file with a flag it does not know.
    pub flags: u32,
    /// Length of the manifest, extension records included; it starts right after the header.
    pub manifest_len: u32,
    /// CRC-32 of the manifest's bytes.
    pub manifest_crc32: u32,
    /// Length of the data section: up to the end of the last tensor.
    pub data_len: u64,
}

impl Header {
    /// First byte of the data section: the end of the manifest, rounded up to [`ALIGNMENT`].
    pub fn data_offset(&self) -> u64 {
        let end = u64::from(HEADER_LEN).saturating_add(u64::from(self.manifest_len));
        // `end` is below 2^33: rounding up cannot overflow.
        end.next_multiple_of(ALIGNMENT)
    }

    /// Length of the whole file.
    pub fn file_len(&self) -> u64 {
        self.data_offset().saturating_add(self.data_len)
    }

    /// The 64 bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&MAJOR.to_le_bytes());
        bytes.extend_from_slice(&self.minor.to_le_bytes());
        bytes.extend_from_slice(&HEADER_LEN.to_le_bytes());
        bytes.extend_from_slice(&self.flags.to_le_bytes());
        bytes.extend_from_slice(&self.manifest_len.to_le_bytes());
        bytes.extend_from_slice(&self.manifest_crc32.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.data_offset().to_le_bytes());
        bytes.extend_from_slice(&self.data_len.to_le_bytes());
        bytes.extend_from_slice(&self.file_len().to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        let crc32 = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc32.to_le_bytes());
        let mut header = [0; HEADER_BYTES];
        for (to, from) in header.iter_mut().zip(bytes) {
            *to = from;
        }
        header
    }

    /// Reads and checks the header: everything that can be told without the file's length.
    ///
    /// # Errors
    /// [`ErrorKind::NotAFresnelFile`] for another magic, [`ErrorKind::Corrupt`] for a wrong checksum or
    /// contradicting lengths, [`ErrorKind::UnsupportedVersion`] for another major version or an unknown
    /// must-understand flag, [`ErrorKind::Limit`] for lengths beyond [`limits`](super::limits).
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Header, Error> {
        let mut fields = Fields { rest: bytes };
        if fields.take() != MAGIC {
            return Err(not_a_fresnel_file());
        }
        let major = u16::from_le_bytes(fields.take());
        let minor = u16::from_le_bytes(fields.take());
        let header_len = u32::from_le_bytes(fields.take());
        let flags = u32::from_le_bytes(fields.take());
        let manifest_len = u32::from_le_bytes(fields.take());
        let manifest_crc32 = u32::from_le_bytes(fields.take());
        let reserved_first: [u8; 4] = fields.take();
        let data_offset = u64::from_le_bytes(fields.take());
        let data_len = u64::from_le_bytes(fields.take());
        let file_len = u64::from_le_bytes(fields.take());
        let reserved_second: [u8; 4] = fields.take();
        let crc32 = u32::from_le_bytes(fields.take());

        let (covered, _) = bytes.split_last_chunk::<4>().unwrap_or((&[], &[0; 4]));
        if crc32fast::hash(covered) != crc32 {
            return Err(corrupt("the header's checksum does not match: the file is damaged", 60));
        }
        if major != MAJOR {
            return Err(Error::new(
                ErrorKind::UnsupportedVersion,
                format!("the file has format version {major}.{minor}, this program reads version {MAJOR}"),
            )
            .at_offset(8));
        }
        let unknown = flags & !KNOWN_FLAGS;
        if unknown != 0 {
            return Err(Error::new(
                ErrorKind::UnsupportedVersion,
                format!(
                    "the file (version {major}.{minor}) needs features that this program does not know \
                     (flags {unknown:#x}); a newer release can read it"
                ),
            )
            .at_offset(16));
        }
        if header_len != HEADER_LEN {
            return Err(corrupt(
                format!("expected a header of {HEADER_LEN} bytes, found {header_len}"),
                12,
            ));
        }
        if reserved_first != [0; 4] || reserved_second != [0; 4] {
            return Err(corrupt("reserved bytes of the header are not zero", 28));
        }
        if manifest_len == 0 {
            return Err(corrupt("the manifest is empty", 20));
        }
        if manifest_len > MAX_MANIFEST_BYTES {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("the manifest has {manifest_len} bytes, at most {MAX_MANIFEST_BYTES} are allowed"),
            )
            .at_offset(20));
        }
        if file_len > MAX_FILE_BYTES || data_len > MAX_FILE_BYTES {
            return Err(Error::new(
                ErrorKind::Limit,
                format!(
                    "the header states {file_len} bytes in all and {data_len} of data, at most \
                     {MAX_FILE_BYTES} are allowed"
                ),
            )
            .at_offset(40));
        }
        let header = Header { minor, flags, manifest_len, manifest_crc32, data_len };
        if data_offset != header.data_offset() || file_len != header.file_len() {
            return Err(corrupt(
                format!(
                    "the header's lengths contradict each other: data at {data_offset} (expected {}), \
                     {file_len} bytes in all (expected {})",
                    header.data_offset(),
                    header.file_len()
                ),
                32,
            ));
        }
        Ok(header)
    }
}

/// The error for bytes that begin otherwise than a `.fresnel` file.
pub(super) fn not_a_fresnel_file() -> Error {
    Error::new(
        ErrorKind::NotAFresnelFile,
        "not a .fresnel file: it does not begin with the format's eight magic bytes; `fresnel quantize` makes \
         such files of timm checkpoints",
    )
    .at_offset(0)
}

fn corrupt(message: impl Into<String>, offset: u64) -> Error {
    Error::new(ErrorKind::Corrupt, message).at_offset(offset)
}

/// Consecutive fields of a byte string.
struct Fields<'a> {
    rest: &'a [u8],
}

impl Fields<'_> {
    /// The next `N` bytes; zeros beyond the end, which the header's fixed length rules out.
    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.rest.split_first_chunk() {
            Some((field, rest)) => {
                self.rest = rest;
                *field
            }
            None => [0; N],
        }
    }
}
