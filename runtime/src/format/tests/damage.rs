//! Damage of any kind is noticed.

use super::fixture::{Parts, assemble, file, seal_header};
use crate::Model;
use crate::error::ErrorKind;
use crate::format::Container;

/// Why `bytes` are refused, by those who read all of it and by those who pick tensors by name.
fn kind(bytes: &[u8]) -> ErrorKind {
    let kind = Container::from_bytes(bytes).expect_err("damage must be noticed").kind();
    assert_eq!(Model::from_bytes(bytes).expect_err("damage must be noticed").kind(), kind);
    kind
}

#[test]
fn truncation_at_every_length_is_noticed() {
    let file = file();
    for length in 0..file.len() {
        let error = Container::from_bytes(&file[..length]).expect_err("cut off");
        assert_eq!(error.kind(), ErrorKind::Truncated, "length {length}: {error}");
        assert_eq!(error.offset(), Some(length as u64));
        assert_eq!(kind(&file[..length]), ErrorKind::Truncated);
    }
}

#[test]
fn truncation_on_disk_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.fresnel");
    let file = file();
    for length in [0, 7, 8, 63, 64, 65, 500, file.len() - 1] {
        std::fs::write(&path, &file[..length]).unwrap();
        for error in [Container::open(&path).unwrap_err(), Model::open(&path).unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Truncated, "{error}");
            assert_eq!(error.path(), Some(path.as_path()));
        }
    }
}

#[test]
fn every_single_bit_flip_is_noticed() {
    let mut file = file();
    for at in 0..file.len() {
        for bit in 0..8 {
            file[at] ^= 1 << bit;
            let expected = if at < 8 { ErrorKind::NotAFresnelFile } else { ErrorKind::Corrupt };
            assert_eq!(kind(&file), expected, "bit {bit} of byte {at}");
            file[at] ^= 1 << bit;
        }
    }
    Container::from_bytes(&file).unwrap();
    Model::from_bytes(&file).unwrap();
}

#[test]
fn appended_bytes_are_noticed() {
    for extra in [1, 63, 64, 1000] {
        let mut file = file();
        file.resize(file.len() + extra, 0);
        assert_eq!(kind(&file), ErrorKind::Corrupt);
    }
}

#[test]
fn other_files_are_told_apart() {
    for bytes in [b"\x89PNG\r\n\x1a\n".to_vec(), vec![0; 1000], b"GGUF".to_vec(), b"x".to_vec()] {
        assert_eq!(kind(&bytes), ErrorKind::NotAFresnelFile);
    }
    // A transfer as text that turned CR LF into LF.
    let text: Vec<u8> = file().into_iter().filter(|&byte| byte != b'\r').collect();
    assert_eq!(kind(&text), ErrorKind::NotAFresnelFile);
}

#[test]
fn padding_must_be_zero() {
    let original = Parts::new();
    let ends: Vec<usize> = original
        .manifest
        .tensors
        .iter()
        .map(|entry| (entry.offset + entry.length) as usize)
        .collect();
    // The first byte behind every tensor that padding follows; the last one ends the file.
    let mut tried = 0;
    for end in &ends[..ends.len() - 1] {
        if !end.is_multiple_of(64) {
            let mut parts = Parts::new();
            parts.data[*end] = 1;
            assert_eq!(kind(&parts.assemble()), ErrorKind::Corrupt);
            tried += 1;
        }
    }
    assert!(tried > 10);
    // Between manifest and data.
    let mut file = original.assemble();
    let data_offset = file.len() - original.data.len();
    assert_eq!(file[data_offset - 1], 0);
    file[data_offset - 1] = 1;
    assert_eq!(kind(&file), ErrorKind::Corrupt);
}

#[test]
fn versions_and_flags() {
    let with_header = |change: fn(&mut [u8])| {
        let mut file = file();
        change(&mut file);
        seal_header(&mut file);
        file
    };
    for major in [0, 2, u16::MAX] {
        let mut file = file();
        file[8..10].copy_from_slice(&major.to_le_bytes());
        seal_header(&mut file);
        assert_eq!(kind(&file), ErrorKind::UnsupportedVersion);
    }
    for bit in 0..32 {
        let mut parts = Parts::new();
        parts.flags = 1 << bit;
        assert_eq!(kind(&parts.assemble()), ErrorKind::UnsupportedVersion);
    }
    // A later minor version without unknown must-understand flags is read, with and without extensions.
    let mut parts = Parts::new();
    parts.minor = 7;
    Container::from_bytes(parts.assemble()).unwrap();
    parts.tail = [&[1, 0, 0, 0, 3, 0, 0, 0, 9, 9, 9][..], &[2, 0, 0, 0, 0, 0, 0, 0]].concat();
    Container::from_bytes(parts.assemble()).unwrap();
    // Its extensions must be whole records, and not too many.
    for tail in [vec![1], vec![1, 0, 0, 0, 1, 0, 0, 0], vec![0xff; 12]] {
        parts.tail = tail;
        assert_eq!(kind(&parts.assemble()), ErrorKind::Corrupt);
    }
    parts.tail = vec![0; 8 * 64];
    Container::from_bytes(parts.assemble()).unwrap();
    parts.tail = vec![0; 8 * 65];
    assert_eq!(kind(&parts.assemble()), ErrorKind::Limit);
    // Version 1.0 has none.
    parts.minor = 0;
    parts.tail = vec![0; 8];
    assert_eq!(kind(&parts.assemble()), ErrorKind::Corrupt);
    // A later minor version may use a value that this reader lacks.
    assert_eq!(kind(&assemble(&[0xff; 80], &[], 1, 0)), ErrorKind::UnsupportedVersion);
    assert_eq!(kind(&assemble(&[0xff; 80], &[], 0, 0)), ErrorKind::Corrupt);

    // The rest of the header.
    assert_eq!(kind(&with_header(|file| file[12] = 65)), ErrorKind::Corrupt);
    assert_eq!(kind(&with_header(|file| file[28] = 1)), ErrorKind::Corrupt);
    assert_eq!(kind(&with_header(|file| file[59] = 1)), ErrorKind::Corrupt);
    assert_eq!(kind(&with_header(|file| file[20..24].fill(0))), ErrorKind::Corrupt);
    assert_eq!(kind(&with_header(|file| file[20..24].fill(0xff))), ErrorKind::Limit);
    assert_eq!(kind(&with_header(|file| file[32] ^= 64)), ErrorKind::Corrupt);
    assert_eq!(kind(&with_header(|file| file[40..48].fill(0xff))), ErrorKind::Limit);
    assert_eq!(kind(&with_header(|file| file[48..56].fill(0xff))), ErrorKind::Limit);
    assert_eq!(kind(&with_header(|file| file[46] = 1)), ErrorKind::Limit);
    assert_eq!(kind(&with_header(|file| file[44] = 1)), ErrorKind::Corrupt);
    assert_eq!(kind(&with_header(|file| (file[44], file[52]) = (1, 1))), ErrorKind::Truncated);
}
