//! Archives are written here byte by byte, so that each rule of the reader has a file breaking it.

use super::*;

fn array(descr: &str, order: &str, shape: &str, elements: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&u16::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(elements);
    bytes
}

fn archive(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let members: Vec<(&str, &[u8])> =
        members.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    zip::tests::write(&members, true)
}

fn two_digits() -> Vec<u8> {
    (0..2 * PIXELS).map(|i| (i % 251) as u8).collect()
}

#[test]
fn reads_images_and_labels() {
    let digits = Digits::parse(&archive(&[
        ("images.npy", array("'|u1'", "False", "(2, 28, 28)", &two_digits())),
        ("labels.npy", array("'|u1'", "False", "(2,)", &[3, 9])),
    ]))
    .unwrap();
    assert_eq!(digits.len(), 2);
    assert_eq!(digits.label(1), 9);
    assert_eq!(digits.image(1), &two_digits()[PIXELS..]);
    assert_eq!(digits.select([1]).labels(), &[9]);
}

#[test]
fn accepts_the_long_header_of_version_two() {
    let short = array("'|u1'", "False", "(3,)", &[1, 2, 3]);
    let mut long = b"\x93NUMPY\x02\x00".to_vec();
    let length = u16::from_le_bytes([short[8], short[9]]);
    long.extend_from_slice(&u32::from(length).to_le_bytes());
    long.extend_from_slice(&short[10..]);
    assert_eq!(parse_array(&long, &[]).unwrap(), [1, 2, 3]);
}

#[test]
fn rejects_what_is_not_an_archive() {
    let reason = Digits::parse(b"no zip").unwrap_err();
    assert!(reason.starts_with("not an .npz archive"), "{reason}");
}

#[test]
fn rejects_a_missing_array() {
    let images = array("'|u1'", "False", "(2, 28, 28)", &two_digits());
    let reason = Digits::parse(&archive(&[("images.npy", images)])).unwrap_err();
    assert!(reason.contains("labels.npy"), "{reason}");
}

#[test]
fn rejects_labels_that_do_not_match() {
    for (labels, expected) in [(&[3u8][..], "1 labels"), (&[3, 10][..], "label 1 is 10")] {
        let shape = format!("({},)", labels.len());
        let reason = Digits::parse(&archive(&[
            ("images.npy", array("'|u1'", "False", "(2, 28, 28)", &two_digits())),
            ("labels.npy", array("'|u1'", "False", &shape, labels)),
        ]))
        .unwrap_err();
        assert!(reason.contains(expected), "{reason}");
    }
}

#[test]
fn rejects_other_types_orders_shapes_and_lengths() {
    let elements = [1, 2, 3, 4];
    for (bytes, expected) in [
        (array("'<f4'", "False", "(4,)", &elements), "'|u1'"),
        (array("'|u1'", "True", "(4,)", &elements), "Fortran"),
        (array("'|u1'", "False", "(2, 2)", &elements), "expected shape [n]"),
        (array("'|u1'", "False", "()", &elements), "expected shape [n]"),
        (array("'|u1'", "False", "(5,)", &elements), "does not match 4 bytes"),
        (array("'|u1'", "False", "(x,)", &elements), "unreadable shape"),
        (b"\x93NUMPY\x01\x00\xff\xff{".to_vec(), "truncated"),
        (b"\x93NUMPY\x01".to_vec(), "truncated"),
        (b"PK".to_vec(), "wrong first bytes"),
    ] {
        let reason = parse_array(&bytes, &[]).unwrap_err();
        assert!(reason.contains(expected), "{reason} lacks {expected}");
    }
}

#[test]
fn rejects_a_shape_whose_product_overflows() {
    let shape = format!("({}, 28, 28)", usize::MAX);
    let bytes = array("'|u1'", "False", &shape, &[0]);
    assert!(parse_array(&bytes, &[28, 28]).unwrap_err().contains("does not match"));
}
