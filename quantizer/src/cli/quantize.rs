//! `quantize`: a timm checkpoint and a folder of images in, a `.fresnel` file out.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use fresnel_kernels::{Isa, Pool};
use fresnel_runtime::cli::{Failure, Output, Progress, ReportArgs, check_output};
use fresnel_runtime::format::{TensorEntry, size_bound, write};
use fresnel_runtime::session::INT8_AGREEMENT;
use serde_json::json;

use super::tuning::{self, TuningArgs};
use crate::algorithm::gptq::RoundingOrder;
use crate::algorithm::method::GptqOptions;
use crate::algorithm::{CalibrateOn, Method, StatisticsOptions, beacon, beacon_plus};
use crate::calibration::images::Selection;
use crate::calibration::{CalibrationImages, TokenWeights};
use crate::device::{Device, DeviceChoice};
use crate::import::{self, Source};
use crate::recipe::{Finished, Recipe};
use crate::widths::StoredWidth;

/// Ways to choose codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MethodName {
    /// Beacon (arXiv 2508.20293): finds each channel's scale by itself
    Beacon,
    /// Beacon's objective from better starts, real-valued offsets, statistics that look at what the
    /// classifier reads: the most accurate
    BeaconPlus,
    /// GPTQ on the min-max grid
    Gptq,
    /// GPTQ on the grid whose scale Beacon finds
    GptqStar,
    /// Round to nearest on the min-max grid: needs no images
    Rtn,
}

impl MethodName {
    /// Whether a flag of this name means something to the method.
    fn takes(self, flag: &str) -> bool {
        match flag {
            "--sweeps" => matches!(self, Self::Beacon | Self::BeaconPlus | Self::GptqStar),
            "--symmetric" => matches!(self, Self::Beacon | Self::GptqStar | Self::Rtn),
            "--act-order" => matches!(self, Self::Gptq | Self::GptqStar),
            "--damping" => matches!(self, Self::Gptq | Self::GptqStar | Self::BeaconPlus),
            _ => self != Self::Rtn,
        }
    }
}

/// Quantize a timm Vision Transformer
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fresnel quantize deit_tiny_patch16_224 --calib photos --bits 2 -o deit_tiny_2bit.fresnel
  fresnel quantize deit_tiny_patch16_224 --calib photos --bits 2 --method beacon-plus -o better.fresnel
  fresnel quantize model.safetensors --config config.json --calib list.csv --bits 3 --sweeps 5 -o out.fresnel
  fresnel quantize deit_tiny_patch16_224 --bits 32 -o deit_tiny_float.fresnel

