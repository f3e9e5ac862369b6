//! Model files made from a fuzzer's bytes: valid ones, and the parts of one put together with right checksums.

use std::borrow::Cow;

use arbitrary::{Result, Unstructured};
use fresnel_kernels::{Width, pack};
use fresnel_runtime::format::header::{HEADER_BYTES, Header};
use fresnel_runtime::format::{
    CodeWidth, CropMode, Encoding, Interpolation, Manifest, ManifestParts, Preprocessing,
    TensorData, encode_float, float,
};
use fresnel_runtime::model::config::{Activation, Pooling, Role, VitConfig};

/// A valid configuration of a model of a few hundred weights.
///
/// # Errors
/// Never in practice: where bytes run out, the smallest value is taken.
pub fn config(u: &mut Unstructured<'_>) -> Result<VitConfig> {
    let mut size = |most: u32| u.int_in_range(1..=most);
    let [rows, columns, height, width] = [size(3)?, size(3)?, size(3)?, size(3)?];
    let [depth, heads, head_dim, hidden] = [size(2)?, size(3)?, size(4)?, size(9)?];
    let distilled = u.ratio(1, 8)?;
    let pooling = [Pooling::Token, Pooling::Average, Pooling::Max, Pooling::AverageMax];
    let pooling = if distilled { Pooling::Token } else { *u.choose(&pooling)? };
    let gelus = [Activation::GeluErf, Activation::GeluTanh, Activation::QuickGelu];
    Ok(VitConfig {
        architecture: "fuzz".to_owned(),
        image_size: [rows * height, columns * width],
        patch_size: [height, width],
        in_channels: *u.choose(&[1, 3])?,
        embed_dim: heads * head_dim,
        depth,
        num_heads: heads,
        mlp_hidden: hidden,
        qkv_bias: u.arbitrary()?,
        proj_bias: u.arbitrary()?,
        qk_norm: u.arbitrary()?,
        class_token: u.arbitrary::<bool>()? || pooling == Pooling::Token,
        distillation_token: distilled,
        register_tokens: if distilled { 0 } else { u.int_in_range(0..=2)? },
        position_embedding: u.arbitrary::<bool>()? || distilled,
        no_embed_class: u.arbitrary::<bool>()? && !distilled,
        pre_norm: u.arbitrary()?,
        layer_scale: u.arbitrary()?,
        final_norm: u.arbitrary()?,
        fc_norm: u.arbitrary::<bool>()? && !distilled,
        pooling,
        pool_include_prefix: u.arbitrary()?,
        activation: *u.choose(&gelus)?,
        norm_epsilon: *u.choose(&[1e-6, 1e-5, 1.0, f32::MIN_POSITIVE])?,
        num_classes: u.int_in_range(0..=3)?,
    })
}

/// The parts of a file for `config`, every list having an entry.
pub fn parts(config: VitConfig) -> ManifestParts {
    let pair = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
    ManifestParts {
        preprocessing: Preprocessing {
            input_size: config.image_size,
            crop_pct: 0.875,
            crop_mode: CropMode::Center,
            interpolation: Interpolation::Bicubic,
            mean: [0.5; 3],
            std: [0.25; 3],
        },
        class_names: (0..config.num_classes).map(|class| format!("class {class}")).collect(),
        recipe: pair("method", "rtn"),
        provenance: pair("tool", "fuzz"),
        measured: vec![("int8_agreement".to_owned(), 98.5)],
        metadata: pair("note", "two\nlines"),
        config,
    }
}

/// An encoding that a weight may have.
///
/// # Errors
/// As [`config`].
pub fn encoding(u: &mut Unstructured<'_>) -> Result<Encoding> {
    let widths =
        [CodeWidth::Ternary, CodeWidth::Two, CodeWidth::Three, CodeWidth::Four, CodeWidth::Eight];
    Ok(match u.int_in_range(0..=6)? {
        0 => Encoding::F32,
        1 => Encoding::F16,
        _ => Encoding::Codes(*u.choose(&widths)?),
    })
}

