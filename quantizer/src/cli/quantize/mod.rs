//! `quantize`: a timm checkpoint and a folder of images in, a `.fresnel` file out.

mod dry_run;
mod report;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use fresnel_kernels::Isa;
use fresnel_runtime::DeviceChoice;
use fresnel_runtime::cli::{Failure, Output, Progress, ReportArgs, check_output};
use fresnel_runtime::format::write;

use crate::calibration::images::Selection;
use crate::calibration::{Calibration, CalibrationImages, Prepared};
use crate::cli::model_args::ModelArgs;
use crate::cli::preparation::{prepare, report_unusable, use_threads};
use crate::cli::tuning;
use crate::device::Device;
use crate::import::{self, FloatModel, Source};
use crate::mixed::{Budget, LayerSensitivity, MixedPrecision};
use crate::recipe::{Finished, Recipe, Settings};
use crate::search::{self, Subject, Trial};
use crate::tuning::check;
use report::Report;

/// Quantize a timm Vision Transformer
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fresnel quantize deit_tiny_patch16_224 --calib photos --bits 2 -o deit_tiny_2bit.fresnel
  fresnel quantize deit_tiny_patch16_224 --calib photos --bits 2 --method beacon-plus -o better.fresnel
  fresnel quantize deit_tiny_patch16_224 --calib photos --target-size 2.5MB -o mixed.fresnel
  fresnel quantize deit_tiny_patch16_224 --bits 2 --layer-bits '*.attn.proj=3' --dry-run
  fresnel quantize model.safetensors --config config.json --calib list.csv --bits 3 --sweeps 5 -o out.fresnel
  fresnel quantize deit_tiny_patch16_224 --calib photos --recipe recipe.toml -o again.fresnel
  fresnel quantize deit_tiny_patch16_224 --bits 32 -o deit_tiny_float.fresnel

