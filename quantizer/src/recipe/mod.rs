//! What was asked for and what came out, in the form that files keep it.
//!
//! [`settings`] are what the user says, as flags or in a recipe file; a [`Recipe`] is complete, and
//! [`text`] is how a file keeps it.

pub mod method_settings;
pub mod settings;
pub mod text;
pub mod tuning_settings;

use std::collections::BTreeMap;

use fresnel_kernels::Isa;
use fresnel_runtime::format::manifest::RECIPE_TOML;
use fresnel_runtime::format::{
    CodeWidth, ManifestParts, TensorData, TensorEntry, encode, file_size_limit, size_bound,
};
use fresnel_runtime::model::config::VitConfig;
use fresnel_runtime::{Error, ErrorKind, Model};

use crate::agreement::{self, agreements, compared_modes};
use crate::algorithm::{Method, StatisticsOptions};
use crate::calibration::{Calibration, CalibrationImages, TokenWeights};
use crate::device::{Device, DeviceKind};
use crate::import::FloatModel;
use crate::layer_bits::{LayerBits, named_widths};
use crate::mixed::average_bits;
use crate::model_file::float_tensors;
use crate::pipeline::{self, QuantizedLayer};
use crate::size;
use crate::tuning::{self, TuningOptions, TuningReport};
use crate::widths::{LayerWidths, StoredWidth};

pub use method_settings::{MethodName, MethodSettings};
pub use settings::Settings;
pub use text::Calibrated;
pub use tuning_settings::{TuneName, TuningSettings};

/// Provenance key of the calibration images' checksum.
const CALIBRATION_SHA256: &str = "calibration_sha256";

/// Everything that determines a file besides the model, the images, and whether the machine multiplies
/// bfloat16: only then is `half_agreement` measured and recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Width of the blocks' linear layers.
    pub bits: StoredWidth,
    /// Layers of other widths; where several match a layer, the last one decides.
    pub layers: Vec<LayerBits>,
    /// Width of the patch embedding and the head.
    pub edge_bits: StoredWidth,
    /// How codes are chosen; irrelevant for float widths.
    pub method: Method,
    /// What the method's statistics are made of.
    pub statistics: StatisticsOptions,
    /// How the quantized model is tuned, if it is.
    pub tuning: Option<TuningOptions>,
    /// Seed of the choice of images.
    pub seed: u64,
}

/// A finished file in memory.
#[derive(Debug)]
pub struct Finished {
    /// Manifest without the tensor table.
    pub parts: ManifestParts,
    /// All tensors.
    pub tensors: Vec<TensorData<'static>>,
    /// One entry per quantized layer.
    pub layers: Vec<QuantizedLayer>,
    /// What tuning did, where it was asked for.
    pub tuning: Option<TuningReport>,
    /// Seconds of forward passes and Gram matrices, and of choosing codes.
    pub seconds: [f64; 2],
}

impl Finished {
    /// The arithmetic bound of the file's size, which depends on names and encodings alone.
    pub fn bound_bytes(&self) -> u64 {
        size_bound(&self.parts.config, &self.entries())
    }

    /// Length of the file; checksums may make it a few bytes shorter.
    ///
    /// # Errors
    /// As [`file_size_limit`].
    pub fn file_size_limit(&self) -> Result<u64, Error> {
        file_size_limit(&self.parts, &self.entries())
    }

    fn entries(&self) -> Vec<TensorEntry> {
        let entry = |tensor: &TensorData| TensorEntry {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            encoding: tensor.encoding,
            offset: 0,
            length: tensor.bytes.len() as u64,
            crc32: 0,
        };
        self.tensors.iter().map(entry).collect()
    }
}

impl Recipe {
    /// Whether the recipe needs images.
    pub fn needs_calibration(&self) -> bool {
        self.bits.codes().is_some() && (self.method.needs_calibration() || self.tuning.is_some())
    }

    /// Whether the tokens' Fisher information is needed.
    pub fn needs_information(&self) -> bool {
        self.bits.codes().is_some()
            && self.method.needs_calibration()
            && self.statistics.token_weights == TokenWeights::Fisher
    }

