//! Labels for tuning, and what is said of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use fresnel_runtime::cli::Failure;
use fresnel_runtime::image::dataset;
use serde_json::json;

use crate::calibration::CalibrationImages;
use crate::tuning::{HeldBackScore, TuningOptions, TuningReport};

/// The labels of `images` from the csv `calib`.
///
/// # Errors
/// Fails when `calib` is no csv, or lacks the label of an image.
pub(super) fn labels(calib: &Path, images: &CalibrationImages) -> Result<Vec<u32>, Failure> {
    if !is_csv(calib) {
        return Err(Failure::usage("--tune-labels needs a csv with columns file,label as --calib"));
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
    images.files().iter().map(label).collect()
}

/// What tuning is going to do, for people.
pub(super) fn plan(options: &TuningOptions) -> String {
    format!(
        "tuned afterwards: {} on {}, at most {} passes, a share of {} of the images held back",
        options.tuned,
        if options.labels.is_some() { "the images' labels" } else { "the float model's outputs" },
        options.epochs,
        options.held_back
    )
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
