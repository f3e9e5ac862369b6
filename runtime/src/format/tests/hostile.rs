//! Files with right checksums and wrong content: each is refused for the right reason.

use super::fixture::{Parts, assemble};
use crate::error::{Error, ErrorKind};
use crate::format::manifest::{CodeWidth, Encoding};
use crate::format::{Container, limits};

type Change = fn(&mut Parts);

fn refusal(change: impl Fn(&mut Parts)) -> Error {
    let mut parts = Parts::new();
    change(&mut parts);
    Container::from_bytes(parts.assemble()).expect_err("must be refused")
}

fn check(table: &[(ErrorKind, &str, Change)]) {
    for (kind, text, change) in table {
        let error = refusal(change);
        assert_eq!(error.kind(), *kind, "{text}: {error}");
        assert!(error.to_string().contains(text), "{error} should contain: {text}");
    }
}

const WEIGHT: &str = "blocks.0.attn.qkv.weight";

#[test]
fn the_changed_file_is_otherwise_valid() {
    Container::from_bytes(Parts::new().assemble()).unwrap();
}

#[test]
fn wrong_tensor_tables() {
    use ErrorKind::{Corrupt, Invalid, Limit};
    check(&[
        (Invalid, "missing (1): norm.bias", |p| {
            p.manifest.tensors.retain(|e| e.name != "norm.bias")
        }),
        (Invalid, "missing (1): norm.bias; unexpected (1): norm.bia", |p| {
            p.entry("norm.bias").name = "norm.bia".to_owned();
        }),
        (Invalid, "repeated (1): norm.weight", |p| {
            p.entry("norm.bias").name = "norm.weight".to_owned();
        }),
        (Invalid, "mis-shaped (1): cls_token", |p| p.entry("cls_token").shape = vec![6]),
        (Invalid, "missing", |p| p.manifest.tensors.clear()),
        (Invalid, "unexpected (2)", |p| {
            // A float weight has no scale and offset.
            let entry = p.entry("norm.weight").clone();
            for suffix in [".scale", ".offset"] {
                let name = format!("{}{suffix}", entry.name);
                p.manifest.tensors.push(crate::format::TensorEntry { name, ..entry.clone() });
            }
        }),
        (Invalid, "missing (1): blocks.0.attn.qkv.weight.offset", |p| {
            p.manifest.tensors.retain(|e| e.name != "blocks.0.attn.qkv.weight.offset");
        }),
        (Invalid, "norm.weight\": this tensor may not be stored as codes", |p| {
            let entry = p.entry("norm.weight");
            (entry.encoding, entry.length) = (Encoding::Codes(CodeWidth::Eight), 6);
        }),
        (Invalid, "qkv.weight.scale\": this tensor may not be stored as codes", |p| {
            let entry = p.entry("blocks.0.attn.qkv.weight.scale");
            (entry.encoding, entry.length) = (Encoding::Codes(CodeWidth::Eight), 18);
        }),
        (Invalid, "one line of printable text", |p| p.entry("norm.bias").name.clear()),
        (Invalid, "one line of printable text", |p| {
            p.entry("norm.bias").name = "a\u{1b}[2J".to_owned()
        }),
        (Limit, "at most 128", |p| p.entry("norm.bias").name = "n".repeat(129)),
        (Limit, "dimensions", |p| p.entry("norm.bias").shape.clear()),
        (Invalid, "zero", |p| p.entry("norm.bias").shape = vec![6, 0]),
        (Limit, "dimension", |p| p.entry("norm.bias").shape = vec![u32::MAX; 4]),
        // The product of these dimensions is 2^96; 4 bytes each make it 0 modulo 2^64.
        (Limit, "not representable", |p| p.entry("norm.bias").shape = vec![1 << 24; 4]),
        (Limit, "not representable", |p| {
            let entry = p.entry(WEIGHT);
            entry.shape = vec![2, 1 << 24, 1 << 24, 1 << 24];
        }),
        (Invalid, "takes 4611686018427387904 bytes", |p| {
            // 2^62 bytes that are not there.
            let entry = p.entry("norm.bias");
            (entry.shape, entry.encoding) = (vec![1 << 20, 1 << 20, 1 << 20], Encoding::F32);
        }),
        (Invalid, "mis-shaped", |p| {
            let entry = p.entry("norm.bias");
            (entry.shape, entry.encoding) = (vec![1 << 20, 1 << 20, 1 << 20], Encoding::F32);
            entry.length = 1 << 62;
        }),
        (Invalid, "bytes, found 13", |p| p.entry("norm.bias").length += 1),
        (Invalid, "bytes, found 18446744073709551615", |p| p.entry("norm.bias").length = u64::MAX),
        (Corrupt, "must start at byte", |p| p.entry("norm.bias").offset += 1),
        (Corrupt, "must start at byte", |p| p.entry("norm.bias").offset += 64),
        (Corrupt, "must start at byte", |p| p.entry("norm.bias").offset -= 64),
        (Corrupt, "must start at byte", |p| p.entry("norm.bias").offset = u64::MAX - 63),
        (Corrupt, "must start at byte", |p| p.entry("cls_token").offset = 64),
        (Corrupt, "must start at byte", |p| {
            let last = p.manifest.tensors.len() - 1;
            p.manifest.tensors.swap(0, last);
        }),
        (Corrupt, "the header states", |p| p.data.extend([0; 64])),
        (Corrupt, "the header states", |p| {
            p.data.pop();
        }),
        (Corrupt, "follow the manifest", |p| p.tail = vec![0]),
    ]);
}

