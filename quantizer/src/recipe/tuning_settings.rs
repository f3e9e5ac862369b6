//! What a user may settle about tuning: the flags `--tune...` and the recipe's table `[tuning]`.

use clap::{Args, ValueEnum};
use fresnel_runtime::cli::Failure;
use serde::Deserialize;

use crate::tuning::{Tuned, TuningOptions};

/// Longest tuning: a slip of the keyboard should not take days.
const MAX_EPOCHS: usize = 1000;

/// Values of `--tune`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TuneName {
    /// Nothing
    None,
    /// All layer normalizations
    Norms,
    /// Layer normalizations, biases, and the scales and offsets of the codes
    All,
}

/// How the quantized model is tuned.
#[derive(Debug, Clone, Default, PartialEq, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TuningSettings {
    /// What learns from the calibration images after quantization, the codes staying as they are
    /// [default: none]
    #[arg(long = "tune", value_enum, value_name = "WHAT")]
    pub tune: Option<TuneName>,
    /// Learn from the labels of the csv given with --calib instead of the float model's outputs
    #[arg(long = "tune-labels", num_args = 0, default_missing_value = "true")]
    pub labels: Option<bool>,
    /// Most passes over the images [default: 6]
    #[arg(long = "tune-epochs", value_name = "N")]
    pub epochs: Option<usize>,
    /// Weight of the residual streams' distance from the float model's [default: 20; with --tune-labels 0]
    #[arg(long = "tune-streams", value_name = "W")]
    pub streams: Option<f64>,
    /// Share of the calibration images that only judges [default: 0.2]
    #[arg(long = "tune-held-back", value_name = "SHARE")]
    pub held_back: Option<f64>,
}

impl TuningSettings {
    /// These settings where they say something, those of `recipe` elsewhere.
    #[must_use]
    pub fn over(self, recipe: Self) -> Self {
        Self {
            tune: self.tune.or(recipe.tune),
            labels: self.labels.or(recipe.labels),
            epochs: self.epochs.or(recipe.epochs),
            streams: self.streams.or(recipe.streams),
            held_back: self.held_back.or(recipe.held_back),
        }
    }

    /// Whether labels are to be learnt from.
    pub fn on_labels(&self) -> bool {
        self.labels.unwrap_or(false)
    }

    /// The options that the settings describe, labels aside; `None` where nothing is tuned. `codes`
    /// says whether the model is quantized at all.
    ///
    /// # Errors
    /// A usage error when settings contradict each other or lie outside their range.
    pub fn options(&self, codes: bool, seed: u64) -> Result<Option<TuningOptions>, Failure> {
        let tuned = match self.tune.unwrap_or(TuneName::None) {
            TuneName::None => {
                let given = [
                    (self.on_labels(), "--tune-labels"),
                    (self.epochs.is_some(), "--tune-epochs"),
                    (self.streams.is_some(), "--tune-streams"),
                    (self.held_back.is_some(), "--tune-held-back"),
                ];
                return match given.into_iter().find(|(given, _)| *given) {
                    Some((_, flag)) => {
                        Err(Failure::usage(format!("{flag} needs --tune norms or --tune all")))
                    }
                    None => Ok(None),
                };
            }
            TuneName::Norms => Tuned::Norms,
            TuneName::All => Tuned::All,
        };
        if !codes {
            return Err(Failure::usage(format!(
                "--tune {tuned} with a float model: tuning repairs what quantization breaks"
            )));
        }
        let mut options = TuningOptions::new(tuned, seed);
        if let Some(epochs) = self.epochs {
            if !(1..=MAX_EPOCHS).contains(&epochs) {
                return Err(Failure::usage(format!(
                    "--tune-epochs {epochs}: expected 1 to {MAX_EPOCHS}"
                )));
            }
            options.epochs = epochs;
        }
        if self.on_labels() {
            options.stream_weight = 0.0;
        }
        if let Some(weight) = self.streams {
            if !(0.0..=1e6).contains(&weight) {
                return Err(Failure::usage(format!(
                    "--tune-streams {weight}: expected a number from 0 to 1000000"
                )));
            }
            options.stream_weight = weight;
        }
        if let Some(share) = self.held_back {
            if !(share > 0.0 && share < 1.0) {
                return Err(Failure::usage(format!(
                    "--tune-held-back {share}: expected a number between 0 and 1"
                )));
            }
            options.held_back = share;
        }
        Ok(Some(options))
    }
}
