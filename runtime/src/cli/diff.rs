//! `diff`: what is different between two model files, setting by setting and tensor by tensor.

mod settings;
mod tensors;

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{Exit, Failure, Output, ReportArgs};
use crate::format::Container;
use settings::SettingDifference;
use tensors::TensorDifference;

/// Compare two model files: settings, codes, scales, weights, sizes
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fresnel diff a.fresnel b.fresnel
  fresnel diff float.fresnel 2bit.fresnel --json
  fresnel diff a.fresnel b.fresnel --quiet && echo same

Tensors that are the same are not shown. codes: share of the codes that differ; scale and weights:
length of the difference in per cent of the length of what A has, weights as the runtime sees them.
With a float file as A, weights is the error of quantization.

Exit code 0: both files say the same and hold the same tensors; 1: they differ; others: see fresnel --help.")]
pub struct DiffArgs {
    /// Model file
    #[arg(value_name = "A")]
    pub a: PathBuf,
    /// Model file to compare with it
    #[arg(value_name = "B")]
    pub b: PathBuf,
    /// How to report
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Runs `diff`.
///
/// # Errors
/// When a file is unreadable or damaged; and, after the differences are printed, when there are any.
pub fn diff(args: &DiffArgs) -> Result<(), Failure> {
    let output = Output::new(args.report);
    let (a, b) = (Container::open(&args.a)?, Container::open(&args.b)?);
    let settings = settings::differences(a.manifest(), b.manifest());
    let (tensors, same) = tensors::differences(&a, &b)?;
    let equal = settings.is_empty() && tensors.is_empty();
    if output.json() {
        output.line(json!({
            "a": args.a.display().to_string(),
            "b": args.b.display().to_string(),
            "same": equal,
            "file_bytes": [a.file_bytes(), b.file_bytes()],
            "settings": settings.iter().map(SettingDifference::document).collect::<Vec<_>>(),
            "tensors": tensors.iter().map(TensorDifference::document).collect::<Vec<_>>(),
            "same_tensors": same,
        }))?;
    } else if !args.report.quiet {
        for setting in &settings {
            output.line(setting)?;
        }
        if !tensors.is_empty() {
            if !settings.is_empty() {
                output.line("")?;
            }
            output.line(TensorDifference::HEADING)?;
            for tensor in &tensors {
                output.line(tensor)?;
            }
        }
        if !equal {
            output.line("")?;
        }
        output.line(format_args!(
            "{same} tensors are the same, {} differ; {} and {} bytes",
            tensors.len(),
            a.file_bytes(),
            b.file_bytes()
        ))?;
    }
    if equal { Ok(()) } else { Err(Failure::told(Exit::CheckFailed)) }
}