#[test]
fn wrong_values() {
    use ErrorKind::{Corrupt, Invalid};
    check(&[
        (Corrupt, "norm.bias\": the checksum", |p| p.entry("norm.bias").crc32 ^= 1),
        (Invalid, "norm.bias\": all values must be finite, found NaN at index 1", |p| {
            p.change_data("norm.bias", |b| b[2..4].copy_from_slice(&[0xff, 0x7f]));
        }),
        (Invalid, "found inf at index 0", |p| {
            p.change_data("norm.bias", |b| b[..2].copy_from_slice(&[0, 0x7c]));
        }),
        (Invalid, "found -inf", |p| {
            p.change_data("norm.bias", |b| b[..2].copy_from_slice(&[0, 0xfc]));
        }),
        (Invalid, "qkv.weight.scale\": a scale must not be negative", |p| {
            p.change_data("blocks.0.attn.qkv.weight.scale", |b| b[1] |= 0x80);
        }),
        // One of the 13 bytes that stand for no five ternary digits.
        (Invalid, "the packed codes are not valid", |p| {
            let unused = (0..=255).find(|b| (0..243_u32).all(|v| (v * 256).div_ceil(243) != *b));
            p.change_data(WEIGHT, |b| b[0] = unused.unwrap() as u8);
        }),
        // Six columns leave four digits of the second byte unused.
        (Invalid, "the packed codes are not valid", |p| {
            p.change_data(WEIGHT, |b| b[1] = 255);
        }),
        (Invalid, "the packed codes are not valid", |p| {
            p.change_data("blocks.0.attn.proj.weight", |b| b[1] |= 0x80);
        }),
        (Invalid, "the packed codes are not valid", |p| {
            p.change_data("blocks.0.mlp.fc1.weight", |b| b[2] |= 0x80);
        }),
        (Invalid, "the packed codes are not valid", |p| {
            p.change_data("blocks.0.mlp.fc2.weight", |b| b[3] |= 0x80);
        }),
    ]);
    // A scale of zero is a constant row, an offset may be negative, codes of 8 bit have no invalid byte.
    let mut parts = Parts::new();
    parts.change_data("blocks.0.attn.qkv.weight.scale", |bytes| bytes.fill(0));
    parts.change_data("blocks.0.attn.qkv.weight.offset", |bytes| bytes[1] |= 0x80);
    parts.change_data("patch_embed.proj.weight", |bytes| bytes.fill(0xff));
    Container::from_bytes(parts.assemble()).unwrap();
}

#[test]
fn non_finite_single_precision_values() {
    let config = super::fixture::config();
    let tensors = super::fixture::tensors(&config, |_| Encoding::F32);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut tensors = tensors.clone();
        let tensor = tensors.iter_mut().find(|tensor| tensor.name == "head.weight").unwrap();
        tensor.bytes.to_mut()[8..12].copy_from_slice(&bad.to_le_bytes());
        let error = crate::format::encode(&super::fixture::parts(&config), &tensors).unwrap_err();
        assert_eq!((error.kind(), error.tensor()), (ErrorKind::Invalid, Some("head.weight")));
    }
}