MODEL is a safetensors checkpoint with timm's tensor names, or a folder with model.safetensors and the
hub's config.json. Images are jpeg or png files; labels are not needed.")]
pub struct QuantizeArgs {
    /// Checkpoint: a safetensors file, or a folder with model.safetensors and config.json
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// The hub's config.json, where it does not lie beside the checkpoint
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Class names, one per line in index order [default: those in the configuration]
    #[arg(long, value_name = "FILE")]
    class_names: Option<PathBuf>,
    /// Calibration images: a folder, or a csv with a column `file`
    #[arg(long, value_name = "DIR_OR_CSV")]
    calib: Option<PathBuf>,
    /// Number of calibration images [default: all, at most 256]
    #[arg(long, value_name = "N")]
    calib_count: Option<usize>,
    /// Bits per weight of the blocks' linear layers: 1.58, 2, 3, 4, 8; 16 and 32 store the float model
    #[arg(long, value_name = "BITS")]
    bits: StoredWidth,
    /// How codes are chosen
    #[arg(long, value_enum, default_value_t = MethodName::Beacon)]
    method: MethodName,
    /// Refinement sweeps K [default: 6; beacon-plus 4]
    #[arg(long, value_name = "K")]
    sweeps: Option<u32>,
    /// Strength of error correction, from 0 (none) to 1 (the paper's) [default: 0; beacon-plus 0.25]
    #[arg(long, value_name = "A")]
    error_correction: Option<f64>,
    /// Strength of residual-stream correction, from 0 (none) to 1 [default: 0; beacon-plus 0.25]
    #[arg(long, value_name = "B")]
    stream_correction: Option<f64>,
    /// Weight of the tokens: none, or class:F to count the class token F times [default: none; beacon-plus class:10]
    #[arg(long, value_name = "W")]
    token_weights: Option<TokenWeights>,
    /// GPTQ: round strong inputs first
    #[arg(long)]
    act_order: bool,
    /// Damping as a share of the mean diagonal of the Gram matrix [default: 0.01; beacon-plus 0.03]
    #[arg(long, value_name = "D")]
    damping: Option<f64>,
    /// Model whose activations calibrate each layer [default: quantized]
    #[arg(long, value_enum)]
    calibrate_on: Option<CalibrateOn>,
    /// Symmetric levels instead of asymmetric ones
    #[arg(long)]
    symmetric: bool,
    /// Bits of the patch embedding and the head: 8, 16 or 32 [default: 8; with --bits 16 or 32, the same]
    #[arg(long, value_name = "BITS")]
    edge_bits: Option<StoredWidth>,
    /// Tuning after quantization
    #[command(flatten)]
    tuning: TuningArgs,
    /// Where to calibrate and quantize
    #[arg(long, value_enum, default_value_t = DeviceChoice::Auto)]
    device: DeviceChoice,
    /// Threads; 0 = one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Seed of the choice of calibration images
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// File to write
    #[arg(short, long, value_name = "OUT.fresnel")]
    output: PathBuf,
    /// Overwrite the file if it exists
    #[arg(long)]
    force: bool,
    /// How to report
    #[command(flatten)]
    pub report: ReportArgs,
}

impl QuantizeArgs {
    /// The recipe that the flags describe.
    fn recipe(&self) -> Result<Recipe, Failure> {
        let float = self.bits.codes().is_none();
        let edge_bits = match self.edge_bits {
            None if float => self.bits,
            None => "8".parse().map_err(Failure::usage)?,
            Some(width) if matches!(width.name(), "8" | "16" | "32") => width,
            Some(width) => {
                return Err(Failure::usage(format!("--edge-bits {width}: expected 8, 16 or 32")));
            }
        };
        if float && edge_bits != self.bits {
            return Err(Failure::usage(format!(
                "--edge-bits {edge_bits} with --bits {}: a float model is stored at one width",
                self.bits
            )));
        }
        let name = if float { MethodName::Rtn } else { self.method };
        for (given, flag) in [
            (self.sweeps.is_some(), "--sweeps"),
            (self.symmetric, "--symmetric"),
            (self.act_order, "--act-order"),
            (self.damping.is_some(), "--damping"),
            (self.error_correction.is_some(), "--error-correction"),
            (self.stream_correction.is_some(), "--stream-correction"),
            (self.token_weights.is_some(), "--token-weights"),
            (self.calibrate_on.is_some(), "--calibrate-on"),
        ] {
            if given && (float || !name.takes(flag)) {
                let value = self.method.to_possible_value();
                let method = value.as_ref().map_or("", |value| value.get_name());
                return Err(Failure::usage(format!(
                    "{flag} means nothing to --method {method} at {} bit",
                    self.bits
                )));
            }
        }
        if name != MethodName::Rtn && self.calib.is_none() {
            return Err(Failure::usage(
                "this method needs calibration images: give a folder or a csv with --calib, or use --method rtn",
            ));
        }
        if self.calib.is_none() && self.calib_count.is_some() {
            return Err(Failure::usage("--calib-count needs --calib"));
        }
        Ok(Recipe {
            bits: self.bits,
            edge_bits,
            method: self.method(name)?,
            statistics: self.statistics(name)?,
            tuning: self.tuning.options(!float, self.calib.as_deref(), self.seed)?,
            seed: self.seed,
        })
    }

