//! `inspect`: what a file holds, layer by layer, and how far its size is from the arithmetic bound.

mod codes;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use fresnel_kernels::{Isa, Width};
use serde_json::{Value, json};

use super::output::one_line;
use super::{Failure, Output, ReportArgs};
use crate::format::manifest::RECIPE_TOML;
use crate::format::{Container, Encoding, Manifest, TensorEntry, size_bound};
use crate::model::config::{Role, VitConfig};
use crate::model::{LayerKernels, Model};
use codes::CodeStatistics;

/// Show what a model file holds
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fresnel-run inspect model.fresnel
  fresnel-run inspect model.fresnel --kernels
  fresnel-run inspect model.fresnel --codes
  fresnel-run inspect model.fresnel --recipe > recipe.toml
  fresnel-run inspect model.fresnel --json

--codes counts how often each code occurs in each weight. The entropy of those counts is what an
ideal compressor of single codes would need, in bits per weight, against what the file takes.")]
pub struct InspectArgs {
    /// Model file
    #[arg(value_name = "FILE")]
    pub model: PathBuf,
    /// Show the kernels that run each layer on this machine
    #[arg(long)]
    pub kernels: bool,
    /// Show how often each code occurs, and the entropy against the bits stored
    #[arg(long)]
    pub codes: bool,
    /// Print the recipe as TOML, for `fresnel quantize --recipe`, and nothing else
    #[arg(long, conflicts_with_all = ["kernels", "codes"])]
    pub recipe: bool,
    /// How to report
    #[command(flatten)]
    pub report: ReportArgs,
}

/// A tensor that the config demands, with its companions.
struct Row<'a> {
    entry: &'a TensorEntry,
    role: Role,
    /// Bytes of the tensor with its scales and offsets.
    bytes: u64,
    kernels: Option<LayerKernels>,
}

impl Row<'_> {
    fn bits(&self) -> &'static str {
        match self.entry.encoding {
            Encoding::F32 => "32",
            Encoding::F16 => "16",
            Encoding::Codes(width) => Width::from(width).label(),
        }
    }

    fn is_weight(&self) -> bool {
        self.role != Role::Other
    }
}

/// Runs `inspect`.
///
/// # Errors
/// When the file is unreadable or damaged.
pub fn inspect(args: &InspectArgs) -> Result<(), Failure> {
    let output = Output::new(args.report);
    let model = Model::open(&args.model)?;
    // Read once more, since a model does not keep the file's bytes; a second way of laying models out, from
    // memory, would add a few per cent to the program for devices.
    let container = args.codes.then(|| Container::open(&args.model)).transpose()?;
    let codes = container.as_ref().map(CodeStatistics::of).transpose()?;
    let manifest = model.manifest();
    if args.recipe {
        return recipe(args, &output, manifest);
    }
    let rows = rows(&model);
    let bound = size_bound(&manifest.config, &manifest.tensors);
    if output.json() {
        return output.line(document(args, &model, &rows, (bound, codes.as_ref())));
    }
    let config = &manifest.config;
    output.line(one_line(args.model.display()))?;
    for line in summary(config, manifest) {
        output.line(line)?;
    }
    output.line("")?;
    output.line(format_args!("{:<28} {:>18} {:>5} {:>12}", "layer", "shape", "bits", "bytes"))?;
    for row in rows.iter().filter(|row| row.is_weight()) {
        let kernels = match &row.kernels {
            Some(kernels) if args.kernels => format!("  {}  {}", kernels.float, kernels.integer),
            _ => String::new(),
        };
        output.line(format_args!(
            "{:<28} {:>18} {:>5} {:>12}{kernels}",
            row.entry.name.trim_end_matches(".weight"),
            shape(row.entry),
            row.bits(),
            row.bytes
        ))?;
    }
    let others: Vec<&Row> = rows.iter().filter(|row| !row.is_weight()).collect();
    let bytes: u64 = others.iter().map(|row| row.bytes).sum();
    let label = format!("{} other tensors", others.len());
    output.line(format_args!("{label:<28} {:>18} {:>5} {bytes:>12}", "", "16/32"))?;
    output.line("")?;
    if let Some(codes) = &codes {
        codes.print(&output)?;
        output.line("")?;
    }
    let excess = (model.file_bytes() as f64 / bound as f64 - 1.0) * 100.0;
    let data = data_bytes(manifest);
    output.line(format_args!(
        "file {} bytes ({} of header and manifest, {data} of data), \
         arithmetic bound {bound} bytes ({excess:+.2} %)",
        model.file_bytes(),
        model.file_bytes() - data
    ))?;
    output.line(format_args!(
        "in memory {} bytes ({})",
        model.resident_bytes(),
        model.isa().map_or("", Isa::name)
    ))
}

/// Prints the recipe as it stands in the file.
fn recipe(args: &InspectArgs, output: &Output, manifest: &Manifest) -> Result<(), Failure> {
    let recipe = manifest.recipe_toml().ok_or_else(|| {
        Failure::bad_input(format!(
            "{}: the file holds no recipe in TOML; its settings are shown without --recipe",
            args.model.display()
        ))
    })?;
    if output.json() {
        return output.line(json!({ "file": args.model.display().to_string(), "recipe": recipe }));
    }
    output.line(recipe.trim_end())
}

