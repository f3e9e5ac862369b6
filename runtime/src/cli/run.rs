//! `run`: a tensor of preprocessed pixels in, a tensor of logits out.

use std::path::PathBuf;

use clap::Args;

use super::{ComputeArgs, Failure, Output, ReportArgs, tensors};

/// Run a model on a tensor of preprocessed pixels
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fresnel-run run model.fresnel --input pixels.safetensors --output logits.safetensors
  fresnel-run run model.fresnel --input pixels.safetensors --output out.safetensors --compute f32 --force")]
pub struct RunArgs {
    /// Model file
    #[arg(value_name = "FILE")]
    pub model: PathBuf,
    /// Safetensors file with a tensor `input` [batch, channels, height, width] of F32
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
    /// Safetensors file to write, with a tensor `logits` [batch, classes] (features without classes)
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// Replace an existing output file
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
    /// How to report
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Runs `run`.
///
/// # Errors
/// When a file cannot be read or written or does not fit the model.
pub fn run(args: &RunArgs) -> Result<(), Failure> {
    let output = Output::new(args.report);
    super::check_output(&args.output, &[&args.model, &args.input], args.force)?;
    // The input before the device, whose start may take long.
    let (shape, pixels) = tensors::read(&args.input, "input")?;
    let mut session = args.compute.open(&args.model, &output)?;
    let config = session.model().config().clone();
    let [height, width] = config.image_size;
    let expected = [config.in_channels, height, width].map(|size| size as usize);
    let batch = match shape.split_first() {
        Some((&batch, rest)) if rest == expected => batch,
        _ => {
            return Err(Failure::bad_input(format!(
                "{}: tensor \"input\": expected shape [batch, {}, {}, {}], found {shape:?}",
                args.input.display(),
                expected[0],
                expected[1],
                expected[2]
            )));
        }
    };
    let start = std::time::Instant::now();
    let logits = session.run(&pixels, batch).map_err(|error| error.at_path(&args.input))?;
    let seconds = start.elapsed().as_secs_f64();
    let outputs = config.output_features() as usize;
    tensors::write(&args.output, "logits", vec![batch, outputs], &logits, args.force)?;
    if output.json() {
        return output.line(serde_json::json!({
            "file": args.model.display().to_string(),
            "output": args.output.display().to_string(),
            "shape": [batch, outputs],
            "device": session.model().device().to_string(),
            "compute": session.compute().name(),
            "kernel": session.kernel(),
            "threads": session.threads(),
            "milliseconds": seconds * 1e3,
        }));
    }
    output.message(format_args!(
        "{batch} images in {:.1} ms ({}, {}, {}, {} threads) -> {}",
        seconds * 1e3,
        session.model().device(),
        session.compute(),
        session.kernel(),
        session.threads(),
        args.output.display()
    ));
    Ok(())
}
