use proptest::prelude::*;

use super::*;
use crate::image::tests::{Cases, fixture};

const LIMITS: DecodeLimits =
    DecodeLimits { max_side: 65_535, max_pixels: 1 << 20, max_file_bytes: 1 << 20 };

fn decode_rgb(bytes: &[u8]) -> Result<Image, Error> {
    decode_bytes(bytes, ColorMode::Rgb, &LIMITS)
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap()
}

/// A PNG chunk with its checksum.
fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut bytes = (content.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(content);
    bytes.extend(crc32fast::hash(&bytes[4..]).to_be_bytes());
    bytes
}

/// The signature and header of an 8-bit PNG.
fn png_header(width: u32, height: u32, color_type: u8) -> Vec<u8> {
    let mut content = [width.to_be_bytes(), height.to_be_bytes()].concat();
    content.extend([8, color_type, 0, 0, 0]);
    [b"\x89PNG\r\n\x1a\n".as_slice(), &chunk(b"IHDR", &content)].concat()
}

/// The 1 x 1 JPEG's bytes with another size in its frame header.
fn resized_jpeg(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = read("decode/grey.jpg");
    let frame = bytes.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
    bytes[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}

#[test]
fn agrees_with_pillow() {
    let mut cases = Cases::read("decode");
    for row in std::mem::take(&mut cases.rows) {
        let [source, width, height, mode, largest, mean] = row.try_into().unwrap();
        let color = if mode == "L" { ColorMode::Grey } else { ColorMode::Rgb };
        let image = decode(fixture(&source), color).unwrap();
        assert_eq!(image.color(), color);
        // The picture that EXIF says to rotate, too, keeps the size of its file.
        assert_eq!(image.width(), width.parse::<u32>().unwrap());
        assert_eq!(image.height(), height.parse::<u32>().unwrap());
        let expected = cases.take(image.pixels().len());
        let differences: Vec<u8> = image
            .pixels()
            .iter()
            .zip(&expected)
            .map(|(&found, &expected)| found.abs_diff(expected))
            .collect();
        let found_largest = *differences.iter().max().unwrap();
        let sum: f64 = differences.iter().map(|&difference| f64::from(difference)).sum();
        let found_mean = sum / differences.len() as f64;
        assert!(
            found_largest <= largest.parse().unwrap() && found_mean <= mean.parse().unwrap(),
            "{source} as {mode}: largest difference {found_largest}, mean {found_mean}"
        );
    }
    cases.finish();
}

#[test]
fn keeps_the_high_byte_of_16_bit_grey() {
    // One unfiltered row of 0x12FF, 0xAB00 in a stored deflate block.
    let mut content = [2_u32.to_be_bytes(), 1_u32.to_be_bytes()].concat();
    content.extend([16, 0, 0, 0, 0]);
    let row = [0_u8, 0x12, 0xFF, 0xAB, 0x00];
    let (mut a, mut b) = (1_u32, 0_u32);
    for &byte in &row {
        a = (a + u32::from(byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    let mut data = vec![0x78, 0x01, 0x01, row.len() as u8, 0, !(row.len() as u8), 0xFF];
    data.extend(row);
    data.extend((b << 16 | a).to_be_bytes());
    let png = [
        b"\x89PNG\r\n\x1a\n".as_slice(),
        &chunk(b"IHDR", &content),
        &chunk(b"IDAT", &data),
        &chunk(b"IEND", &[]),
    ]
    .concat();
    let image = decode_bytes(&png, ColorMode::Grey, &LIMITS).unwrap();
    assert_eq!(image.pixels(), [0x12, 0xAB]);
    assert_eq!(decode_rgb(&png).unwrap().pixels(), [0x12, 0x12, 0x12, 0xAB, 0xAB, 0xAB]);
}

#[test]
fn says_what_was_found_instead_of_a_picture() {
    let cases: [(&[u8], &str); 9] = [
        (b"", "an empty file"),
        (b"file,label\n", "text"),
        (b"GIF89a..", "a GIF"),
        (b"BM\0\0\0\0", "a BMP"),
        (b"II*\0\x08\0\0\0", "a TIFF"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "a WebP"),
        (b"\0\0\0\x20ftypavif", "an AVIF"),
        (b"\0\0\0\x20ftypheic", "a HEIC"),
        (b"\x00\x01\x02", "unknown content that starts with the bytes [00, 01, 02]"),
    ];
    for (bytes, found) in cases {
        let error = decode_rgb(bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Image);
        assert_eq!(error.message(), format!("expected a JPEG or PNG picture, found {found}"));
    }
}

#[test]
fn the_name_of_a_file_does_not_decide_but_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.jpg");
    std::fs::write(&text, "no picture").unwrap();
    let error = decode(&text, ColorMode::Rgb).unwrap_err();
    assert_eq!((error.kind(), error.path()), (ErrorKind::Image, Some(text.as_path())));
    let png = folder.path().join("png.jpg");
    std::fs::write(&png, read("decode/rgb.png")).unwrap();
    decode(&png, ColorMode::Rgb).unwrap();
    let error = decode(folder.path(), ColorMode::Rgb).unwrap_err();
    assert_eq!((error.kind(), error.path()), (ErrorKind::Input, Some(folder.path())));
    let missing = folder.path().join("missing.jpg");
    let error = decode(&missing, ColorMode::Rgb).unwrap_err();
    assert_eq!((error.kind(), error.path()), (ErrorKind::Io, Some(missing.as_path())));
}

#[test]
fn every_truncation_of_a_jpeg_is_refused() {
    for name in ["chroma420.jpg", "progressive.jpg", "restart.jpg", "cmyk.jpg", "exif_rotated.jpg"]
    {
        let bytes = read(&format!("decode/{name}"));
        decode_rgb(&bytes).unwrap();
        for length in 0..bytes.len() {
            let error = decode_rgb(&bytes[..length]).unwrap_err();
            let kind = error.kind();
            assert!(
                matches!(kind, ErrorKind::Truncated | ErrorKind::Image),
                "{name} cut to {length}: {error}"
            );
        }
        // Within the compressed data it is said plainly.
        let error = decode_rgb(&bytes[..bytes.len() - 20]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Truncated, "{name}: {error}");
        let trailing = [bytes.as_slice(), b"trailing"].concat();
        decode_rgb(&trailing).unwrap();
    }
}

#[test]
fn truncated_pngs_are_refused() {
    for name in ["rgb.png", "palette.png", "rgba16.png"] {
        let bytes = read(&format!("decode/{name}"));
        // Behind the pixels only a checksum and the end chunk follow; Pillow does not miss them.
        for length in 0..bytes.len() - 24 {
            let error = decode_rgb(&bytes[..length]).unwrap_err();
            let kind = error.kind();
            assert!(
                matches!(kind, ErrorKind::Truncated | ErrorKind::Image),
                "{name} cut to {length}: {error}"
            );
        }
        let error = decode_rgb(&bytes[..bytes.len() / 2]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Truncated, "{name}: {error}");
    }
}

#[test]
fn claims_beyond_the_limits_are_refused_before_decoding() {
    let error = decode_rgb(&resized_jpeg(65_535, 65_535)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    let error = decode_rgb(&png_header(0x7FFF_FFFF, 0x7FFF_FFFF, 2)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    let error = decode_rgb(&png_header(70_000, 1, 2)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    let error = decode_rgb(&png_header(0, 5, 2)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Image, "{error}");
    let limits = DecodeLimits { max_file_bytes: 100, ..LIMITS };
    let error = decode_bytes(&read("waves.png"), ColorMode::Rgb, &limits).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
}

#[test]
fn a_short_file_cannot_claim_many_pixels() {
    for bytes in [resized_jpeg(1000, 1000), png_header(1000, 1000, 2)] {
        let error = decode_rgb(&bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Truncated, "{error}");
    }
}

#[test]
fn a_jpeg_of_65535_x_1_is_read_or_refused() {
    // The data stands for 29 x 23 pixels: what is missing may be filled, as libjpeg does.
    match decode_rgb(&resized_jpeg(65_535, 1)) {
        Ok(image) => assert_eq!((image.width(), image.height()), (65_535, 1)),
        Err(error) => assert_ne!(error.kind(), ErrorKind::Limit, "{error}"),
    }
}

#[test]
fn broken_palettes_are_refused() {
    for length in [0, 1, 2, 4, 767, 769, 771, 3000] {
        let mut png = png_header(2, 2, 3);
        png.extend(chunk(b"PLTE", &vec![7; length]));
        png.extend(chunk(b"IDAT", &[0x78, 0x01]));
        let error = decode_rgb(&png).unwrap_err();
        assert_eq!((error.kind(), error.offset()), (ErrorKind::Image, Some(33)), "{error}");
    }
}

proptest! {
    /// Damage anywhere gives a picture or an error.
    #[test]
    fn damaged_files_do_not_panic(
        name in prop::sample::select(vec![
            "decode/chroma420.jpg", "decode/progressive.jpg", "decode/cmyk.jpg",
            "decode/palette.png", "decode/rgba16.png", "decode/bilevel.png",
        ]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = read(name);
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let _ = decode_rgb(&bytes);
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(
        start in prop::sample::select(vec![&b"\xFF\xD8\xFF"[..], b"\x89PNG\r\n\x1a\n", b""]),
        rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = decode_rgb(&[start, &rest].concat());
    }
}