    /// Number of progress steps that [`Recipe::run`] reports.
    pub fn steps(&self, model: &FloatModel, calibration: Option<&CalibrationImages>) -> usize {
        match self.bits.codes() {
            Some(_) => {
                let tuning = self.tuning.as_ref().map_or(0, |tuning| {
                    tuning.epochs * calibration.map_or(0, CalibrationImages::len)
                });
                let agreement = calibration
                    .filter(|_| model.config.num_classes > 0)
                    .map_or(0, agreement::steps);
                pipeline::steps(&model.config, &self.method, calibration) + tuning + agreement
            }
            None => 0,
        }
    }

    /// Quantizes `model`, or stores it in float, and measures what the file records.
    ///
    /// # Errors
    /// As [`pipeline::quantize`].
    pub fn run(
        &self,
        model: &FloatModel,
        calibration: Option<Calibration>,
        device: &Device,
        threads: usize,
        mut progress: impl FnMut(usize),
    ) -> Result<Finished, Error> {
        let images = calibration.map(|calibration| calibration.images);
        let calibrated =
            Calibrated { images: images.map_or(0, CalibrationImages::len), device: device.kind() };
        let mut parts = self.parts(model, calibrated)?;
        let Some(widths) = self.widths(&model.config)? else {
            let tensors = float_tensors(model, self.bits, self.edge_bits)?;
            let (layers, tuning, seconds) = (Vec::new(), None, [0.0; 2]);
            return Ok(Finished { parts, tensors, layers, tuning, seconds });
        };
        let divided = match (&self.tuning, images) {
            (Some(options), Some(images)) => {
                let (training, held_back) = options.divide(images)?;
                tuning::check(model, (&training, &held_back), options)?;
                Some((options, (training, held_back)))
            }
            _ => None,
        };
        let tokens = model.config.tokens() as usize;
        let learning = divided.as_ref().map(|(_, (training, _))| training);
        let information = match (learning, calibration.and_then(|given| given.information)) {
            (Some(training), Some(all)) => Some(all.first(training.len(), tokens)),
            _ => None,
        };
        // What is kept is of all images.
        let learning = learning.map(|images| Calibration {
            images,
            information: information.as_ref(),
            cache: None,
        });
        let mut quantized = pipeline::quantize(
            model,
            (&self.method, &self.statistics),
            (&widths, self.edge_bits),
            learning.or(calibration),
            device,
            &mut progress,
        )?;
        let tuned = match &divided {
            Some((options, (training, held_back))) => {
                let images = (training, held_back);
                Some(tuning::tune(model, &mut quantized, images, device, options, &mut progress)?)
            }
            None => None,
        };
        parts.measured.extend(tuned.iter().flat_map(TuningReport::measured));
        let tensors = quantized.tensors(model, self.edge_bits)?;
        if let Some(images) = images {
            parts.provenance.push((CALIBRATION_SHA256.to_owned(), images.sha256()?));
            let unmeasured = Model::from_bytes(encode(&parts, &tensors)?)?;
            if unmeasured.config().num_classes > 0 {
                parts.measured.extend(agreements(&unmeasured, images, threads, progress)?);
            }
        }
        Ok(Finished {
            parts,
            tensors,
            layers: quantized.layers,
            tuning: tuned,
            seconds: [quantized.statistics_time, quantized.solver_time]
                .map(|time| time.as_secs_f64()),
        })
    }

    /// Width of every layer, or `None` for a float model.
    ///
    /// # Errors
    /// Fails when one of [`Recipe::layers`] matches nothing.
    pub fn widths(&self, config: &VitConfig) -> Result<Option<LayerWidths>, Error> {
        let named = named_widths(config, &self.layers)?;
        Ok(self.bits.codes().map(|uniform| LayerWidths { uniform, named }))
    }