MODEL is a safetensors checkpoint with timm's tensor names, or a folder with model.safetensors and the
hub's config.json. Images are jpeg or png files; labels are not needed. A recipe is what `fresnel inspect
FILE --recipe` prints; flags given beside it override it.")]
pub struct QuantizeArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Calibration images: a folder, or a csv with a column `file`
    #[arg(long, value_name = "DIR_OR_CSV")]
    calib: Option<PathBuf>,
    /// Fail at a calibration image that can't be used, instead of taking another one of the folder
    #[arg(long)]
    strict: bool,
    /// Recipe in TOML: settings for those that no flag gives
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    /// Choose token weights and both strengths for this model, on calibration images held back from
    /// quantization, within so many seconds
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "600")]
    search: Option<u64>,
    /// Folder in which to keep what further runs on the same model and images can use
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Threads; 0 = one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Show layers, widths and sizes, and neither calibrate nor write
    #[arg(long)]
    dry_run: bool,
    /// File to write
    #[arg(short, long, value_name = "OUT.fresnel", required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    /// Overwrite the file if it exists
    #[arg(long)]
    force: bool,
    /// How to report
    #[command(flatten)]
    pub report: ReportArgs,
}

impl QuantizeArgs {
    fn settings(&self) -> Result<Settings, Failure> {
        let flags = self.settings.clone();
        Ok(match &self.recipe {
            Some(path) => flags.over(Settings::read(path)?),
            None => flags,
        })
    }

    /// Refuses flags of calibration where nothing is calibrated.
    fn check_calibration(&self, recipe: &Recipe) -> Result<(), Failure> {
        let given = [(self.search.is_some(), "--search"), (self.cache.is_some(), "--cache")];
        match given.into_iter().find(|(given, _)| *given && !recipe.method.needs_calibration()) {
            Some((_, flag)) => Err(Failure::usage(format!(
                "{flag} means nothing to --method {} at {} bit",
                recipe.method.name(),
                recipe.bits
            ))),
            None => Ok(()),
        }
    }

    /// Refuses what would fail later for want of images.
    fn check_images(
        &self,
        settings: &Settings,
        recipe: &Recipe,
        mixed: Option<&MixedPrecision>,
    ) -> Result<(), Failure> {
        if self.calib.is_some() {
            return Ok(());
        }
        if let Some(mixed) = mixed {
            return Err(Failure::usage(format!(
                "{} measures layers on calibration images: give a folder or a csv with --calib",
                mixed.budget()
            )));
        }
        if recipe.needs_calibration() {
            return Err(Failure::usage(
                "this method needs calibration images: give a folder or a csv with --calib, or use --method rtn",
            ));
        }
        if settings.calibration.images.is_some() {
            return Err(Failure::usage("--calib-count needs --calib"));
        }
        Ok(())
    }

    /// Refuses to replace what the command reads.
    fn check_output(
        &self,
        output: &Path,
        source: &Source,
        images: Option<&CalibrationImages>,
    ) -> Result<(), Failure> {
        let lists = [&self.calib, &self.model.class_names, &self.recipe];
        let inputs: Vec<&Path> = [&*source.weights, &*source.config]
            .into_iter()
            .chain(lists.into_iter().flatten().map(PathBuf::as_path))
            .chain(images.into_iter().flat_map(CalibrationImages::files).map(PathBuf::as_path))
            .collect();
        check_output(output, &inputs, self.force)
    }

    /// The calibration images, where something is put into codes.
    fn images(
        &self,
        settings: &Settings,
        recipe: &Recipe,
        model: &FloatModel,
    ) -> Result<Option<CalibrationImages>, Failure> {
        Ok(match &self.calib {
            Some(source) if recipe.bits.codes().is_some() => Some(CalibrationImages::select(
                source,
                Selection {
                    count: settings.calibration.images,
                    seed: recipe.seed,
                    strict: self.strict,
                },
                (&model.preprocessing, model.config.in_channels),
                self.threads,
            )?),
            _ => None,
        })
    }

    /// Gives the recipe the labels of `images`, where tuning learns from labels.
    fn read_labels(
        &self,
        settings: &Settings,
        recipe: &mut Recipe,
        images: Option<&CalibrationImages>,
    ) -> Result<(), Failure> {
        if let (Some(tuning), true) = (&mut recipe.tuning, settings.tuning.on_labels()) {
            tuning.labels = Some(match (&self.calib, images) {
                (Some(calib), Some(images)) => tuning::labels(calib, images)?,
                // A dry run without images: that there will be labels is all it needs.
                _ => Vec::new(),
            });
        }
        Ok(())
    }

    fn model(&self, source: &Source) -> Result<FloatModel, Failure> {
        let mut model = import::load(source)?;
        self.model.name_classes(&mut model)?;
        Ok(model)
    }
}

/// Runs `quantize`.
///
/// # Errors
/// When the flags or the recipe contradict each other, the checkpoint or an image can't be used, the
/// budget is too small, the device fails, or the file can't be written.
pub fn quantize(args: &QuantizeArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let output = Output::new(args.report);
    let settings = args.settings()?;
    let (mut recipe, mixed) = settings.recipe()?;
    // Fails early for an instruction set that is forced and not there.
    Isa::from_env().map_err(|error| Failure::usage(error.to_string()))?;
    let source = args.model.locate()?;
    let file = match &args.output {
        Some(file) if !args.dry_run => file,
        _ => {
            let model = args.model(&source)?;
            // Nothing else in a dry run depends on the images.
            let images = if settings.tuning.on_labels() {
                args.images(&settings, &recipe, &model)?
            } else {
                None
            };
            args.read_labels(&settings, &mut recipe, images.as_ref())?;
            if let (Some(tuning), Some(images)) = (&recipe.tuning, &images) {
                let (training, held_back) = tuning.divide(images)?;
                check(&model, (&training, &held_back), tuning)?;
            }
            return dry_run::dry_run(&output, &model, &settings, &recipe, mixed.as_ref());
        }
    };
    args.check_calibration(&recipe)?;
    args.check_images(&settings, &recipe, mixed.as_ref())?;
    args.check_output(file, &source, None)?;
    use_threads(args.threads)?;
    let model = args.model(&source)?;
    // A pattern that matches nothing is found before the work.
    recipe.widths(&model.config)?;
    let images = args.images(&settings, &recipe, &model)?;
    report_unusable(&output, images.as_ref());
    args.check_output(file, &source, images.as_ref())?;
    args.read_labels(&settings, &mut recipe, images.as_ref())?;
    if let Some(mixed) = &mixed {
        // So is a budget that nothing fits.
        let count = images.as_ref().map_or(0, CalibrationImages::len);
        mixed.affordable_bits(&model, &recipe, count)?;
    }
    let on_device = recipe.needs_calibration() || mixed.is_some();
    let device = if on_device {
        Device::open(settings.calibration.device.as_ref().unwrap_or(&DeviceChoice::Auto))?
    } else {
        Device::cpu()
    };
    if on_device {
        output.message(format_args!(
            "{} on {device}, {} calibration images",
            model.config.architecture,
            images.as_ref().map_or(0, CalibrationImages::len)
        ));
    }
    let prepared = images
        .map(|images| {
            let with_information = recipe.needs_information() || args.search.is_some();
            let cache = args.cache.as_deref();
            prepare(&model, images, with_information, &device, cache, args.report)
        })
        .transpose()?;
    let run = Run { args, model: &model, prepared: prepared.as_ref(), device: &device };
    let Made { recipe, finished, sensitivities, trials } = run.make(recipe, mixed.as_ref())?;
    let summary = write(file, args.force, &finished.parts, &finished.tensors)?;
    let report = Report {
        file,
        recipe: &recipe,
        finished: &finished,
        mixed: mixed.as_ref().map(|mixed| (mixed, &*sensitivities)),
        trials: &trials,
        file_bytes: summary.file_bytes,
        seconds: started.elapsed().as_secs_f64(),
    };
    report.print(&output)
}

/// What a quantization is made with.
struct Run<'a> {
    args: &'a QuantizeArgs,
    model: &'a FloatModel,
    prepared: Option<&'a Prepared>,
    device: &'a Device,
}

/// A finished quantization and how it came about.
struct Made {
    /// Complete: with the widths and constants that were chosen.
    recipe: Recipe,
    finished: Finished,
    sensitivities: Vec<LayerSensitivity>,
    trials: Vec<Trial>,
}

impl Run<'_> {
    fn calibration(&self) -> Option<Calibration<'_>> {
        self.prepared.map(Prepared::calibration)
    }

    /// Chooses what is to be chosen, and quantizes.
    fn make(&self, recipe: Recipe, mixed: Option<&MixedPrecision>) -> Result<Made, Failure> {
        let sensitivities = match mixed {
            Some(mixed) => self.sensitivities(&recipe, mixed)?,
            None => Vec::new(),
        };
        let images = self.calibration().map_or(0, |calibration| calibration.images.len());
        let mut reserve = 0;
        let mut trials = Vec::new();
        loop {
            let mut recipe = match mixed {
                Some(mixed) => {
                    mixed.choose(self.model, &recipe, images, &sensitivities, reserve)?
                }
                None => recipe.clone(),
            };
            if let Some(limit) = self.args.search.map(Duration::from_secs) {
                if trials.is_empty() {
                    trials = self.search(&recipe, limit)?;
                }
                recipe.statistics =
                    search::best(&trials).map_or(recipe.statistics, |best| best.statistics);
            }
            let mut finished = self.quantize(&recipe)?;
            finished.seconds[0] +=
                self.prepared.map_or(Duration::ZERO, Prepared::time).as_secs_f64();
            let excess = match mixed.map(MixedPrecision::budget) {
                Some(Budget::FileSize(target)) => {
                    finished.file_size_limit()?.saturating_sub(target.0)
                }
                Some(Budget::AverageBits(_)) | None => 0,
            };
            if excess == 0 {
                return Ok(Made { recipe, finished, sensitivities, trials });
            }
            // Biases, scales or offsets of this solution need 32 bits: narrower codes pay for them.
            reserve += excess;
        }
    }

    fn quantize(&self, recipe: &Recipe) -> Result<Finished, Failure> {
        let images = self.calibration().map(|calibration| calibration.images);
        let steps = recipe.steps(self.model, images);
        let mut progress = Progress::new("quantizing", steps, self.args.report);
        let (device, threads) = (self.device, self.args.threads);
        Ok(recipe.run(self.model, self.calibration(), device, threads, |done| {
            progress.advance(done);
        })?)
    }

    fn sensitivities(
        &self,
        recipe: &Recipe,
        mixed: &MixedPrecision,
    ) -> Result<Vec<LayerSensitivity>, Failure> {
        let layers = crate::size::linear_weights(&self.model.config).len();
        let mut progress = Progress::new("measuring layers", layers, self.args.report);
        let done = |done| progress.advance(done);
        Ok(mixed.measure(self.model, recipe, self.calibration(), self.device, done)?)
    }

    fn search(&self, recipe: &Recipe, limit: Duration) -> Result<Vec<Trial>, Failure> {
        let widths = recipe.widths(&self.model.config)?;
        let (Some(calibration), Some(widths)) = (self.calibration(), widths) else {
            return Ok(Vec::new());
        };
        let subject = Subject {
            model: self.model,
            method: &recipe.method,
            widths: &widths,
            edge: recipe.edge_bits,
        };
        let mut progress =
            Progress::new("searching constants", search::MOST_TRIALS, self.args.report);
        let start = recipe.statistics;
        let trials = search::trials(subject, start, calibration, self.device, limit, |_| {
            progress.advance(1);
        })?;
        Ok(trials)
    }
}
