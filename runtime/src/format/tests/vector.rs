//! The test vector of `FORMAT.md` is what the writer writes.

use std::fmt::Write as _;

use super::fixture::{config, parts, tensors};
use crate::format::header::HEADER_BYTES;
use crate::format::manifest::{CodeWidth, Encoding};
use crate::format::{Container, ManifestParts, encode};
use crate::model::config::{Pooling, VitConfig};

const SPECIFICATION: &str = include_str!("../../../FORMAT.md");

/// A model with a weight of every width and little else.
fn vector() -> Vec<u8> {
    let config = VitConfig {
        architecture: "vector".to_owned(),
        image_size: [2, 1],
        patch_size: [1, 1],
        embed_dim: 2,
        num_heads: 1,
        mlp_hidden: 3,
        qkv_bias: false,
        class_token: false,
        position_embedding: false,
        layer_scale: false,
        final_norm: false,
        pooling: Pooling::Average,
        num_classes: 0,
        ..config()
    };
    let widths =
        [CodeWidth::Eight, CodeWidth::Ternary, CodeWidth::Two, CodeWidth::Three, CodeWidth::Four];
    let parts = ManifestParts { provenance: Vec::new(), metadata: Vec::new(), ..parts(&config) };
    encode(&parts, &tensors(&config, |weight| Encoding::Codes(widths[weight]))).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// 32 bytes a line in groups of eight, each line headed by the offset in the file.
fn dump(file: &[u8], range: std::ops::Range<usize>) -> String {
    let mut text = String::new();
    for at in range.clone().step_by(32) {
        let line = &file[at..range.end.min(at + 32)];
        let groups: Vec<String> = line.chunks(8).map(hex).collect();
        writeln!(text, "{at:4}  {}", groups.join(" ")).unwrap();
    }
    text
}

#[test]
fn the_specification_shows_what_is_written() {
    let file = vector();
    let container = Container::from_bytes(&file).unwrap();
    let manifest_len = u32::from_le_bytes(file[20..24].try_into().unwrap()) as usize;
    let data_offset = u64::from_le_bytes(file[32..40].try_into().unwrap());
    let mut data = String::new();
    for view in container.tensors() {
        let offset = data_offset + view.entry.offset;
        writeln!(data, "{offset:4}  {:<12}  {}", hex(view.bytes), view.entry.name).unwrap();
    }
    let shown = [
        dump(&file, 0..HEADER_BYTES),
        dump(&file, HEADER_BYTES..HEADER_BYTES + manifest_len),
        data,
        format!("{} bytes, CRC-32 `{:08x}`\n", file.len(), crc32fast::hash(&file)),
    ];
    let absent: Vec<&str> = shown
        .iter()
        .map(String::as_str)
        .filter(|text| !SPECIFICATION.contains(text.trim_end()))
        .collect();
    assert!(absent.is_empty(), "FORMAT.md should show:\n{}", absent.join("\n"));
}