    /// The same recipe with these widths, by timm's names of the weights; layers that are not named
    /// get the width that most have.
    #[must_use]
    pub fn with_widths(&self, config: &VitConfig, widths: &BTreeMap<String, CodeWidth>) -> Self {
        let specs = size::linear_weights(config);
        let chosen = || specs.iter().filter_map(|spec| Some((spec, *widths.get(&spec.name)?)));
        let count = |width| chosen().filter(|(_, one)| *one == width).count();
        let usual = chosen().map(|(_, width)| width).max_by_key(|&width| count(width));
        let Some(usual) = usual else { return self.clone() };
        let layers = chosen().filter(|(_, width)| *width != usual).map(|(spec, width)| LayerBits {
            pattern: spec.name.trim_end_matches(".weight").to_owned(),
            width,
        });
        Self { bits: StoredWidth::Codes(usual), layers: layers.collect(), ..self.clone() }
    }

    /// Mean bits of the codes of the blocks' linear layers, or those of the float model.
    ///
    /// # Errors
    /// As [`Recipe::widths`].
    pub fn average_bits(&self, config: &VitConfig) -> Result<f64, Error> {
        let specs = size::linear_weights(config);
        Ok(match self.widths(config)? {
            Some(widths) => {
                average_bits(specs.iter().map(|spec| (size::values(spec), widths.of(&spec.name))))
            }
            None => {
                if self.bits == StoredWidth::Float16 {
                    16.0
                } else {
                    32.0
                }
            }
        })
    }

    /// The manifest of the file but for what is measured, in the same length.
    pub(crate) fn planned_parts(
        &self,
        model: &FloatModel,
        images: usize,
    ) -> Result<ManifestParts, Error> {
        let calibrated = Calibrated { images, device: DeviceKind::Cpu };
        let mut parts = self.parts(model, calibrated)?;
        if images > 0 && self.bits.codes().is_some() {
            let checksum = model.source_sha256.clone();
            parts.provenance.push((CALIBRATION_SHA256.to_owned(), checksum));
            if self.tuning.is_some() {
                parts.measured.extend(TuningReport::planned(model.config.num_classes > 0));
            }
            if model.config.num_classes > 0 {
                let isa = Isa::from_env().map_err(|error| {
                    Error::new(ErrorKind::Unsupported, "cannot choose an instruction set")
                        .with_source(error)
                })?;
                let modes = compared_modes(isa).into_iter();
                parts.measured.extend(modes.map(|(_, name)| (name.to_owned(), 100.0)));
            }
        }
        Ok(parts)
    }

    fn parts(&self, model: &FloatModel, calibrated: Calibrated) -> Result<ManifestParts, Error> {
        Ok(ManifestParts {
            config: model.config.clone(),
            preprocessing: model.preprocessing.clone(),
            class_names: model.class_names.clone(),
            recipe: self.pairs(&model.config, calibrated)?,
            provenance: vec![
                ("source_sha256".to_owned(), model.source_sha256.clone()),
                ("quantizer".to_owned(), concat!("fresnel ", env!("CARGO_PKG_VERSION")).to_owned()),
            ],
            measured: Vec::new(),
            metadata: Vec::new(),
        })
    }

    fn pairs(
        &self,
        config: &VitConfig,
        calibrated: Calibrated,
    ) -> Result<Vec<(String, String)>, Error> {
        let bits = if self.layers.is_empty() {
            self.bits.to_string()
        } else {
            format!("{:.3} on average", self.average_bits(config)?)
        };
        let mut pairs = vec![("bits", bits), ("edge_bits", self.edge_bits.to_string())];
        if self.bits.codes().is_some() {
            pairs.push(("method", self.method.name().to_owned()));
            pairs.extend(self.method.settings());
        }
        if let Some(tuning) = self.tuning.as_ref().filter(|_| self.bits.codes().is_some()) {
            pairs.extend(tuning.settings());
        }
        if self.bits.codes().is_some() && self.method.needs_calibration() {
            pairs.extend(self.statistics.settings());
        }
        if self.needs_calibration() {
            pairs.extend([
                ("calibration_images", calibrated.images.to_string()),
                ("seed", self.seed.to_string()),
                ("device", calibrated.device_name().to_owned()),
            ]);
        }
        pairs.push((RECIPE_TOML, self.to_toml(calibrated)));
        Ok(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }
}