/// The demanded tensors in their order, companions added to the tensor that they belong to.
fn rows(model: &Model) -> Vec<Row<'_>> {
    let manifest = model.manifest();
    let entries: BTreeMap<&str, &TensorEntry> =
        manifest.tensors.iter().map(|entry| (entry.name.as_str(), entry)).collect();
    let mut kernels: BTreeMap<String, LayerKernels> =
        model.kernels().into_iter().map(|layer| (layer.layer.clone(), layer)).collect();
    let row = |spec: crate::model::config::TensorSpec| {
        let entry = entries.get(spec.name.as_str()).copied()?;
        let companions = [".scale", ".offset"].map(|suffix| format!("{}{suffix}", spec.name));
        let companions =
            companions.iter().filter_map(|name| entries.get(name.as_str())).map(|e| e.length);
        Some(Row {
            entry,
            role: spec.role,
            bytes: entry.length + companions.sum::<u64>(),
            kernels: spec.name.strip_suffix(".weight").and_then(|name| kernels.remove(name)),
        })
    };
    manifest.config.tensors().into_iter().filter_map(row).collect()
}

/// Length of the data section.
fn data_bytes(manifest: &Manifest) -> u64 {
    manifest.tensors.last().map_or(0, |last| last.offset + last.length)
}

fn shape(entry: &TensorEntry) -> String {
    let sizes: Vec<String> = entry.shape.iter().map(u32::to_string).collect();
    sizes.join(" x ")
}

/// What the file says about the model as a whole.
fn summary(config: &VitConfig, manifest: &Manifest) -> Vec<String> {
    let [height, width] = config.image_size;
    let [patch_height, patch_width] = config.patch_size;
    let mut lines = vec![format!(
        "{}: {height} x {width} pixels, patches of {patch_height} x {patch_width}, {} tokens of {}, {} blocks, {} heads, {}",
        config.architecture,
        config.tokens(),
        config.embed_dim,
        config.depth,
        config.num_heads,
        match config.num_classes {
            0 => "features".to_owned(),
            classes => format!("{classes} classes"),
        }
    )];
    let pairs = |pairs: &[(String, String)]| {
        // The recipe as TOML says once more what the other pairs say.
        let pairs = pairs.iter().filter(|(key, _)| key != RECIPE_TOML);
        let pairs: Vec<String> =
            pairs.map(|(key, value)| format!("{key} {}", one_line(value))).collect();
        pairs.join(", ")
    };
    for (label, text) in [
        ("recipe", pairs(&manifest.recipe)),
        ("provenance", pairs(&manifest.provenance)),
        ("metadata", pairs(&manifest.metadata)),
    ] {
        if !text.is_empty() {
            lines.push(format!("{label}: {text}"));
        }
    }
    if !manifest.measured.is_empty() {
        let values: Vec<String> =
            manifest.measured.iter().map(|(key, value)| format!("{key} {value:.4}")).collect();
        lines.push(format!("measured: {}", values.join(", ")));
    }
    lines
}

fn document(
    args: &InspectArgs,
    model: &Model,
    rows: &[Row],
    (bound, codes): (u64, Option<&CodeStatistics>),
) -> Value {
    let manifest = model.manifest();
    let config = &manifest.config;
    let layers: Vec<Value> = rows
        .iter()
        .map(|row| {
            let mut layer = json!({
                "name": row.entry.name,
                "shape": row.entry.shape,
                "bits": row.bits().parse::<f64>().unwrap_or(f64::NAN),
                "bytes": row.bytes,
                "weight": row.is_weight(),
            });
            if let (Some(kernels), Some(layer)) = (&row.kernels, layer.as_object_mut()) {
                layer.insert("kernel_f32".into(), json!(kernels.float));
                layer.insert("kernel_int8".into(), json!(kernels.integer));
                layer.insert("resident_bytes".into(), json!(kernels.resident_bytes));
            }
            layer
        })
        .collect();
    let map = |pairs: &[(String, String)]| -> serde_json::Map<String, Value> {
        pairs.iter().map(|(key, value)| (key.clone(), json!(value))).collect()
    };
    let measured: serde_json::Map<String, Value> =
        manifest.measured.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    let mut document = json!({
        "file": args.model.display().to_string(),
        "file_bytes": model.file_bytes(),
        "data_bytes": data_bytes(manifest),
        "bound_bytes": bound,
        "resident_bytes": model.resident_bytes(),
        "isa": model.isa().map(Isa::name),
        "config": config,
        "preprocessing": manifest.preprocessing,
        "class_names": manifest.class_names.len(),
        "layers": layers,
        "recipe": map(&manifest.recipe),
        "provenance": map(&manifest.provenance),
        "measured": measured,
        "metadata": map(&manifest.metadata),
    });
    if let (Some(codes), Some(document)) = (codes, document.as_object_mut()) {
        document.insert("codes".into(), codes.document());
    }
    document
}
