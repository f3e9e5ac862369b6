//! Settings of tuning, and how calibration images are divided for it.

use std::fmt;

use fresnel_runtime::{Error, ErrorKind};

use crate::calibration::CalibrationImages;

/// What is tuned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tuned {
    /// All layer normalizations.
    Norms,
    /// Also the biases behind the embedding, and scales and offsets of the blocks' linear layers.
    All,
}

impl fmt::Display for Tuned {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Norms => "norms",
            Self::All => "all",
        })
    }
}

/// Adam's learning rate for each kind of vector, before the cosine decay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRates {
    /// Layer normalizations.
    pub norms: f32,
    /// Biases.
    pub biases: f32,
    /// Scales, relative to themselves.
    pub scales: f32,
    /// Offsets, relative to the scale of their channel.
    pub offsets: f32,
}

/// Settings of [`tune`](super::tune).
#[derive(Debug, Clone, PartialEq)]
pub struct TuningOptions {
    /// What is tuned.
    pub tuned: Tuned,
    /// Most passes over the training images.
    pub epochs: usize,
    /// Images of a step.
    pub batch: usize,
    /// Passes without a better model after which tuning ends.
    pub patience: usize,
    /// Share of the images that is held back, in (0, 1); at least one image is.
    pub held_back: f64,
    /// Learning rates.
    pub learning_rates: LearningRates,
    /// Weight of the residual streams' distance from the float model's beside the loss of the outputs.
    pub stream_weight: f64,
    /// Class of each calibration image, for training on labels instead of the float model's outputs.
    pub labels: Option<Vec<u32>>,
    /// Seed of the order of the images.
    pub seed: u64,
}

impl TuningOptions {
    /// The settings that were best on held-back images of DeiT-Tiny at 2 bit.
    pub fn new(tuned: Tuned, seed: u64) -> Self {
        Self {
            tuned,
            epochs: 6,
            batch: 32,
            patience: 2,
            held_back: 0.2,
            learning_rates: match tuned {
                Tuned::Norms => {
                    LearningRates { norms: 3e-3, biases: 0.0, scales: 0.0, offsets: 0.0 }
                }
                Tuned::All => {
                    LearningRates { norms: 2e-3, biases: 5e-4, scales: 1e-3, offsets: 1e-3 }
                }
            },
            stream_weight: 20.0,
            labels: None,
            seed,
        }
    }

    /// Divides `images` into those that the model learns from and those held back: the last ones,
    /// which are any ones where a seed has chosen the order.
    ///
    /// The quantizer must not see those held back either: codes that were fitted to an image do
    /// better on it than on others, and tuning would look worse than it is.
    ///
    /// # Errors
    /// Fails where no image would be left to learn from.
    pub fn divide(
        &self,
        images: &CalibrationImages,
    ) -> Result<(CalibrationImages, CalibrationImages), Error> {
        let held_back = ((images.len() as f64 * self.held_back).round() as usize).max(1);
        if images.len() <= held_back {
            return Err(Error::new(
                ErrorKind::Input,
                format!(
                    "tuning learns from some calibration images and holds {held_back} back, found \
                     {}: give more images",
                    images.len()
                ),
            ));
        }
        let training = images.len() - held_back;
        Ok((images.part(0..training), images.part(training..images.len())))
    }

    /// The settings as a file's recipe names them.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let rates = &self.learning_rates;
        let mut settings = vec![
            ("tune", self.tuned.to_string()),
            ("tune_targets", if self.labels.is_some() { "labels" } else { "float" }.to_owned()),
            ("tune_epochs", self.epochs.to_string()),
            ("tune_batch", self.batch.to_string()),
            ("tune_stream_weight", self.stream_weight.to_string()),
            ("tune_held_back", self.held_back.to_string()),
            ("tune_rate_norms", rates.norms.to_string()),
        ];
        if self.tuned == Tuned::All {
            settings.extend([
                ("tune_rate_biases", rates.biases.to_string()),
                ("tune_rate_scales", rates.scales.to_string()),
                ("tune_rate_offsets", rates.offsets.to_string()),
            ]);
        }
        settings
    }
}