/// All tensors of `config`: encodings from `u`, codes and values from `u` and `value`.
///
/// # Errors
/// As [`config`].
///
/// # Panics
/// If packing valid codes or encoding finite values fails, which is a finding.
pub fn tensors(
    u: &mut Unstructured<'_>,
    config: &VitConfig,
    mut value: impl FnMut(&mut Unstructured<'_>) -> Result<f32>,
) -> Result<Vec<TensorData<'static>>> {
    let mut tensors = Vec::new();
    for spec in config.tensors() {
        let count: u32 = spec.shape.iter().product();
        let mut floats = |u: &mut Unstructured<'_>, count: u32| -> Result<Vec<f32>> {
            (0..count).map(|_| value(u)).collect()
        };
        let chosen = if spec.role == Role::Other { Encoding::F32 } else { encoding(u)? };
        let bytes = match chosen {
            Encoding::Codes(width) => {
                let width = Width::from(width);
                let rows = spec.shape[0];
                for suffix in [".scale", ".offset"] {
                    let mut values = floats(u, rows)?;
                    if suffix == ".scale" {
                        values.iter_mut().for_each(|scale| *scale = scale.abs());
                    }
                    tensors.push(float_tensor(
                        format!("{}{suffix}", spec.name),
                        vec![rows],
                        &values,
                    ));
                }
                let code = |u: &mut Unstructured<'_>| {
                    u.arbitrary::<u8>().map(|code| (u32::from(code) % width.levels()) as u8)
                };
                let codes = (0..count).map(|_| code(u)).collect::<Result<Vec<u8>>>()?;
                pack::pack(width, rows as usize, (count / rows) as usize, &codes).expect("codes")
            }
            Encoding::F16 => float::encode_f16(&floats(u, count)?),
            Encoding::F32 if spec.role == Role::Other => {
                let values = floats(u, count)?;
                tensors.push(float_tensor(spec.name, spec.shape, &values));
                continue;
            }
            Encoding::F32 => float::encode_f32(&floats(u, count)?),
        };
        tensors.push(TensorData {
            name: spec.name,
            shape: spec.shape,
            encoding: chosen,
            bytes: Cow::Owned(bytes),
        });
    }
    Ok(tensors)
}

/// A tensor of floats; of 32 bits where a value is not finite.
fn float_tensor(name: String, shape: Vec<u32>, values: &[f32]) -> TensorData<'static> {
    let (encoding, bytes) =
        encode_float(values).unwrap_or_else(|_| (Encoding::F32, float::encode_f32(values)));
    TensorData { name, shape, encoding, bytes: Cow::Owned(bytes) }
}

/// The parts of a file that a reader sees, to be changed.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The manifest.
    pub manifest: Manifest,
    /// The data section.
    pub data: Vec<u8>,
    /// What follows the manifest's last field.
    pub tail: Vec<u8>,
    /// Minor version.
    pub minor: u16,
    /// Must-understand flags.
    pub flags: u32,
}

impl Parts {
    /// The parts of `file`, which must be valid.
    ///
    /// # Panics
    /// If it is not even laid out like one.
    pub fn of(file: &[u8]) -> Parts {
        let manifest: Manifest = postcard::from_bytes(&file[HEADER_BYTES..]).expect("a manifest");
        let end = manifest.tensors.last().map_or(0, |last| last.offset + last.length) as usize;
        let data = file[file.len() - end..].to_vec();
        Parts { manifest, data, tail: Vec::new(), minor: 0, flags: 0 }
    }

    /// The bytes of tensor number `index`, where its entry points into the data.
    pub fn tensor_data(&mut self, index: usize) -> Option<&mut [u8]> {
        let entry = self.manifest.tensors.get(index)?;
        let start = usize::try_from(entry.offset).ok()?;
        let length = usize::try_from(entry.length).ok()?;
        self.data.get_mut(start..)?.get_mut(..length)
    }

    /// States the checksum that the data of tensor number `index` has.
    pub fn seal(&mut self, index: usize) {
        if let Some(crc32) = self.tensor_data(index).map(|bytes| crc32fast::hash(bytes)) {
            self.manifest.tensors[index].crc32 = crc32;
        }
    }

    /// The encoded manifest with its tail.
    ///
    /// # Panics
    /// If it cannot be encoded, which is a finding.
    pub fn encoded_manifest(&self) -> Vec<u8> {
        let mut manifest = postcard::to_allocvec(&self.manifest).expect("a manifest");
        manifest.extend_from_slice(&self.tail);
        manifest
    }

    /// The file.
    pub fn assemble(&self) -> Vec<u8> {
        assemble(&self.encoded_manifest(), &self.data, self.minor, self.flags)
    }
}

/// A file of an encoded manifest and data, with a header that states their lengths and checksums.
pub fn assemble(manifest: &[u8], data: &[u8], minor: u16, flags: u32) -> Vec<u8> {
    let header = Header {
        minor,
        flags,
        manifest_len: manifest.len() as u32,
        manifest_crc32: crc32fast::hash(manifest),
        data_len: data.len() as u64,
    };
    let mut file = header.encode().to_vec();
    file.extend_from_slice(manifest);
    file.resize(header.data_offset() as usize, 0);
    file.extend_from_slice(data);
    file
}
