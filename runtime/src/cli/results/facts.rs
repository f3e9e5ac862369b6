//! What rows say about a model whatever was measured: timm's columns, how its weights are stored, where it ran.

use std::path::Path;

use fresnel_kernels::{Isa, Width};
use serde_json::{Value, json};

use super::Record;
use crate::evaluation::Accuracy;
use crate::format::{Encoding, Interpolation, Manifest, Preprocessing};
use crate::model::config::{Role, VitConfig};
use crate::session::Session;

/// The program and its version.
pub const PROGRAM: &str = concat!("fresnel ", env!("CARGO_PKG_VERSION"));

/// What the rows of models that are stored in float call the method.
pub const FLOAT: &str = "float";

/// What timm's tables say about a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelFacts {
    /// timm's name of the architecture.
    pub architecture: String,
    /// Height and width of the input.
    pub image_size: [u32; 2],
    /// Number of parameters.
    pub parameters: u64,
    /// Multiplications and additions of one image.
    pub multiply_accumulates: u64,
    /// Numbers that products give for one image.
    pub activations: u64,
    /// Fraction of the resized image that the crop keeps.
    pub crop_pct: f32,
    /// Name of the resampling filter.
    pub interpolation: &'static str,
}

impl ModelFacts {
    /// The facts about a model.
    pub fn new(config: &VitConfig, preprocessing: &Preprocessing) -> Self {
        Self {
            architecture: config.architecture.clone(),
            image_size: config.image_size,
            parameters: config.parameters(),
            multiply_accumulates: config.multiply_accumulates(),
            activations: config.activations(),
            crop_pct: preprocessing.crop_pct,
            interpolation: match preprocessing.interpolation {
                Interpolation::Nearest => "nearest",
                Interpolation::Bilinear => "bilinear",
                Interpolation::Bicubic => "bicubic",
                Interpolation::Lanczos => "lanczos",
            },
        }
    }

    /// A row that begins with the columns of timm's tables of accuracy (`results-imagenet.csv`).
    pub fn accuracy_record(&self, accuracy: Option<&Accuracy>) -> Record {
        let [top1, top5] = [Accuracy::top1, Accuracy::top5].map(|of| accuracy.map(of));
        let error = |percent: Option<f64>| percent.map(|percent| 100.0 - percent);
        let mut record = Record::default();
        record.push("model", self.architecture.as_str());
        record.push("img_size", self.size());
        record.push_number("top1", top1, 3);
        record.push_number("top1_err", error(top1), 3);
        record.push_number("top5", top5, 3);
        record.push_number("top5_err", error(top5), 3);
        self.push_parameters(&mut record);
        record.push_number("crop_pct", Some(f64::from(self.crop_pct)), 4);
        record.push("interpolation", self.interpolation);
        record
    }

    /// A row that begins with the columns of timm's `benchmark.py`: throughput, and the mean time of a step of
    /// `batch` images, `milliseconds`.
    pub fn speed_record(&self, batch: usize, milliseconds: f64) -> Record {
        let mut record = Record::default();
        record.push("model", self.architecture.as_str());
        record.push_number("infer_samples_per_sec", Some(batch as f64 * 1e3 / milliseconds), 2);
        record.push_number("infer_step_time", Some(milliseconds), 3);
        record.push("infer_batch_size", batch);
        record.push("infer_img_size", self.size());
        record.push_number("infer_gmacs", Some(self.multiply_accumulates as f64 / 1e9), 2);
        record.push_number("infer_macts", Some(self.activations as f64 / 1e6), 2);
        self.push_parameters(&mut record);
        record
    }

    fn push_parameters(&self, record: &mut Record) {
        record.push_number("param_count", Some(self.parameters as f64 / 1e6), 2);
    }

    /// The side of a square input, else height and width.
    fn size(&self) -> Value {
        let [height, width] = self.image_size;
        if height == width { json!(height) } else { json!(format!("{height}x{width}")) }
    }
}

/// How a model's weights are stored, and how they came to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The quantizer's method, or [`FLOAT`]; null where the file does not say.
    pub method: Value,
    /// Bits of the weights of the blocks' linear layers; their mean where they differ, in which 1.58 bit count as
    /// the 1.6 that they take.
    pub bits: Value,
    /// Whether the model was tuned after quantization.
    pub tuned: bool,
}

impl Stored {
    /// What a file says.
    pub fn new(manifest: &Manifest) -> Self {
        let pair = |key: &str| {
            manifest.recipe.iter().find(|(found, _)| found == key).map(|(_, value)| value.as_str())
        };
        let encodings = linear_encodings(manifest);
        let codes = |(_, encoding): &(f64, Encoding)| matches!(encoding, Encoding::Codes(_));
        Self {
            method: if encodings.iter().any(codes) { json!(pair("method")) } else { json!(FLOAT) },
            bits: mean_bits(&encodings),
            tuned: pair("tune").is_some(),
        }
    }

    /// Appends the columns `method`, `bits` and `tuned`.
    pub fn push(&self, record: &mut Record) {
        record.push("method", self.method.clone());
        record.push("bits", self.bits.clone());
        record.push("tuned", self.tuned);
    }
}

/// Number of values and encoding of the weights of the blocks' linear layers.
fn linear_encodings(manifest: &Manifest) -> Vec<(f64, Encoding)> {
    let linear: Vec<String> = manifest
        .config
        .tensors()
        .into_iter()
        .filter_map(|spec| (spec.role == Role::Linear).then_some(spec.name))
        .collect();
    let entries = manifest.tensors.iter().filter(|entry| linear.contains(&entry.name));
    let values = |shape: &[u32]| shape.iter().map(|&extent| f64::from(extent)).product();
    entries.map(|entry| (values(&entry.shape), entry.encoding)).collect()
}

fn mean_bits(encodings: &[(f64, Encoding)]) -> Value {
    let stored = |encoding: Encoding| match encoding {
        Encoding::F32 => 32.0,
        Encoding::F16 => 16.0,
        // 40 codes fill whole bytes at every width.
        Encoding::Codes(width) => Width::from(width).row_bytes(40) as f64 * 8.0 / 40.0,
    };
    match encodings {
        [] => Value::Null,
        [(_, first), others @ ..] if others.iter().all(|(_, other)| other == first) => {
            match first {
                Encoding::F32 => json!(32),
                Encoding::F16 => json!(16),
                Encoding::Codes(width) => {
                    serde_json::from_str(Width::from(*width).label()).unwrap_or_default()
                }
            }
        }
        _ => {
            let values: f64 = encodings.iter().map(|(values, _)| values).sum();
            let bits: f64 = encodings.iter().map(|&(values, one)| values * stored(one)).sum();
            json!((bits / values * 1e3).round() / 1e3)
        }
    }
}

/// Appends what tells where and how a model ran: `compute`, `isa`, `device`, `threads`, `kernel`, `processor`,
/// `program` and `file`.
pub fn run_columns(record: &mut Record, session: &Session, file: &Path) {
    record.push("compute", session.compute().name());
    record.push("isa", session.model().isa().map(Isa::name));
    record.push("device", session.model().device().to_string());
    record.push("threads", session.threads());
    record.push("kernel", session.kernel());
    record.push("processor", json!(processor()));
    record.push("program", PROGRAM);
    record.push("file", file.display().to_string());
}

/// The processor's name; `None` where the system does not tell.
fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let named = |line: &str| {
        let (key, name) = line.split_once(':')?;
        // x86 and most others; ARM boards name themselves at the end.
        (["model name", "Model"].contains(&key.trim())).then(|| name.trim().to_owned())
    };
    text.lines().find_map(named)
}
