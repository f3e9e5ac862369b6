//! Small random models, built in memory through the writer: the subjects of this crate's tests.

use std::borrow::Cow;
use std::sync::Arc;

use fresnel_kernels::{Width, pack};

use crate::format::float::{encode_f16, encode_f32};
use crate::format::{
    CropMode, Encoding, Interpolation, ManifestParts, Preprocessing, TensorData, encode,
};
use crate::model::Model;
use crate::model::config::tests::deit_tiny;
use crate::model::config::{Role, TensorSpec, VitConfig};

/// A stream of pseudo-random numbers (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in -1..1.
    pub(crate) fn uniform(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(crate) fn vector(&mut self, length: usize, scale: f32) -> Vec<f32> {
        (0..length).map(|_| self.uniform() * scale).collect()
    }
}

/// A tiny model with nothing unusual: class token, biases, erf GELU. No size is a multiple of a
/// vector's length.
pub(crate) fn plain_config() -> VitConfig {
    VitConfig {
        architecture: "synthetic".into(),
        image_size: [12, 20],
        patch_size: [4, 5],
        embed_dim: 42,
        depth: 2,
        mlp_hidden: 70,
        num_classes: 7,
        ..deit_tiny()
    }
}

/// The same with sizes whose activations lie in blocks of columns on the CPU, several heads to a block.
pub(crate) fn block_config() -> VitConfig {
    VitConfig { embed_dim: 128, num_heads: 4, mlp_hidden: 192, ..plain_config() }
}

pub(crate) fn preprocessing(config: &VitConfig) -> Preprocessing {
    Preprocessing {
        input_size: config.image_size,
        crop_pct: 0.9,
        crop_mode: CropMode::Center,
        interpolation: Interpolation::Bicubic,
        mean: [0.5; 3],
        std: [0.25; 3],
    }
}

/// The bytes of a file of random weights: the blocks' weights as `linear`, patch embedding and heads as
/// `edge`, everything else in 32 bits.
pub(crate) fn file(
    config: &VitConfig,
    linear: Encoding,
    edge: Encoding,
    measured: &[(&str, f64)],
) -> Vec<u8> {
    let mut random = Random(u64::from(config.embed_dim));
    let mut tensors = Vec::new();
    for spec in config.tensors() {
        let encoding = match spec.role {
            Role::Linear => linear,
            Role::Edge => edge,
            Role::Other => Encoding::F32,
        };
        tensors.extend(tensor(&spec, encoding, &mut random));
    }
    let classes = 0..config.num_classes;
    let parts = ManifestParts {
        config: config.clone(),
        preprocessing: preprocessing(config),
        class_names: classes.map(|class| format!("name {class}")).collect(),
        recipe: vec![("method".into(), "random".into())],
        provenance: Vec::new(),
        measured: measured.iter().map(|&(key, value)| (key.to_owned(), value)).collect(),
        metadata: Vec::new(),
    };
    encode(&parts, &tensors).expect("a valid model")
}

pub(crate) fn model(config: &VitConfig, linear: Encoding, edge: Encoding) -> Arc<Model> {
    Model::from_bytes(file(config, linear, edge, &[])).expect("a valid model")
}

/// Pixels of `batch` images, of the size that normalised photographs have.
pub(crate) fn pixels(config: &VitConfig, batch: usize) -> Vec<f32> {
    let [height, width] = config.image_size;
    let count = (config.in_channels * height * width) as usize * batch;
    Random(99).vector(count, 2.0)
}

fn tensor(spec: &TensorSpec, encoding: Encoding, random: &mut Random) -> Vec<TensorData<'static>> {
    let count: usize = spec.shape.iter().map(|&size| size as usize).product();
    let rows = spec.shape[0] as usize;
    let columns = count / rows;
    let data = |name: String, shape: &[u32], encoding, bytes: Vec<u8>| TensorData {
        name,
        shape: shape.to_vec(),
        encoding,
        bytes: Cow::Owned(bytes),
    };
    let values: Vec<f32> = if spec.role == Role::Other {
        // Gains and layer scales spread about one, the rest about zero.
        let gain = spec.name.contains("norm") && spec.name.ends_with(".weight");
        let centre = if gain || spec.name.ends_with("gamma") { 1.0 } else { 0.0 };
        random.vector(count, 0.4).into_iter().map(|value| value + centre).collect()
    } else {
        random.vector(count, 1.7 / (columns as f32).sqrt())
    };
    let (name, shape) = (spec.name.clone(), spec.shape.as_slice());
    let width = match encoding {
        Encoding::F32 => return vec![data(name, shape, encoding, encode_f32(&values))],
        Encoding::F16 => return vec![data(name, shape, encoding, encode_f16(&values))],
        Encoding::Codes(width) => Width::from(width),
    };
    // Rounded to the nearest of equally spaced levels between each row's extremes.
    let (mut codes, mut scales, mut offsets) = (Vec::new(), Vec::new(), Vec::new());
    for row in values.chunks(columns) {
        let (low, high) = row.iter().fold((0.0f32, 0.0f32), |(l, h), &v| (l.min(v), h.max(v)));
        let top = (width.levels() - 1) as f32;
        let scale = (high - low) / top;
        codes.extend(row.iter().map(|v| ((v - low) / scale).round().clamp(0.0, top) as u8));
        scales.push(scale);
        offsets.push(low);
    }
    let packed = pack::pack(width, rows, columns, &codes).expect("codes below the levels");
    let companion = |suffix: &str, values: &[f32]| {
        data(format!("{name}.{suffix}"), &shape[..1], Encoding::F32, encode_f32(values))
    };
    vec![
        data(name.clone(), shape, encoding, packed),
        companion("scale", &scales),
        companion("offset", &offsets),
    ]
}
