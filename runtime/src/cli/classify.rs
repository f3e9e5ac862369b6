//! `classify`: pictures in, class names and probabilities out.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::{ComputeArgs, Failure, Output, ReportArgs};
use crate::model::Model;
use crate::prediction::Prediction;

/// Name what pictures show
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fresnel-run classify model.fresnel cat.jpg
  fresnel-run classify model.fresnel photos/*.jpg --top 1 --json")]
pub struct ClassifyArgs {
    /// Model file
    #[arg(value_name = "FILE")]
    pub model: PathBuf,
    /// JPEG or PNG pictures
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<PathBuf>,
    /// Classes to show per picture, the most probable first
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub top: usize,
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
    /// How to report
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Runs `classify`.
///
/// # Errors
/// When the model or a picture cannot be read, or the model has no classes.
pub fn classify(args: &ClassifyArgs) -> Result<(), Failure> {
    let output = Output::new(args.report);
    let model = Model::open(&args.model)?;
    if model.config().num_classes == 0 {
        return Err(Failure::bad_input(format!(
            "{}: the model has no classes, its output is features: use run",
            args.model.display()
        )));
    }
    let preprocessor = model.preprocessor()?;
    let mut session = args.compute.session(&model)?;
    let mut results = Vec::new();
    for path in &args.images {
        let start = Instant::now();
        let pixels = preprocessor.load(path)?;
        let prepared = start.elapsed().as_secs_f64() * 1e3;
        let start = Instant::now();
        let logits = session.run(&pixels, 1).map_err(|error| error.at_path(path))?;
        let inference = start.elapsed().as_secs_f64() * 1e3;
        let guesses = Prediction::top(&logits, args.top);
        let name = |class: usize| match model.class_name(class) {
            Some(name) => name.to_owned(),
            None => format!("class {class}"),
        };
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
                "preprocess_milliseconds": prepared,
            }));
            continue;
        }
        output.line(format_args!(
            "{}  ({inference:.1} ms, and {prepared:.1} ms to read the picture)",
            path.display()
        ))?;
        for guess in &guesses {
            output.line(format_args!(
                "  {:6.2} %  {}",
                guess.probability * 100.0,
                name(guess.class)
            ))?;
        }
    }
    if output.json() {
        output.line(json!({
            "file": args.model.display().to_string(),
            "compute": session.compute().name(),
            "kernel": session.kernel(),
            "threads": session.threads(),
            "images": results,
        }))?;
    }
    Ok(())
}
