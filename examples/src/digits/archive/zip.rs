//! The part of the zip format that NumPy writes: members stored or deflated, no encryption, no zip64.
//!
//! ```text
//! [local header, name, extra, data]* [directory entry, name, extra, comment]* [end record, comment]
//! ```
//!
//! Everything is found from the end record backwards, and every offset and length is checked against
//! the bytes that are there. Integers are little-endian. Source: PKWARE's APPNOTE 6.3, section 4.3.

use std::io::Read;

use flate2::Crc;
use flate2::read::DeflateDecoder;

const END_RECORD: &[u8] = b"PK\x05\x06";
const END_RECORD_BYTES: usize = 22;
const MAX_COMMENT_BYTES: usize = 0xffff;
const DIRECTORY_ENTRY: &[u8] = b"PK\x01\x02";
const DIRECTORY_ENTRY_BYTES: usize = 46;
const LOCAL_HEADER: &[u8] = b"PK\x03\x04";
const LOCAL_HEADER_BYTES: usize = 30;
const STORED: usize = 0;
const DEFLATED: usize = 8;

/// The decompressed bytes of member `name` of `archive`, at most `limit` of them.
///
/// # Errors
/// Says in words what is wrong: no zip, no such member, a member that is cut off, compressed in
/// another way, longer than `limit` or of another checksum than stated.
pub(super) fn read_member(archive: &[u8], name: &str, limit: usize) -> Result<Vec<u8>, String> {
    let member = find(archive, name)?;
    let cut_off = || format!("member {name} of the archive is cut off");
    let header = archive.get(member.offset..).ok_or_else(cut_off)?;
    let (header, rest) = header
        .split_at_checked(LOCAL_HEADER_BYTES)
        .filter(|(header, _)| header.starts_with(LOCAL_HEADER))
        .ok_or_else(cut_off)?;
    // The local header repeats the name and has an extra field of its own.
    let skipped = number::<2>(header, 26) + number::<2>(header, 28);
    let data = rest
        .get(skipped..)
        .and_then(|rest| rest.get(..member.compressed_bytes))
        .ok_or_else(cut_off)?;
    if member.bytes > limit {
        return Err(format!(
            "member {name} of the archive has {} bytes, more than the {limit} expected at most",
            member.bytes
        ));
    }
    let bytes = match member.method {
        STORED => data.to_vec(),
        DEFLATED => {
            let mut bytes = Vec::with_capacity(member.bytes);
            // One byte more than stated, so that a longer stream is noticed and not followed.
            DeflateDecoder::new(data)
                .take(member.bytes as u64 + 1)
                .read_to_end(&mut bytes)
                .map_err(|error| format!("cannot decompress member {name}: {error}"))?;
            bytes
        }
        method => {
            return Err(format!(
                "member {name} is compressed with method {method}, expected stored or deflated"
            ));
        }
    };
    let mut crc = Crc::new();
    crc.update(&bytes);
    if bytes.len() != member.bytes || crc.sum() as usize != member.crc32 {
        return Err(format!("member {name} of the archive is damaged"));
    }
    Ok(bytes)
}

/// What the directory says about a member.
struct Member {
    method: usize,
    crc32: usize,
    compressed_bytes: usize,
    bytes: usize,
    offset: usize,
}

/// Looks `name` up in the directory of `archive`.
fn find(archive: &[u8], name: &str) -> Result<Member, String> {
    let no_zip = || "not an .npz archive: no zip directory found".to_owned();
    let earliest = archive.len().saturating_sub(END_RECORD_BYTES + MAX_COMMENT_BYTES);
    let end = archive[earliest..]
        .windows(END_RECORD_BYTES)
        .rfind(|window| window.starts_with(END_RECORD))
        .ok_or_else(no_zip)?;
    let (count, offset) = (number::<2>(end, 10), number::<4>(end, 16));
    let mut directory = archive.get(offset..).ok_or_else(no_zip)?;
    for _ in 0..count {
        let (entry, rest) = directory
            .split_at_checked(DIRECTORY_ENTRY_BYTES)
            .filter(|(entry, _)| entry.starts_with(DIRECTORY_ENTRY))
            .ok_or_else(no_zip)?;
        let name_bytes = number::<2>(entry, 28);
        if rest.get(..name_bytes) == Some(name.as_bytes()) {
            return Ok(Member {
                method: number::<2>(entry, 10),
                crc32: number::<4>(entry, 16),
                compressed_bytes: number::<4>(entry, 20),
                bytes: number::<4>(entry, 24),
                offset: number::<4>(entry, 42),
            });
        }
        let skipped = name_bytes + number::<2>(entry, 30) + number::<2>(entry, 32);
        directory = rest.get(skipped..).ok_or_else(no_zip)?;
    }
    Err(format!("the archive has no member {name}"))
}

