//! What was asked for and what came out, in the form that files keep it.

use fresnel_runtime::Error;
use fresnel_runtime::Model;
use fresnel_runtime::format::{ManifestParts, TensorData, encode};
use fresnel_runtime::session::INT8_AGREEMENT;

use crate::agreement::int8_agreement;
use crate::algorithm::{Method, StatisticsOptions};
use crate::calibration::CalibrationImages;
use crate::device::{Device, DeviceKind};
use crate::import::FloatModel;
use crate::model_file::float_tensors;
use crate::pipeline::{self, QuantizedLayer};
use crate::tuning::{self, TuningOptions, TuningReport};
use crate::widths::{LayerWidths, StoredWidth};

/// Everything that determines a file besides the model and the images.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Width of the blocks' linear layers.
    pub bits: StoredWidth,
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

impl Recipe {
    /// Whether the recipe needs images.
    pub fn needs_calibration(&self) -> bool {
        self.bits.codes().is_some() && (self.method.needs_calibration() || self.tuning.is_some())
    }

    /// Number of progress steps that [`Recipe::run`] reports.
    pub fn steps(&self, model: &FloatModel, calibration: Option<&CalibrationImages>) -> usize {
        match self.bits.codes() {
            Some(_) => {
                let tuning = self.tuning.as_ref().map_or(0, |tuning| {
                    tuning.epochs * calibration.map_or(0, CalibrationImages::len)
                });
                pipeline::steps(&model.config, &self.method, calibration) + tuning
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
        calibration: Option<&CalibrationImages>,
        device: &Device,
        threads: usize,
        mut progress: impl FnMut(usize),
    ) -> Result<Finished, Error> {
        let mut parts = ManifestParts {
            config: model.config.clone(),
            preprocessing: model.preprocessing.clone(),
            class_names: model.class_names.clone(),
            recipe: self.pairs(calibration, device),
            provenance: vec![
                ("source_sha256".to_owned(), model.source_sha256.clone()),
                ("quantizer".to_owned(), concat!("fresnel ", env!("CARGO_PKG_VERSION")).to_owned()),
            ],
            measured: Vec::new(),
            metadata: Vec::new(),
        };
        let Some(width) = self.bits.codes() else {
            let tensors = float_tensors(model, self.bits, self.edge_bits)?;
            let (layers, tuning, seconds) = (Vec::new(), None, [0.0; 2]);
            return Ok(Finished { parts, tensors, layers, tuning, seconds });
        };
        let divided = match (&self.tuning, calibration) {
            (Some(tuning), Some(images)) => Some((tuning, tuning.divide(images)?)),
            _ => None,
        };
        let learning = divided.as_ref().map(|(_, (training, _))| training).or(calibration);
        let mut quantized = pipeline::quantize(
            model,
            (&self.method, &self.statistics),
            (&LayerWidths::uniform(width), self.edge_bits),
            learning,
            device,
            &mut progress,
        )?;
        let tuned = match &divided {
            Some((options, (training, held_back))) => {
                let images = (training, held_back);
                Some(tuning::tune(model, &mut quantized, images, device, options, progress)?)
            }
            None => None,
        };
        parts.measured.extend(tuned.iter().flat_map(TuningReport::measured));
        let tensors = quantized.tensors(model, self.edge_bits)?;
        if let Some(images) = calibration {
            parts.provenance.push(("calibration_sha256".to_owned(), images.sha256()?));
            let unmeasured = Model::from_bytes(encode(&parts, &tensors)?)?;
            if unmeasured.config().num_classes > 0 {
                let agreement = int8_agreement(&unmeasured, images, threads)?;
                parts.measured.push((INT8_AGREEMENT.to_owned(), agreement));
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

    fn pairs(
        &self,
        calibration: Option<&CalibrationImages>,
        device: &Device,
    ) -> Vec<(String, String)> {
        let mut pairs =
            vec![("bits", self.bits.to_string()), ("edge_bits", self.edge_bits.to_string())];
        if self.bits.codes().is_some() {
            pairs.push(("method", self.method.name().to_owned()));
            pairs.extend(self.method.settings());
        }
        if let Some(tuning) = self.tuning.as_ref().filter(|_| self.bits.codes().is_some()) {
            pairs.extend(tuning.settings());
        }
        if self.needs_calibration() {
            let device = match device.kind() {
                DeviceKind::Cpu => "cpu",
                DeviceKind::Gpu => "gpu",
            };
            if self.method.needs_calibration() {
                pairs.extend(self.statistics.settings());
            }
            pairs.extend([
                ("calibration_images", calibration.map_or(0, CalibrationImages::len).to_string()),
                ("seed", self.seed.to_string()),
                ("device", device.to_owned()),
            ]);
        }
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}
