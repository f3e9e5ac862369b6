//! Loading: any bytes, and files that are whole but for a few changes.

use std::sync::Arc;

use arbitrary::{Arbitrary, Result, Unstructured};
use fresnel_runtime::format::header::HEADER_BYTES;
use fresnel_runtime::format::{Container, Encoding, encode};
use fresnel_runtime::{Compute, ErrorKind, Model, Session, SessionOptions};

use crate::files::{self, Parts, assemble};

/// Pixels and tokens up to which a model that loads is run: a valid one may ask for a minute.
const MAX_RUN: u32 = 1 << 10;

/// Loads any bytes: as they are, and as manifest and data behind a header whose checksums and lengths are right.
///
/// # Panics
/// When loading does, when the two ways to load disagree, or when what was accepted breaks a rule.
pub fn load_bytes(bytes: &[u8]) {
    load(bytes);
    let Some((_, content)) = bytes.split_at_checked(HEADER_BYTES) else { return };
    // Where the manifest ends is for the header to say.
    let length = u32::from_le_bytes([bytes[20], bytes[21], bytes[22], bytes[23]]) as usize;
    let (manifest, rest) = content.split_at(length.min(content.len()));
    let padding =
        (HEADER_BYTES + manifest.len()).next_multiple_of(64) - HEADER_BYTES - manifest.len();
    load(&assemble(manifest, &rest[padding.min(rest.len())..], u16::from(bytes[10] & 1), 0));
}

/// Loads a valid file after changes to its manifest, data and header, all checksums and lengths being right.
///
/// # Panics
/// As [`load_bytes`].
pub fn load_struct(bytes: &[u8]) {
    if let Ok(file) = changed_file(&mut Unstructured::new(bytes)) {
        load(&file);
    }
}

fn load(bytes: &[u8]) {
    let container = Container::from_bytes(bytes);
    let model = Model::from_bytes(bytes);
    match (container, model) {
        (Ok(container), Ok(model)) => {
            check(&container, bytes);
            run(&model);
        }
        (Err(container), Err(model)) => assert_eq!(container.kind(), model.kind()),
        // A matrix that is valid but has no room in memory, or in a kernel's sums.
        (Ok(_), Err(error)) => assert_eq!(error.kind(), ErrorKind::Limit, "{error}"),
        (Err(error), Ok(_)) => panic!("a model of a file that is refused: {error}"),
    }
}

/// What every accepted file obeys.
fn check(container: &Container, bytes: &[u8]) {
    let manifest = container.manifest();
    manifest.config.validate().expect("a valid configuration");
    assert_eq!(container.file_bytes(), bytes.len() as u64);
    assert_eq!(container.tensors().count(), manifest.tensors.len());
    let shapes = manifest
        .tensors
        .iter()
        .filter(|entry| !entry.name.ends_with(".scale") && !entry.name.ends_with(".offset"));
    let shapes = shapes.map(|entry| (entry.name.as_str(), entry.shape.as_slice()));
    manifest.config.check_tensors(shapes).expect("the tensors of the configuration");
    for tensor in container.tensors() {
        assert_eq!(crc32fast::hash(tensor.bytes), tensor.entry.crc32);
        let finite = match tensor.entry.encoding {
            Encoding::F32 => tensor
                .bytes
                .as_chunks()
                .0
                .iter()
                .all(|value| f32::from_le_bytes(*value).is_finite()),
            Encoding::F16 => tensor
                .bytes
                .as_chunks()
                .0
                .iter()
                .all(|value| half::f16::from_le_bytes(*value).is_finite()),
            Encoding::Codes(_) => true,
        };
        assert!(finite, "{}", tensor.entry.name);
    }
}

/// Runs a small model on extreme pixels, in every mode.
fn run(model: &Arc<Model>) {
    let config = model.config();
    let [height, width] = config.image_size;
    let pixels = (height * width).saturating_mul(config.in_channels);
    if pixels > MAX_RUN || config.tokens() > MAX_RUN {
        return;
    }
    let pixels: Vec<f32> = [0.0, 1.0, -3.4e38, 1e-40, 3.4e38, -0.0]
        .into_iter()
        .cycle()
        .take(pixels as usize)
        .collect();
    for compute in [Compute::F32, Compute::Int8, Compute::Half] {
        let options = SessionOptions { threads: 1, compute, ..Default::default() };
        match Session::new(model, options) {
            Ok(mut session) => {
                let mut run = || session.run(&pixels, 1).expect("a result");
                let (first, second) = (run(), run());
                assert_eq!(first.len(), config.output_features() as usize);
                // Also what makes Valgrind look at every number.
                let same = first.iter().zip(&second).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{compute}: another result of the same pixels");
            }
            Err(error) => {
                assert_eq!((error.kind(), compute), (ErrorKind::Unsupported, Compute::Half))
            }
        }
    }
}

fn changed_file(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let config = files::config(u)?;
    let tensors = files::tensors(u, &config, |u| Ok(f32::from(u.arbitrary::<i8>()?) / 16.0))?;
    let file = encode(&files::parts(config), &tensors).expect("a valid file");
    let mut parts = Parts::of(&file);
    for _ in 0..u.int_in_range(0..=3)? {
        change(u, &mut parts)?;
    }
    let mut manifest = parts.encoded_manifest();
    for _ in 0..u.int_in_range(0..=2)? {
        let at = u.choose_index(manifest.len())?;
        manifest[at] = u.arbitrary()?;
    }
    Ok(assemble(&manifest, &parts.data, parts.minor, parts.flags))
}

