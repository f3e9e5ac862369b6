//! `export`: the weights as numbers that other tools read.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use safetensors::tensor::{Dtype, View};
use serde_json::json;

use super::{Exit, Failure, Output, ReportArgs, check_output, write_file};
use crate::error::Error;
use crate::format::Container;
use crate::model::decoded;

/// Write the weights for other tools: floats under timm's names
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fresnel export model.fresnel -o model.safetensors
  fresnel export model.fresnel --to safetensors --codes -o with_codes.safetensors --json

Every tensor is 32-bit float under timm's name and in timm's shape, codes expanded to
scale * code + offset, so that timm reads the file as a checkpoint of the same architecture:

  import timm
  timm.create_model('deit_tiny_patch16_224', checkpoint_path='model.safetensors')

--codes adds for each quantized NAME the tensors NAME.codes (unsigned bytes, of the weight's shape),
NAME.scale and NAME.offset (one per output channel); a reader of weights alone has to leave those out.")]
pub struct ExportArgs {
    /// Model file
    #[arg(value_name = "FILE")]
    pub model: PathBuf,
    /// Format to write
    #[arg(long, value_enum, default_value_t = ExportFormat::Safetensors)]
    pub to: ExportFormat,
    /// Add the codes, scales and offsets that the floats are made of
    #[arg(long)]
    pub codes: bool,
    /// File to write
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// Overwrite the file if it exists
    #[arg(long)]
    pub force: bool,
    /// How to report
    #[command(flatten)]
    pub report: ReportArgs,
}

/// What `export` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// Tensors by name, as PyTorch, timm and NumPy read them
    Safetensors,
}

/// A tensor to be written.
struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensor {
    fn floats(shape: Vec<usize>, values: &[f32]) -> Tensor {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor { dtype: Dtype::F32, shape, bytes }
    }
}

impl View for &Tensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Runs `export`.
///
/// # Errors
/// When the model cannot be read or the file cannot be written.
pub fn export(args: &ExportArgs) -> Result<(), Failure> {
    let output = Output::new(args.report);
    check_output(&args.output, &[&args.model], args.force)?;
    let container = Container::open(&args.model)?;
    let tensors = tensors(&container, args.codes)?;
    let architecture = container.manifest().config.architecture.clone();
    // `format: pt` is what PyTorch's readers look for.
    let about = [("format", "pt".to_owned()), ("architecture", architecture.clone())];
    let about: HashMap<String, String> =
        about.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    let bytes = safetensors::serialize(named, Some(about)).map_err(|error| {
        Failure::new(Exit::Io, "io", format!("{}: {error}", args.output.display()))
    })?;
    write_file(&args.output, &bytes, args.force)
        .map_err(|error| Failure::io(&args.output, &error))?;
    if output.json() {
        return output.line(json!({
            "file": args.model.display().to_string(),
            "output": args.output.display().to_string(),
            "architecture": architecture,
            "tensors": tensors.len(),
            "codes": args.codes,
            "bytes": bytes.len(),
        }));
    }
    output.line(format_args!(
        "{}: {} tensors of {architecture}, {} bytes",
        args.output.display(),
        tensors.len(),
        bytes.len()
    ))
}

/// Every tensor that the model demands, and those that coded ones are made of where `with_codes`.
fn tensors(container: &Container, with_codes: bool) -> Result<Vec<(String, Tensor)>, Error> {
    let mut tensors = Vec::new();
    for spec in container.manifest().config.tensors() {
        let shape: Vec<usize> = spec.shape.iter().map(|&size| size as usize).collect();
        match decoded::codes(container, &spec.name)? {
            None => {
                let values = decoded::values(container, &spec.name)?;
                tensors.push((spec.name, Tensor::floats(shape, &values)));
            }
            Some(codes) => {
                let values = Tensor::floats(shape.clone(), &codes.dequantize());
                let companion = |values: &[f32]| Tensor::floats(vec![values.len()], values);
                if with_codes {
                    let (scale, offset) = (companion(&codes.scale), companion(&codes.offset));
                    let codes = Tensor { dtype: Dtype::U8, shape, bytes: codes.codes };
                    for (suffix, tensor) in [("codes", codes), ("scale", scale), ("offset", offset)]
                    {
                        tensors.push((format!("{}.{suffix}", spec.name), tensor));
                    }
                }
                tensors.push((spec.name, values));
            }
        }
    }
    Ok(tensors)
}
