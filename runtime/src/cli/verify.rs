//! `verify`: is a file whole, consistent and able to run?

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{Failure, Output, ReportArgs};
use crate::model::Model;
use crate::session::{Compute, Session, SessionOptions};

/// Check a model file: every checksum, every rule of the format, and one run of the model
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fresnel-run verify model.fresnel
  fresnel-run verify model.fresnel --json && echo good

Exit code 0: good; 1: well formed, but its output is not finite; 3: damaged; 4: not readable.")]
pub struct VerifyArgs {
    /// Model file
    #[arg(value_name = "FILE")]
    pub model: PathBuf,
    /// Threads to compute with; 0 = one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// How to report
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Runs `verify`.
///
/// # Errors
/// When the file is unreadable or damaged, or the model's output is not finite.
pub fn verify(args: &VerifyArgs) -> Result<(), Failure> {
    let output = Output::new(args.report);
    let model = Model::open(&args.model)?;
    let config = model.config();
    let [height, width] = config.image_size;
    let pixels = vec![0.0; (config.in_channels * height * width) as usize];
    let mut modes = vec![Compute::F32];
    if model.supports(fresnel_kernels::Arithmetic::Int8) {
        modes.push(Compute::Int8);
    }
    for &compute in &modes {
        let options = SessionOptions { threads: args.threads, compute, ..Default::default() };
        let out = Session::new(&model, options)?.run(&pixels, 1)?;
        if let Some(index) = out.iter().position(|value| !value.is_finite()) {
            return Err(Failure::check(format!(
                "{}: output {index} of a grey picture is {} in {compute}, expected a finite number",
                args.model.display(),
                out[index]
            )));
        }
    }
    let modes: Vec<&str> = modes.into_iter().map(Compute::name).collect();
    let tensors = model.manifest().tensors.len();
    if output.json() {
        return output.line(json!({
            "file": args.model.display().to_string(),
            "valid": true,
            "file_bytes": model.file_bytes(),
            "tensors": tensors,
            "modes": modes,
        }));
    }
    output.line(format_args!(
        "{}: good ({} bytes, {tensors} tensors, runs in {})",
        args.model.display(),
        model.file_bytes(),
        modes.join(" and ")
    ))
}