fn change(u: &mut Unstructured<'_>, parts: &mut Parts) -> Result<()> {
    let tensors = parts.manifest.tensors.len();
    let tensor = if tensors == 0 { 0 } else { u.choose_index(tensors)? };
    match u.int_in_range(0..=9)? {
        0 if tensors > 0 => change_entry(u, parts, tensor)?,
        1 if tensors > 0 => {
            let entry = parts.manifest.tensors.remove(tensor);
            match u.int_in_range(0..=2)? {
                0 => {}
                1 => parts.manifest.tensors.push(entry),
                _ => parts.manifest.tensors.extend([entry.clone(), entry]),
            }
        }
        2 | 3 => {
            if let Some(bytes) = parts.tensor_data(tensor).filter(|bytes| !bytes.is_empty()) {
                let at = u.choose_index(bytes.len())?;
                let length = u.int_in_range(1..=4)?.min(bytes.len() - at);
                u.fill_buffer(&mut bytes[at..at + length])?;
                parts.seal(tensor);
            }
        }
        4 => change_config(u, parts)?,
        5 => {
            let preprocessing = &mut parts.manifest.preprocessing;
            let fields = [&mut preprocessing.crop_pct]
                .into_iter()
                .chain(&mut preprocessing.mean)
                .chain(&mut preprocessing.std);
            let at = u.choose_index(7)?;
            for field in fields.skip(at).take(1) {
                *field = u.arbitrary()?;
            }
        }
        6 => {
            let text = |u: &mut Unstructured<'_>| String::arbitrary(u);
            let repeats = *u.choose(&[1, 2, 64, 65, 256, 257])?;
            let pair = (text(u)?, text(u)?);
            let manifest = &mut parts.manifest;
            match u.int_in_range(0..=4)? {
                0 => manifest.class_names.extend(vec![pair.0; repeats]),
                1 => manifest.recipe.extend(vec![pair; repeats]),
                2 => manifest.provenance.push(pair),
                3 => manifest.metadata.extend(vec![pair; repeats]),
                _ => manifest.measured.push((pair.0, u.arbitrary()?)),
            }
        }
        7 => {
            parts.minor = u.int_in_range(0..=2)?;
            parts.flags = *u.choose(&[0, 0, 1, u32::MAX])?;
            let length = u.int_in_range(0..=64)?.min(u.len());
            parts.tail = u.bytes(length)?.to_vec();
        }
        8 => {
            let length = u.int_in_range(0..=parts.data.len() + 128)?;
            parts.data.resize(length, 0);
        }
        _ => {
            if !parts.data.is_empty() {
                let at = u.choose_index(parts.data.len())?;
                parts.data[at] = u.arbitrary()?;
            }
        }
    }
    Ok(())
}

fn change_entry(u: &mut Unstructured<'_>, parts: &mut Parts, at: usize) -> Result<()> {
    let other = u.choose_index(parts.manifest.tensors.len())?;
    let other = parts.manifest.tensors[other].clone();
    let entry = &mut parts.manifest.tensors[at];
    match u.int_in_range(0..=6)? {
        0 => entry.name = other.name,
        1 => entry.name = u.arbitrary()?,
        2 => entry.shape = other.shape,
        3 => {
            let rank = u.int_in_range(0..=5)?;
            entry.shape = (0..rank).map(|_| number(u)).collect::<Result<_>>()?;
        }
        4 => {
            entry.encoding = files::encoding(u)?;
            // Often with the length that goes with it.
            let sides = entry.shape.iter().map(|&side| u64::from(side));
            let count = sides.fold(1, u64::saturating_mul);
            let bytes = match entry.encoding {
                Encoding::F32 => 4,
                Encoding::F16 => 2,
                Encoding::Codes(_) => 1,
            };
            entry.length = count.saturating_mul(bytes);
        }
        5 => entry.offset = place(u, entry.offset)?,
        _ => entry.length = place(u, entry.length)?,
    }
    Ok(())
}

fn change_config(u: &mut Unstructured<'_>, parts: &mut Parts) -> Result<()> {
    let config = &mut parts.manifest.config;
    let value = number(u)?;
    match u.int_in_range(0..=16)? {
        0 => config.image_size[0] = value,
        1 => {
            (config.image_size, parts.manifest.preprocessing.input_size) = ([value; 2], [value; 2])
        }
        2 => config.patch_size[1] = value,
        3 => config.in_channels = value,
        4 => config.embed_dim = value,
        5 => config.depth = value,
        6 => config.num_heads = value,
        7 => config.mlp_hidden = value,
        8 => config.register_tokens = value,
        9 => config.num_classes = value,
        10 => config.norm_epsilon = f32::from_bits(u.arbitrary()?),
        11 => config.qk_norm ^= true,
        12 => config.class_token ^= true,
        13 => config.distillation_token ^= true,
        14 => config.position_embedding ^= true,
        15 => config.fc_norm ^= true,
        _ => config.no_embed_class ^= true,
    }
    Ok(())
}

/// A number that is likely to be at an edge.
fn number(u: &mut Unstructured<'_>) -> Result<u32> {
    let edges =
        [0, 1, 2, 3, 255, 256, 257, 1 << 14, 1 << 16, 1 << 24, (1 << 24) + 1, 1 << 31, u32::MAX];
    if u.arbitrary()? { Ok(*u.choose(&edges)?) } else { u.arbitrary() }
}

/// An offset or length that is likely to be near `old` or at an edge.
fn place(u: &mut Unstructured<'_>, old: u64) -> Result<u64> {
    let edges = [
        0,
        old ^ 1,
        old.wrapping_add(64),
        old.wrapping_sub(64),
        old ^ 1 << 63,
        1 << 62,
        u64::MAX - 63,
        u64::MAX,
    ];
    if u.arbitrary()? { Ok(*u.choose(&edges)?) } else { u.arbitrary() }
}
