//! What was asked for and what came out, in the form that files keep it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use fresnel_runtime::Error;
use fresnel_runtime::Model;
use fresnel_runtime::format::{ManifestParts, TensorData, encode};
use fresnel_runtime::session::INT8_AGREEMENT;

use crate::agreement::int8_agreement;
use crate::algorithm::{Method, StatisticsOptions};
use crate::calibration::{
    Cache, Calibration, CalibrationImages, Information, TokenWeights, fisher,
};
use crate::device::{Device, DeviceKind};
use crate::import::FloatModel;
use crate::model_file::float_tensors;
use crate::pipeline::{self, QuantizedLayer};
use crate::search::{self, Subject, Trial};
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
    /// Time within which constants are searched for, starting from `statistics`; `None` takes
    /// `statistics` as they are.
    pub search: Option<Duration>,
    /// Folder in which results of calibration are kept between runs.
    pub cache: Option<PathBuf>,
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
    /// What the search of constants tried.
    pub trials: Vec<Trial>,
    /// Seconds of forward passes and Gram matrices, and of choosing codes.
    pub seconds: [f64; 2],
}

impl Recipe {
    /// Whether the recipe needs images.
    pub fn needs_calibration(&self) -> bool {
        self.bits.codes().is_some() && self.method.needs_calibration()
    }

    /// Whether the tokens' Fisher information is needed.
    fn needs_information(&self) -> bool {
        self.needs_calibration()
            && (self.statistics.token_weights == TokenWeights::Fisher || self.search.is_some())
    }

    /// Number of progress steps that [`Recipe::run`] reports.
    pub fn steps(&self, model: &FloatModel, calibration: Option<&CalibrationImages>) -> usize {
        match self.bits.codes() {
            Some(_) => pipeline::steps(&model.config, &self.method, calibration),
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
        progress: impl FnMut(usize),
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
            return Ok(Finished {
                parts,
                tensors,
                layers: Vec::new(),
                trials: Vec::new(),
                seconds: [0.0; 2],
            });
        };
        let widths = LayerWidths::uniform(width);
        let subject =
            Subject { model, method: &self.method, widths: &widths, edge: self.edge_bits };
        let started = Instant::now();
        let cache = match (calibration, &self.cache) {
            (Some(images), Some(root)) => Some(Cache::open(root, model, images, device)?),
            _ => None,
        };
        let information = match calibration {
            Some(images) if self.needs_information() => {
                Some(information(model, images, device, cache.as_ref())?)
            }
            _ => None,
        };
        let information_time = started.elapsed();
        let prepared = calibration.map(|images| Calibration {
            images,
            information: information.as_ref(),
            cache: cache.as_ref(),
        });
        let mut statistics = self.statistics;
        let mut trials = Vec::new();
        if let (Some(prepared), Some(limit)) = (prepared, self.search) {
            trials = search::trials(subject, statistics, prepared, device, limit, |_| {})?;
            statistics = search::best(&trials).map_or(statistics, |best| best.statistics);
            parts.recipe = Self { statistics, ..self.clone() }.pairs(calibration, device);
        }
        let mut quantized = pipeline::quantize(
            model,
            (&self.method, &statistics),
            (&widths, self.edge_bits),
            prepared,
            device,
            progress,
        )?;
        quantized.statistics_time += information_time;
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
            trials,
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
        if self.needs_calibration() {
            let device = match device.kind() {
                DeviceKind::Cpu => "cpu",
                DeviceKind::Gpu => "gpu",
            };
            pairs.extend(self.statistics.settings());
            pairs.extend([
                ("calibration_images", calibration.map_or(0, CalibrationImages::len).to_string()),
                ("seed", self.seed.to_string()),
                ("device", device.to_owned()),
            ]);
        }
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// The tokens' Fisher information, from the cache where it is there.
fn information(
    model: &FloatModel,
    images: &CalibrationImages,
    device: &Device,
    cache: Option<&Cache>,
) -> Result<Information, Error> {
    let rows = images.len() * model.config.tokens() as usize;
    let fits = |kept: &Information| {
        kept.layers.len() == pipeline::layers(&model.config)
            && kept.layers.iter().all(|layer| layer.len() == rows)
    };
    if let Some(kept) = cache.and_then(Cache::information).filter(fits) {
        return Ok(kept);
    }
    let information = fisher::information(model, images, device, |_| {})?;
    if let Some(cache) = cache {
        cache.keep_information(&information)?;
    }
    Ok(information)
}