    fn method(&self, name: MethodName) -> Result<Method, Failure> {
        if let Some(damping) = self.damping.filter(|damping| !(0.0..=10.0).contains(damping)) {
            return Err(Failure::usage(format!(
                "--damping {damping}: expected a number from 0 to 10"
            )));
        }
        let mut gptq = GptqOptions::default();
        gptq.damping = self.damping.unwrap_or(gptq.damping);
        if self.act_order {
            gptq.order = RoundingOrder::DecreasingNorm;
        }
        let mut beacon =
            beacon::Options { symmetric: self.symmetric, ..beacon::Options::default() };
        beacon.sweeps = self.sweeps.unwrap_or(beacon.sweeps);
        let mut plus = beacon_plus::Options::default();
        plus.sweeps = self.sweeps.unwrap_or(plus.sweeps);
        plus.damping = self.damping.unwrap_or(plus.damping);
        Ok(match name {
            MethodName::Rtn => Method::Rtn { symmetric: self.symmetric },
            MethodName::Gptq => Method::Gptq(gptq),
            MethodName::GptqStar => Method::GptqStar(gptq, beacon),
            MethodName::Beacon => Method::Beacon(beacon),
            MethodName::BeaconPlus => Method::BeaconPlus(plus),
        })
    }

    fn statistics(&self, name: MethodName) -> Result<StatisticsOptions, Failure> {
        let on_float = self.calibrate_on == Some(CalibrateOn::Float);
        let mut options = match name {
            MethodName::BeaconPlus => StatisticsOptions::for_beacon_plus(),
            _ => StatisticsOptions::default(),
        };
        if on_float {
            options.calibrate_on = CalibrateOn::Float;
            options.error_correction = 0.0;
            options.stream_correction = 0.0;
        }
        for (value, flag, option) in [
            (self.error_correction, "--error-correction", &mut options.error_correction),
            (self.stream_correction, "--stream-correction", &mut options.stream_correction),
        ] {
            let Some(value) = value else { continue };
            if !(0.0..=1.0).contains(&value) {
                return Err(Failure::usage(format!(
                    "{flag} {value}: expected a number from 0 to 1"
                )));
            }
            if on_float && value > 0.0 {
                return Err(Failure::usage(format!(
                    "--calibrate-on float with {flag} above 0: correcting errors needs the quantized model's inputs"
                )));
            }
            *option = value;
        }
        options.token_weights = self.token_weights.unwrap_or(options.token_weights);
        Ok(options)
    }
}