/// The little-endian integer of `N` bytes at `offset` of a record whose length is known.
fn number<const N: usize>(record: &[u8], offset: usize) -> usize {
    record[offset..offset + N].iter().rev().fold(0, |number, &byte| number << 8 | usize::from(byte))
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::DeflateEncoder;

    use super::*;

    /// Writes a zip with `members`, deflated or stored.
    pub(in super::super) fn write(members: &[(&str, &[u8])], deflated: bool) -> Vec<u8> {
        let (mut archive, mut directory) = (Vec::new(), Vec::new());
        for (name, bytes) in members {
            let mut crc = Crc::new();
            crc.update(bytes);
            let data = if deflated {
                let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            } else {
                bytes.to_vec()
            };
            // Version, flags, method, time and date, checksum, sizes, length of name and extra.
            let mut fields = vec![20, 0, 0, 0, if deflated { 8 } else { 0 }, 0, 0, 0, 0, 0];
            fields.extend(crc.sum().to_le_bytes());
            fields.extend((data.len() as u32).to_le_bytes());
            fields.extend((bytes.len() as u32).to_le_bytes());
            fields.extend((name.len() as u32).to_le_bytes());
            let offset = archive.len() as u32;
            archive.extend(LOCAL_HEADER.iter().chain(&fields).chain(name.as_bytes()));
            archive.extend(data);
            directory.extend(DIRECTORY_ENTRY.iter().chain(&[20, 0]).chain(&fields));
            directory.extend([0; 10]);
            directory.extend(offset.to_le_bytes());
            directory.extend(name.as_bytes());
        }
        let offset = archive.len() as u32;
        let count = (members.len() as u16).to_le_bytes();
        archive.extend(&directory);
        archive.extend(END_RECORD.iter().chain(&[0; 4]).chain(&count).chain(&count));
        archive.extend((directory.len() as u32).to_le_bytes());
        archive.extend(offset.to_le_bytes());
        archive.extend([0, 0]);
        archive
    }

    const TEXT: &[u8] = b"the same words and the same words and the same words";

    #[test]
    fn reads_stored_and_deflated_members() {
        for deflated in [false, true] {
            let archive = write(&[("first", b"one"), ("second", TEXT)], deflated);
            assert_eq!(read_member(&archive, "second", 100).unwrap(), TEXT);
            assert_eq!(read_member(&archive, "first", 3).unwrap(), b"one");
        }
    }

    #[test]
    fn rejects_missing_and_too_long_members() {
        let archive = write(&[("first", TEXT)], true);
        let reason = read_member(&archive, "second", 100).unwrap_err();
        assert!(reason.contains("no member second"), "{reason}");
        let reason = read_member(&archive, "first", 10).unwrap_err();
        assert!(reason.contains("more than the 10"), "{reason}");
    }

    #[test]
    fn every_cut_and_every_changed_byte_gives_an_error_or_the_same_bytes() {
        let archive = write(&[("first", TEXT)], true);
        for length in 0..archive.len() {
            assert!(read_member(&archive[..length], "first", 100).is_err());
        }
        for position in 0..archive.len() {
            let mut changed = archive.clone();
            changed[position] ^= 0xff;
            if let Ok(bytes) = read_member(&changed, "first", 100) {
                assert_eq!(bytes, TEXT, "byte {position}");
            }
        }
    }
}
