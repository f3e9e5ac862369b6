//! Reading tensor by tensor: pieces, order, and files that change meanwhile.

use std::fs::OpenOptions;
use std::io::Write;

use super::fixture::{Parts, config, file, mixed_width, parts, tensors};
use crate::error::ErrorKind;
use crate::format::reader::Reader;
use crate::format::{Container, Encoding, encode};
use crate::model::config::VitConfig;
use crate::{Compute, Model, Session, SessionOptions};

/// A model with tensors that take several pieces.
fn long_config() -> VitConfig {
    VitConfig { embed_dim: 330, mlp_hidden: 1001, num_classes: 3100, ..config() }
}

#[test]
fn pieces_are_whole_rows_and_make_the_tensor() {
    let config = long_config();
    for encoding in [mixed_width, |_| Encoding::F32, |_| Encoding::F16] {
        let tensors = tensors(&config, encoding);
        let bytes = encode(&parts(&config), &tensors).unwrap();
        let mut reader = Reader::from_bytes(&bytes).unwrap();
        let mut cut = 0;
        // From the last to the first, which no file has.
        for tensor in tensors.iter().rev() {
            let row_bytes = tensor.bytes.len() / tensor.shape[0] as usize;
            let (mut found, mut pieces) = (Vec::new(), 0);
            reader
                .rows(&tensor.name, |rows| {
                    assert!(rows.len().is_multiple_of(row_bytes));
                    assert!(rows.len() <= row_bytes.max(1 << 17));
                    found.extend_from_slice(rows);
                    pieces += 1;
                    Ok(())
                })
                .unwrap();
            assert_eq!(found, tensor.bytes.as_ref(), "{}", tensor.name);
            cut += usize::from(pieces > 1);
            let mut found = Vec::new();
            reader
                .values(&tensor.name, |piece| {
                    found.extend_from_slice(piece);
                    Ok(())
                })
                .unwrap();
            assert_eq!(found, tensor.bytes.as_ref(), "{}", tensor.name);
        }
        assert!(cut >= 2);
        assert_eq!(reader.finish().unwrap().file_bytes, bytes.len() as u64);
    }
}

#[test]
fn wrong_values_are_named_by_their_place_in_the_tensor() {
    let config = long_config();
    let mut floats = tensors(&config, |_| Encoding::F32);
    let head = floats.iter_mut().find(|tensor| tensor.name == "head.weight").unwrap();
    head.bytes.to_mut()[4 * 1_000_003..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let error = encode(&parts(&config), &floats).unwrap_err();
    assert!(error.to_string().contains("found NaN at index 1000003"), "{error}");

    let file = encode(&parts(&config), &tensors(&config, |_| Encoding::F32)).unwrap();
    let damaged = Parts::change_of(&file, "head.weight", |bytes| {
        bytes[4 * 1_000_003..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    for error in
        [Container::from_bytes(&damaged).unwrap_err(), Model::from_bytes(&damaged).unwrap_err()]
    {
        assert_eq!((error.kind(), error.tensor()), (ErrorKind::Invalid, Some("head.weight")));
        assert!(error.to_string().contains("found NaN at index 1000003"), "{error}");
    }

    // Three bits: 330 codes end with two bits of padding.
    let three = |_| mixed_width(3);
    let file = encode(&parts(&config), &tensors(&config, three)).unwrap();
    let damaged = Parts::change_of(&file, "head.weight", |bytes| bytes[124 * 3001 - 1] |= 0x80);
    let error = Model::from_bytes(&damaged).unwrap_err();
    assert_eq!((error.kind(), error.tensor()), (ErrorKind::Invalid, Some("head.weight")));
    assert!(error.to_string().contains("row 3000"), "{error}");
}

#[test]
fn tensors_may_stand_in_any_order() {
    let original = file();
    let reversed = Parts::new().reversed().assemble();
    assert_ne!(original, reversed);
    let container = Container::from_bytes(&reversed).unwrap();
    for view in Container::from_bytes(&original).unwrap().tensors() {
        assert_eq!(container.tensor(&view.entry.name).unwrap().bytes, view.bytes);
    }
    let run = |file: &[u8]| {
        let model = Model::from_bytes(file).unwrap();
        let options = SessionOptions { threads: 1, compute: Compute::F32, ..Default::default() };
        Session::new(&model, options).unwrap().run(&[0.5; 24], 1).unwrap().to_vec()
    };
    assert_eq!(run(&original), run(&reversed));
}

#[test]
fn what_was_not_asked_for_is_checked_too() {
    let file = file();
    Reader::from_bytes(&file).unwrap().finish().unwrap();
    let mut damaged = file.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let mut reader = Reader::from_bytes(&damaged).unwrap();
    reader.values("cls_token", |_| Ok(())).unwrap();
    assert_eq!(reader.finish().err().unwrap().kind(), ErrorKind::Corrupt);
    let mut reader = Reader::from_bytes(&file).unwrap();
    let error = reader.values("absent", |_| Ok(())).unwrap_err();
    assert_eq!((error.kind(), error.tensor()), (ErrorKind::Invalid, Some("absent")));
}

#[test]
fn files_that_change_while_they_are_read_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.fresnel");
    let file = file();

    std::fs::write(&path, &file).unwrap();
    let reader = Reader::open(&path).unwrap();
    let mut changed = OpenOptions::new().append(true).open(&path).unwrap();
    changed.write_all(&[0]).unwrap();
    let error = reader.finish().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(error.offset(), Some(file.len() as u64));

    std::fs::write(&path, &file).unwrap();
    let reader = Reader::open(&path).unwrap();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(file.len() as u64 - 1).unwrap();
    assert_eq!(reader.finish().err().unwrap().kind(), ErrorKind::Truncated);
}
