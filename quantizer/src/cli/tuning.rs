//! The flags of tuning after quantization.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use fresnel_runtime::cli::Failure;
use fresnel_runtime::image::dataset;
use serde_json::json;

use crate::calibration::CalibrationImages;
use crate::tuning::{HeldBackScore, Tuned, TuningOptions, TuningReport};

/// Values of `--tune`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TuneName {
    /// Nothing
    None,
    /// All layer normalizations
    Norms,
    /// Layer normalizations, biases, and the scales and offsets of the codes
    All,
}

/// How the quantized model is tuned.
#[derive(Debug, Args)]
pub(super) struct TuningArgs {
    /// What learns from the calibration images after quantization, the codes staying as they are
    #[arg(long, value_enum, default_value_t = TuneName::None)]
    tune: TuneName,
    /// Learn from the labels of the csv given with --calib instead of the float model's outputs
    #[arg(long)]
    tune_labels: bool,
    /// Most passes over the images [default: 6]
    #[arg(long, value_name = "N")]
    tune_epochs: Option<usize>,
    /// Weight of the residual streams' distance from the float model's [default: 20; with --tune-labels 0]
    #[arg(long, value_name = "W")]
    tune_streams: Option<f64>,
    /// Share of the calibration images that only judges [default: 0.2]
    #[arg(long, value_name = "SHARE")]
    tune_held_back: Option<f64>,
}

/// Longest tuning: a slip of the keyboard should not take days.
const MAX_EPOCHS: usize = 1000;

impl TuningArgs {
    /// The settings that the flags describe, labels aside; `codes` says whether the model is
    /// quantized at all.
    pub(super) fn options(
        &self,
        codes: bool,
        calib: Option<&Path>,
        seed: u64,
    ) -> Result<Option<TuningOptions>, Failure> {
        let tuned = match self.tune {
            TuneName::None => {
                for (given, flag) in [
                    (self.tune_labels, "--tune-labels"),
                    (self.tune_epochs.is_some(), "--tune-epochs"),
                    (self.tune_streams.is_some(), "--tune-streams"),
                    (self.tune_held_back.is_some(), "--tune-held-back"),
                ] {
                    if given {
                        return Err(Failure::usage(format!(
                            "{flag} needs --tune norms or --tune all"
                        )));
                    }
                }
                return Ok(None);
            }
            TuneName::Norms => Tuned::Norms,
            TuneName::All => Tuned::All,
        };
        if !codes {
            return Err(Failure::usage(format!(
                "--tune {tuned} with a float model: tuning repairs what quantization breaks"
            )));
        }
        let Some(calib) = calib else {
            return Err(Failure::usage(format!(
                "--tune {tuned} needs calibration images: give a folder or a csv with --calib"
            )));
        };
        if self.tune_labels && !is_csv(calib) {
            return Err(Failure::usage(
                "--tune-labels needs a csv with columns file,label as --calib",
            ));
        }
        let mut options = TuningOptions::new(tuned, seed);
        if let Some(epochs) = self.tune_epochs {
            if !(1..=MAX_EPOCHS).contains(&epochs) {
                return Err(Failure::usage(format!(
                    "--tune-epochs {epochs}: expected 1 to {MAX_EPOCHS}"
                )));
            }
            options.epochs = epochs;
        }
        if self.tune_labels {
            options.stream_weight = 0.0;
        }
        if let Some(weight) = self.tune_streams {
            if !(0.0..=1e6).contains(&weight) {
                return Err(Failure::usage(format!(
                    "--tune-streams {weight}: expected a number from 0 to 1000000"
                )));
            }
            options.stream_weight = weight;
        }
        if let Some(share) = self.tune_held_back {
            if !(share > 0.0 && share < 1.0) {
                return Err(Failure::usage(format!(
                    "--tune-held-back {share}: expected a number between 0 and 1"
                )));
            }
            options.held_back = share;
        }
        Ok(Some(options))
    }

    /// The labels of `images` from the csv `calib`, where labels are asked for.
    pub(super) fn labels(
        &self,
        calib: &Path,
        images: &CalibrationImages,
    ) -> Result<Option<Vec<u32>>, Failure> {
        if !self.tune_labels {
            return Ok(None);
        }
        let listing = dataset::list(calib)?;
        let labels: HashMap<PathBuf, u32> =
            listing.items.into_iter().filter_map(|item| Some((item.path, item.label?))).collect();
        let label = |path: &PathBuf| {
            labels.get(path).copied().ok_or_else(|| {
                Failure::bad_input(format!(
                    "{}: no label in {}, which --tune-labels needs for every image",
                    path.display(),
                    calib.display()
                ))
            })
        };
        images.files().iter().map(label).collect::<Result<_, _>>().map(Some)
    }
}

/// A report for programs.
pub(super) fn json(report: &TuningReport) -> serde_json::Value {
    let score = |score: &HeldBackScore| json!({"loss": score.loss, "agreement": score.agreement});
    json!({
        "training_images": report.training_images,
        "held_back_images": report.held_back_images,
        "values": report.values,
        "before": score(&report.before),
        "after": score(&report.after),
        "best_epoch": report.best_epoch,
        "training_losses": report.training_losses,
        "held_back": report.scores.iter().map(score).collect::<Vec<_>>(),
        "seconds": report.seconds,
    })
}

/// A report for people.
pub(super) fn line(report: &TuningReport) -> String {
    let percent = |score: &HeldBackScore| {
        score.agreement.map_or(String::new(), |agreement| format!(" ({agreement:.1} %)"))
    };
    let kept = match report.best_epoch {
        0 => ", the untuned model is kept".to_owned(),
        epoch => format!(", best after pass {epoch} of {}", report.scores.len()),
    };
    format!(
        "tuned {} values on {} images; on {} others the loss{} goes from {:.4}{} to {:.4}{}{kept}",
        report.values,
        report.training_images,
        report.held_back_images,
        if report.before.agreement.is_some() { " (agreement with float)" } else { "" },
        report.before.loss,
        percent(&report.before),
        report.after.loss,
        percent(&report.after),
    )
}

fn is_csv(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"))
}
