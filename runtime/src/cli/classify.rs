//! `classify`: pictures in, class names and probabilities out.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::output::one_line;
use super::{ComputeArgs, Failure, Output, ReportArgs};
use crate::model::class_names;
use crate::prediction::Prediction;

/// Name what pictures show
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fresnel-run classify model.fresnel cat.jpg
  fresnel-run classify model.fresnel cat.jpg dog.jpg -k 3 --class-names imagenet_classes.txt
  fresnel-run classify model.fresnel photos/*.jpg -k 1 --json

Names come from the file, or from --class-names; without them classes are numbered.")]
pub struct ClassifyArgs {
    /// Model file
    #[arg(value_name = "FILE")]
    pub model: PathBuf,
    /// JPEG or PNG pictures
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<PathBuf>,
    /// Classes to show per picture, the most probable first
    #[arg(short = 'k', long, value_name = "N", default_value_t = 5)]
    pub top: usize,
    /// Class names, one per line in index order [default: those in the model file]
    #[arg(long, value_name = "FILE")]
    pub class_names: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
    /// How to report
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Runs `classify`.
///
/// # Errors
/// When the model, the class names or a picture cannot be read, or the model has no classes.
pub fn classify(args: &ClassifyArgs) -> Result<(), Failure> {
    let output = Output::new(args.report);
    let start = Instant::now();
    let mut session = args.compute.open(&args.model, &output)?;
    let model = Arc::clone(session.model());
    let classes = model.config().num_classes;
    if classes == 0 {
        return Err(Failure::bad_input(format!(
            "{}: the model has no classes, its output is features: use run",
            args.model.display()
        )));
    }
    let names = match &args.class_names {
        Some(path) => class_names::read(path, classes)?,
        None => model.class_names().to_vec(),
    };
    let preprocessor = model.preprocessor()?;
    let load = milliseconds(start);
    if names.is_empty() {
        output.message(format_args!(
            "{}: no class names in the file: give --class-names FILE, or put them in with \
             fresnel edit {} --class-names FILE -o named.fresnel",
            args.model.display(),
            args.model.display()
        ));
    }
    let name = |class: usize| names.get(class).map_or(format!("class {class}"), String::clone);
    let mut results = Vec::new();
    for path in &args.images {
        let start = Instant::now();
        let pixels = preprocessor.load(path)?;
        let preprocess = milliseconds(start);
        let start = Instant::now();
        let logits = session.run(&pixels, 1).map_err(|error| error.at_path(path))?;
        let inference = milliseconds(start);
        let guesses =
            Prediction::top(&logits, args.top).map_err(|error| error.at_path(&args.model))?;
        if output.json() {
            let classes: Vec<_> = guesses
                .iter()
                .map(|guess| {
                    json!({
                        "index": guess.class,
                        "name": name(guess.class),
                        "probability": guess.probability,
                    })
                })
                .collect();
            results.push(json!({
                "image": path.display().to_string(),
                "classes": classes,
                "milliseconds": inference,
                "preprocess_milliseconds": preprocess,
            }));
            continue;
        }
        output.line(format_args!(
            "{}  preprocess {preprocess:.1} ms, inference {inference:.1} ms",
            one_line(path.display())
        ))?;
        for guess in &guesses {
            let percent = guess.probability * 100.0;
            output.line(format_args!("  {percent:6.2} %  {}", name(guess.class)))?;
        }
    }
    if output.json() {
        return output.line(json!({
            "file": args.model.display().to_string(),
            "device": model.device().to_string(),
            "compute": session.compute().name(),
            "kernel": session.kernel(),
            "threads": session.threads(),
            "load_milliseconds": load,
            "images": results,
        }));
    }
    output.line(format_args!(
        "{}  loaded in {load:.1} ms ({}, {}, {} threads)",
        one_line(args.model.display()),
        session.compute(),
        session.kernel(),
        session.threads()
    ))
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
