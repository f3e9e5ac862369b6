//! `eval`: accuracy on labelled pictures.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::{ComputeArgs, Failure, Output, Progress, ReportArgs};
use crate::image::dataset::Listing;
use crate::image::{Item, Preprocessor, dataset};
use crate::model::Model;

/// Pictures that are prepared and run together: bounds memory.
const BATCH: usize = 32;

/// Measure a model's accuracy on labelled pictures
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fresnel eval model.fresnel --data evaluation.csv
  fresnel eval model.fresnel --data imagenet/val --limit 1000 --compute f32 --json

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

/// Turns the labels of class folders into the model's class indices: by name where the model knows
/// all folder names, by number where all are numbers, else in sorted order if there are as many
/// folders as classes.
fn with_model_classes(
    listing: Listing,
    model: &Model,
    data: &Path,
) -> Result<(Vec<Item>, bool), Failure> {
    let Listing { mut items, classes: folders, .. } = listing;
    if folders.is_empty() {
        return Ok((items, false));
    }
    let classes = model.config().num_classes as usize;
    let by_name = |folder: &String| model.class_names().iter().position(|name| name == folder);
    let by_number = |folder: &String| folder.parse().ok().filter(|&class: &usize| class < classes);
    let indices: Option<Vec<usize>> = folders
        .iter()
        .map(by_name)
        .collect::<Option<_>>()
        .or_else(|| folders.iter().map(by_number).collect())
        .or_else(|| (folders.len() == classes).then(|| (0..classes).collect()));
    let Some(indices) = indices else {
        return Err(Failure::bad_input(format!(
            "{}: {} class folders for a model of {classes} classes: name them by the model's class \
             names or by their indices, have a folder for each class, or give a csv with file,label",
            data.display(),
            folders.len()
        )));
    };
    for item in &mut items {
        let index = item.label.and_then(|label| indices.get(label as usize));
        item.label = index.and_then(|&index| u32::try_from(index).ok());
    }
    Ok((items, true))
}

/// `limit` of the items; spread over all of them where they are sorted by class.
fn limited((items, by_class): (Vec<Item>, bool), limit: Option<usize>) -> Vec<Item> {
    let n = items.len();
    let limit = limit.unwrap_or(n).min(n);
    let stride = |place: usize| if by_class { place * n / limit } else { place };
    (0..limit).map(|place| items[stride(place)].clone()).collect()
}

/// Runs `eval`.
///
/// # Errors
/// When the model, the list or a picture cannot be read, a picture has no label or one that the model
/// does not know, or the model has no classes.
pub fn eval(args: &EvalArgs) -> Result<(), Failure> {
    let output = Output::new(args.report);
    let model = Model::open(&args.model)?;
    let classes = model.config().num_classes;
    if classes == 0 {
        return Err(Failure::bad_input(format!(
            "{}: the model has no classes, its output is features",
            args.model.display()
        )));
    }
    let listing = dataset::list(&args.data)?;
    if !listing.unreadable.is_empty() {
        let count = listing.unreadable.len();
        output.message(format_args!(
            "{count} entries of {} could not be read and are left out, first: {}",
            args.data.display(),
            listing.unreadable[0]
        ));
    }
    if !listing.beside_classes.is_empty() {
        output.message(format_args!(
            "{} pictures of {} lie beside its class folders and are left out",
            listing.beside_classes.len(),
            args.data.display()
        ));
    }
    let items = limited(with_model_classes(listing, &model, &args.data)?, args.limit);
    if items.is_empty() {
        return Err(Failure::usage("--limit 0 leaves no picture to evaluate"));
    }
    let labels = items.iter().map(|item| label(item, classes)).collect::<Result<Vec<_>, _>>()?;

    let preprocessor = Preprocessor::new(model.preprocessing(), model.config().in_channels)?;
    let mut session = args.compute.session(&model)?;
    let mut progress = Progress::new("evaluating", items.len(), args.report);
    let start = Instant::now();
    let (mut first, mut fifth, mut inference) = (0usize, 0usize, 0.0);
    for (items, labels) in items.chunks(BATCH).zip(labels.chunks(BATCH)) {
        let paths: Vec<_> = items.iter().map(|item| &item.path).collect();
        let mut pixels = Vec::with_capacity(items.len() * preprocessor.output_len());
        for picture in preprocessor.load_all(&paths, session.threads()) {
            pixels.extend(picture?);
        }
        let begin = Instant::now();
        let logits = session.run(&pixels, items.len())?;
        inference += begin.elapsed().as_secs_f64();
        for (logits, &label) in logits.chunks_exact(classes as usize).zip(labels) {
            let rank = rank(logits, label);
            first += usize::from(rank < 1);
            fifth += usize::from(rank < 5);
        }
        progress.advance(items.len());
    }
    drop(progress);
    let seconds = start.elapsed().as_secs_f64();

    let n = items.len();
    let percent = |count: usize| count as f64 * 100.0 / n as f64;
    if output.json() {
        return output.line(json!({
            "file": args.model.display().to_string(),
            "data": args.data.display().to_string(),
            "n": n,
            "top1": percent(first),
            "top5": percent(fifth),
            "compute": session.compute().name(),
            "kernel": session.kernel(),
            "threads": session.threads(),
            "seconds": seconds,
            "images_per_second": n as f64 / seconds,
            "model_images_per_second": n as f64 / inference,
        }));
    }
    output.line(format_args!(
        "top-1 {:.2} %  top-5 {:.2} %  of {n} pictures ({}, {}, {} threads; {:.1} pictures/s, the model alone {:.1})",
        percent(first),
        percent(fifth),
        session.compute(),
        session.kernel(),
        session.threads(),
        n as f64 / seconds,
        n as f64 / inference
    ))
}

/// The label of a picture, checked.
fn label(item: &Item, classes: u32) -> Result<usize, Failure> {
    let path = item.path.display();
    match item.label {
        None => Err(Failure::bad_input(format!(
            "{path}: has no label: accuracy needs a csv with a column `label`, or one folder per class"
        ))),
        Some(label) if label >= classes => Err(Failure::bad_input(format!(
            "{path}: label {label} is none of the model's {classes} classes (0 to {})",
            classes - 1
        ))),
        Some(label) => Ok(label as usize),
    }
}

/// How many classes rank before `label`; equal logits rank by their index, NaN ranks last.
fn rank(logits: &[f32], label: usize) -> usize {
    let own = logits[label];
    if own.is_nan() {
        return logits.len();
    }
    let before = |&(class, &logit): &(usize, &f32)| logit > own || (logit == own && class < label);
    logits.iter().enumerate().filter(before).count()
}

#[cfg(test)]
mod tests {
    use super::rank;

    #[test]
    fn rank_counts_better_classes() {
        let logits = [0.5, 2.0, 0.5, -1.0, f32::NAN];
        assert_eq!(rank(&logits, 1), 0);
        assert_eq!(rank(&logits, 0), 1);
        assert_eq!(rank(&logits, 2), 2);
        assert_eq!(rank(&logits, 3), 3);
        assert_eq!(rank(&logits, 4), 5);
    }
}
