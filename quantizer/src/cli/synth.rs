//! `synth`: a checkpoint with random weights.

use std::path::PathBuf;

use clap::Args;
use fresnel_runtime::cli::{Failure, Output, ReportArgs};

use crate::synth::write;

/// Write a checkpoint with random weights, for speed work
#[derive(Debug, Args)]
#[command(after_help = "Example:
  fresnel synth --arch deit_base_patch16_224 -o deit_base
  fresnel quantize deit_base --bits 2 --method rtn -o deit_base_2bit.fresnel")]
pub struct SynthArgs {
    /// timm's name of the architecture
    #[arg(long, value_name = "NAME")]
    arch: String,
    /// Folder for model.safetensors and config.json; created if it is missing
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Seed of the weights
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Overwrite files that exist
    #[arg(long)]
    force: bool,
    /// How to report
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Runs `synth`.
///
/// # Errors
/// When the architecture is not known or the files can't be written.
pub fn synth(args: &SynthArgs) -> Result<(), Failure> {
    let config = write(&args.arch, &args.output, args.seed, args.force)?;
    let parameters: u64 = config
        .tensors()
        .iter()
        .map(|spec| spec.shape.iter().map(|&extent| u64::from(extent)).product::<u64>())
        .sum();
    let output = Output::new(args.report);
    if output.json() {
        return output.line(serde_json::json!({
            "directory": args.output,
            "architecture": config.architecture,
            "parameters": parameters,
        }));
    }
    output.line(format_args!(
        "{}: {} with {:.1} million random parameters",
        args.output.display(),
        config.architecture,
        parameters as f64 / 1e6
    ))
}
