//! `eval`: accuracy on labelled pictures.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::{ComputeArgs, Failure, Output, Progress, ReportArgs};
use crate::evaluation::LabelledPictures;
use crate::image::dataset;
use crate::model::Model;

/// Measure a model's accuracy on labelled pictures
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fresnel eval model.fresnel --data evaluation.csv
  fresnel eval model.fresnel --data imagenet/val --limit 1000 --compute f32 --json
  fresnel eval model.fresnel --data imagenet/val --device gpu --compute half

DATA is a csv file with columns `file,label` (paths relative to the csv's own folder), or a folder with
one sub-folder per class: named by the model's class names or by class indices, or one for each class,
numbered by their sorted names.")]
pub struct EvalArgs {
    /// Model file
    #[arg(value_name = "FILE")]
    pub model: PathBuf,
    /// Labelled pictures: a csv file with columns file,label, or a folder with one folder per class
    #[arg(long, value_name = "DATA")]
    pub data: PathBuf,
    /// Use N pictures only: the first of a csv, evenly spread ones of a folder
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
    /// How to report
    #[command(flatten)]
    pub report: ReportArgs,
}

/// The labelled pictures of `data` for `model`, `limit` of them; what is left out is reported.
///
/// # Errors
/// When the list cannot be read or does not fit the model (see [`LabelledPictures::new`]), and when
/// nothing is left to evaluate.
pub fn labelled_pictures(
    data: &Path,
    limit: Option<usize>,
    model: &Model,
    output: &Output,
) -> Result<LabelledPictures, Failure> {
    let listing = dataset::list(data)?;
    if !listing.unreadable.is_empty() {
        output.message(format_args!(
            "{} entries of {} could not be read and are left out, first: {}",
            listing.unreadable.len(),
            data.display(),
            listing.unreadable[0]
        ));
    }
    if !listing.beside_classes.is_empty() {
        output.message(format_args!(
            "{} pictures of {} lie beside its class folders and are left out",
            listing.beside_classes.len(),
            data.display()
        ));
    }
    let pictures = LabelledPictures::new(listing, model, limit)
        .map_err(|error| if error.path().is_none() { error.at_path(data) } else { error })?;
    if pictures.is_empty() {
        return Err(Failure::usage("--limit 0 leaves no picture to evaluate"));
    }
    Ok(pictures)
}

/// Runs `eval`.
///
/// # Errors
/// When the model, the list or a picture cannot be read, a picture has no label or one that the model
/// does not know, or the model has no classes.
pub fn eval(args: &EvalArgs) -> Result<(), Failure> {
    let output = Output::new(args.report);
    let mut session = args.compute.open(&args.model, &output)?;
    let model = Arc::clone(session.model());
    if model.config().num_classes == 0 {
        return Err(Failure::bad_input(format!(
            "{}: the model has no classes, its output is features",
            args.model.display()
        )));
    }
    let pictures = labelled_pictures(&args.data, args.limit, &model, &output)?;
    let mut progress = Progress::new("evaluating", pictures.len(), args.report);
    let start = Instant::now();
    let accuracy = pictures.evaluate(&mut session, |done| progress.advance(done))?;
    drop(progress);
    let seconds = start.elapsed().as_secs_f64();
    let n = accuracy.images;
    if output.json() {
        return output.line(json!({
            "file": args.model.display().to_string(),
            "data": args.data.display().to_string(),
            "n": n,
            "top1": accuracy.top1(),
            "top5": accuracy.top5(),
            "device": model.device().to_string(),
            "compute": session.compute().name(),
            "kernel": session.kernel(),
            "threads": session.threads(),
            "seconds": seconds,
            "images_per_second": n as f64 / seconds,
            "model_images_per_second": n as f64 / accuracy.model_seconds,
        }));
    }
    output.line(format_args!(
        "top-1 {:.2} %  top-5 {:.2} %  of {n} pictures ({}, {}, {}, {} threads; {:.1} pictures/s, the model alone {:.1})",
        accuracy.top1(),
        accuracy.top5(),
        model.device(),
        session.compute(),
        session.kernel(),
        session.threads(),
        n as f64 / seconds,
        n as f64 / accuracy.model_seconds
    ))
}
