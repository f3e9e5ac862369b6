//! `edit`: what a file says about its model, changed without touching the weights.

use std::borrow::Cow;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{Failure, Output, ReportArgs, check_output};
use crate::format::{Container, ManifestParts, TensorData, write};
use crate::model::class_names;

/// Change class names and metadata of a model file; the weights stay as they are
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fresnel edit model.fresnel --class-names imagenet_classes.txt -o named.fresnel
  fresnel edit model.fresnel --metadata licence=Apache-2.0 --metadata author='A. Fresnel' -o new.fresnel
  fresnel edit model.fresnel --metadata author= -o anonymous.fresnel")]
pub struct EditArgs {
    /// Model file
    #[arg(value_name = "FILE")]
    pub model: PathBuf,
    /// Class names, one per line in index order
    #[arg(long, value_name = "FILE", required_unless_present = "metadata")]
    pub class_names: Option<PathBuf>,
    /// Entry of the metadata to set; without a VALUE it is removed
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub metadata: Vec<(String, String)>,
    /// File to write
    #[arg(short, long, value_name = "OUT.fresnel")]
    pub output: PathBuf,
    /// Overwrite the file if it exists
    #[arg(long)]
    pub force: bool,
    /// How to report
    #[command(flatten)]
    pub report: ReportArgs,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, or KEY= to remove an entry".to_owned()),
    }
}

/// Runs `edit`.
///
/// # Errors
/// When the model or the class names cannot be read, what they say breaks a rule of the format, or the file cannot be
/// written.
pub fn edit(args: &EditArgs) -> Result<(), Failure> {
    let output = Output::new(args.report);
    let names = args.class_names.as_deref();
    let inputs: Vec<_> = [args.model.as_path()].into_iter().chain(names).collect();
    check_output(&args.output, &inputs, args.force)?;
    let container = Container::open(&args.model)?;
    let manifest = container.manifest().clone();
    let mut parts = ManifestParts {
        config: manifest.config,
        preprocessing: manifest.preprocessing,
        class_names: manifest.class_names,
        recipe: manifest.recipe,
        provenance: manifest.provenance,
        measured: manifest.measured,
        metadata: manifest.metadata,
    };
    if let Some(path) = names {
        parts.class_names = class_names::read(path, parts.config.num_classes)?;
    }
    for (key, value) in &args.metadata {
        parts.metadata.retain(|(present, _)| present != key);
        if !value.is_empty() {
            parts.metadata.push((key.clone(), value.clone()));
        }
    }
    let tensors: Vec<TensorData> = container
        .tensors()
        .map(|tensor| TensorData {
            name: tensor.entry.name.clone(),
            shape: tensor.entry.shape.clone(),
            encoding: tensor.entry.encoding,
            bytes: Cow::Borrowed(tensor.bytes),
        })
        .collect();
    let summary = write(&args.output, args.force, &parts, &tensors)?;
    if output.json() {
        return output.line(json!({
            "file": args.model.display().to_string(),
            "output": args.output.display().to_string(),
            "class_names": parts.class_names.len(),
            "metadata": parts.metadata.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
            "file_bytes": summary.file_bytes,
        }));
    }
    output.line(format_args!(
        "{}: {} class names, {} metadata entries, {} bytes",
        args.output.display(),
        parts.class_names.len(),
        parts.metadata.len(),
        summary.file_bytes
    ))
}