/// Runs `quantize`.
///
/// # Errors
/// When the flags contradict each other, the checkpoint or an image can't be used, the device fails,
/// or the file can't be written.
pub fn quantize(args: &QuantizeArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let output = Output::new(args.report);
    let mut recipe = args.recipe()?;
    // Fails early for an instruction set that is forced and not there.
    Isa::from_env().map_err(|error| Failure::usage(error.to_string()))?;
    let source = Source::locate(&args.model, args.config.as_deref())?;
    let lists = [args.calib.as_deref(), args.class_names.as_deref()];
    let inputs: Vec<&Path> = [&*source.weights, &*source.config]
        .into_iter()
        .chain(lists.into_iter().flatten())
        .collect();
    check_output(&args.output, &inputs, args.force)?;
    if args.threads > Pool::MAX_THREADS {
        return Err(Failure::usage(format!(
            "--threads {}: expected at most {}",
            args.threads,
            Pool::MAX_THREADS
        )));
    }
    if args.threads > 0 {
        // Fails only where the pool runs already, and then it keeps its threads.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build_global();
    }
    let mut model = import::load(&source)?;
    if let Some(path) = &args.class_names {
        model.class_names = import::read_class_names(path, model.config.num_classes)?;
    }
    let calibration = match &args.calib {
        Some(source) if recipe.bits.codes().is_some() => Some(CalibrationImages::select(
            source,
            Selection { count: args.calib_count, seed: args.seed },
            (&model.preprocessing, model.config.in_channels),
            args.threads,
        )?),
        _ => None,
    };
    let images = calibration.as_ref().map_or(&[][..], CalibrationImages::files);
    let images: Vec<&Path> = images.iter().map(PathBuf::as_path).collect();
    check_output(&args.output, &images, args.force)?;
    if let (Some(tuning), Some(calib), Some(images)) =
        (&mut recipe.tuning, &args.calib, &calibration)
    {
        tuning.labels = args.tuning.labels(calib, images)?;
    }
    let device =
        if recipe.needs_calibration() { Device::open(args.device)? } else { Device::cpu() };
    if recipe.needs_calibration() {
        output.message(format_args!(
            "{} on {device}, {} calibration images",
            model.config.architecture,
            calibration.as_ref().map_or(0, CalibrationImages::len)
        ));
    }
    let finished = {
        let steps = recipe.steps(&model, calibration.as_ref());
        let mut progress = Progress::new("quantizing", steps, args.report);
        recipe.run(&model, calibration.as_ref(), &device, args.threads, |done| {
            progress.advance(done)
        })?
    };
    let summary = write(&args.output, args.force, &finished.parts, &finished.tensors)?;
    let bound = bound(&finished);
    report(
        args,
        &output,
        &recipe,
        &finished,
        (summary.file_bytes, bound),
        started.elapsed().as_secs_f64(),
    )
}

/// The arithmetic bound of the file's size, which depends on names and encodings alone.
fn bound(finished: &Finished) -> u64 {
    let entries: Vec<TensorEntry> = finished
        .tensors
        .iter()
        .map(|tensor| TensorEntry {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            encoding: tensor.encoding,
            offset: 0,
            length: tensor.bytes.len() as u64,
            crc32: 0,
        })
        .collect();
    size_bound(&finished.parts.config, &entries)
}

fn report(
    args: &QuantizeArgs,
    output: &Output,
    recipe: &Recipe,
    finished: &Finished,
    (file_bytes, bound_bytes): (u64, u64),
    seconds: f64,
) -> Result<(), Failure> {
    let error = |layer: &crate::pipeline::QuantizedLayer| layer.relative_errors.last().copied();
    if output.json() {
        let layers: Vec<_> = finished
            .layers
            .iter()
            .map(|layer| {
                json!({
                    "name": layer.name,
                    "bits": StoredWidth::Codes(layer.width).name(),
                    "relative_error": error(layer),
                    "relative_error_per_sweep": layer.relative_errors,
                })
            })
            .collect();
        return output.line(json!({
            "file": args.output,
            "bits": recipe.bits.name(),
            "edge_bits": recipe.edge_bits.name(),
            "recipe": finished.parts.recipe.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "measured": finished.parts.measured.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "file_bytes": file_bytes,
            "bound_bytes": bound_bytes,
            "tuning": finished.tuning.as_ref().map(tuning::json),
            "seconds": seconds,
            "statistics_seconds": finished.seconds[0],
            "solver_seconds": finished.seconds[1],
            "layers": layers,
        }));
    }
    for layer in &finished.layers {
        if let Some(error) = error(layer) {
            output.line(format_args!(
                "{:<28} {:>4} bit  relative error {error:.4}",
                layer.name,
                StoredWidth::Codes(layer.width)
            ))?;
        }
    }
    if let Some(report) = &finished.tuning {
        output.line(tuning::line(report))?;
    }
    for (name, value) in &finished.parts.measured {
        if name == INT8_AGREEMENT {
            output.line(format_args!("{name} {value:.1} %"))?;
        }
    }
    output.line(format_args!(
        "{}: {:.2} MB (bound {:.2} MB), {seconds:.1} s",
        args.output.display(),
        file_bytes as f64 / 1e6,
        bound_bytes as f64 / 1e6
    ))
}