#[test]
fn wrong_descriptions() {
    use ErrorKind::{Invalid, Limit};
    check(&[
        (Invalid, "num_heads", |p| p.manifest.config.num_heads = 4),
        (Limit, "embed_dim", |p| p.manifest.config.embed_dim = u32::MAX),
        (Limit, "depth", |p| p.manifest.config.depth = u32::MAX),
        (Invalid, "missing (11): blocks.1.attn.proj.weight", |p| p.manifest.config.depth = 2),
        (Invalid, "unexpected (1): blocks.0.attn.qkv.bias", |p| p.manifest.config.qkv_bias = false),
        (Invalid, "input_size", |p| p.manifest.preprocessing.input_size = [6, 4]),
        (Invalid, "crop_pct", |p| p.manifest.preprocessing.crop_pct = f32::NAN),
        (Invalid, "crop_pct", |p| p.manifest.preprocessing.crop_pct = 1e-9),
        (Invalid, "crop_pct", |p| p.manifest.preprocessing.crop_pct = 1.5),
        (Invalid, "mean", |p| p.manifest.preprocessing.mean[1] = f32::INFINITY),
        (Invalid, "mean", |p| p.manifest.preprocessing.mean[2] = f32::NAN),
        (Invalid, "std", |p| p.manifest.preprocessing.std[0] = 0.0),
        (Invalid, "std", |p| p.manifest.preprocessing.std[0] = -1.0),
        (Invalid, "std", |p| p.manifest.preprocessing.std[2] = f32::NAN),
        (Invalid, "class name", |p| p.manifest.class_names.truncate(2)),
        (Invalid, "class name", |p| p.manifest.class_names.push("extra".to_owned())),
        (Invalid, "class name", |p| p.manifest.class_names[0].clear()),
        (Invalid, "class name", |p| p.manifest.class_names[0] = "two\nlines".to_owned()),
        (Limit, "class name", |p| p.manifest.class_names[0] = "n".repeat(513)),
        (Invalid, "appears twice", |p| {
            let first = p.manifest.recipe[0].clone();
            p.manifest.recipe.push(first);
        }),
        (Invalid, "recipe key", |p| p.manifest.recipe[0].0.clear()),
        (Invalid, "control character", |p| p.manifest.provenance[0].1.push('\u{7}')),
        (Limit, "65537 bytes", |p| p.manifest.metadata[0].1 = "x".repeat(65_537)),
        (Invalid, "finite", |p| p.manifest.measured[0].1 = f64::NAN),
        (Invalid, "measured key", |p| p.manifest.measured[0].0 = "\0".to_owned()),
    ]);
    // Class names may be left out.
    let mut parts = Parts::new();
    parts.manifest.class_names.clear();
    Container::from_bytes(parts.assemble()).unwrap();
}

#[test]
fn long_lists_are_refused_while_decoding() {
    let text = "its content is damaged or exceeds a limit";
    let pair = |i: usize| (i.to_string(), String::new());
    for error in [
        refusal(|p| p.manifest.recipe = (0..=limits::MAX_PAIRS).map(pair).collect()),
        refusal(|p| p.manifest.provenance = (0..=limits::MAX_PAIRS).map(pair).collect()),
        refusal(|p| p.manifest.metadata = (0..=limits::MAX_METADATA_PAIRS).map(pair).collect()),
        refusal(|p| {
            p.manifest.measured = (0..=limits::MAX_PAIRS).map(|i| (i.to_string(), 0.0)).collect()
        }),
        refusal(|p| p.manifest.class_names = vec![String::new(); limits::MAX_CLASS_NAMES + 1]),
        refusal(|p| p.entry("norm.bias").shape = vec![1; limits::MAX_RANK + 1]),
        refusal(|p| {
            let entry = p.manifest.tensors[0].clone();
            p.manifest.tensors = vec![entry; limits::MAX_TENSORS + 1];
        }),
    ] {
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(text), "{error}");
    }
    // Exactly at the limit of decoding: refused later, for what it is.
    let error = refusal(|p| {
        let entry = p.manifest.tensors[0].clone();
        p.manifest.tensors = vec![entry; limits::MAX_TENSORS];
    });
    assert!(error.to_string().contains("repeated (4095): cls_token"), "{error}");
}

#[test]
fn hostile_encodings_of_the_manifest() {
    let parts = Parts::new();
    let manifest = postcard::to_allocvec(&parts.manifest).unwrap();
    let kind = |manifest: &[u8]| {
        let bytes = assemble(manifest, &parts.data, 0, 0);
        Container::from_bytes(bytes).expect_err("must be refused").kind()
    };
    // The first varint, the length 4 of the architecture's name, in two bytes instead of one.
    assert_eq!(manifest[0], 4);
    let padded = [&[0x84, 0x00], &manifest[1..]].concat();
    assert_eq!(kind(&padded), ErrorKind::Corrupt);
    // A length beyond the end, beyond u32, and beyond u64.
    for length in [&[0xff, 0x7f][..], &[0xff, 0xff, 0xff, 0xff, 0x7f], &[0xff; 10]] {
        assert_eq!(kind(&[length, &manifest[1..]].concat()), ErrorKind::Corrupt);
    }
    // A name that is not UTF-8, a manifest that is cut off, one that is repeated.
    let mut bad_name = manifest.clone();
    bad_name[1] = 0xff;
    assert_eq!(kind(&bad_name), ErrorKind::Corrupt);
    for length in 1..manifest.len() {
        assert_eq!(kind(&manifest[..length]), ErrorKind::Corrupt, "length {length}");
    }
    assert_eq!(kind(&[&manifest[..], &manifest].concat()), ErrorKind::Corrupt);
    // One byte too long for any manifest.
    let error = Container::from_bytes(assemble(&vec![0; (1 << 20) + 1], &[], 0, 0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
}
