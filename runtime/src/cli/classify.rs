//! `classify`: pictures in, class names and probabilities out.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::{ComputeArgs, Failure, Output, ReportArgs};
use crate::image::Preprocessor;

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

/// A class with its probability.
struct Guess {
    class: usize,
    probability: f64,
}

/// Runs `classify`.
///
/// # Errors
/// When the model or a picture cannot be read, or the model has no classes.
pub fn classify(args: &ClassifyArgs) -> Result<(), Failure> {
    let output = Output::new(args.report);
    let mut session = args.compute.open(&args.model, &output)?;
    let model = Arc::clone(session.model());
    if model.config().num_classes == 0 {
        return Err(Failure::bad_input(format!(
            "{}: the model has no classes, its output is features: use run",
            args.model.display()
        )));
    }
    let preprocessor = Preprocessor::new(model.preprocessing(), model.config().in_channels)?;
    let mut results = Vec::new();
    for path in &args.images {
        let start = Instant::now();
        let pixels = preprocessor.load(path)?;
        let prepared = start.elapsed().as_secs_f64() * 1e3;
        let start = Instant::now();
        let logits = session.run(&pixels, 1).map_err(|error| error.at_path(path))?;
        let inference = start.elapsed().as_secs_f64() * 1e3;
        let guesses = top(&logits, args.top);
        let name = |class: usize| match model.class_names().get(class) {
            Some(name) => name.clone(),
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
            "device": model.device().to_string(),
            "compute": session.compute().name(),
            "kernel": session.kernel(),
            "threads": session.threads(),
            "images": results,
        }))?;
    }
    Ok(())
}

/// The `count` most probable classes, equal ones in the order of their indices.
fn top(logits: &[f32], count: usize) -> Vec<Guess> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|&logit| f64::from(logit - max).exp()).collect();
    let sum: f64 = powers.iter().sum();
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| powers[b].total_cmp(&powers[a]));
    order.truncate(count);
    order.into_iter().map(|class| Guess { class, probability: powers[class] / sum }).collect()
}

#[cfg(test)]
mod tests {
    use super::top;

    #[test]
    fn probabilities_add_up_and_are_sorted() {
        let guesses = top(&[1.0, 3.0, 3.0, -500.0], 10);
        let classes: Vec<usize> = guesses.iter().map(|guess| guess.class).collect();
        assert_eq!(classes, [1, 2, 0, 3]);
        let sum: f64 = guesses.iter().map(|guess| guess.probability).sum();
        assert!((sum - 1.0).abs() < 1e-12);
        assert_eq!(top(&[1.0, 2.0], 1).len(), 1);
    }
}
