//! `compare`: methods x widths on one model, as a table, csv, json and a page with figures.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use fresnel_kernels::Isa;
use fresnel_runtime::cli::results::{self, ModelFacts};
use fresnel_runtime::cli::{
    Exit, Failure, Output, Progress, ReportArgs, check_output, labelled_pictures, write_file,
};
use fresnel_runtime::evaluation::LabelledPictures;
use fresnel_runtime::{Compute, DeviceChoice, SessionOptions};

use crate::algorithm::comq::ScaleRule;
use crate::calibration::CalibrationImages;
use crate::calibration::images::Selection;
use crate::cli::model_args::ModelArgs;
use crate::cli::preparation::{prepare, report_unusable, use_threads};
use crate::compare::results::{Calibration, Comparison, Evaluation, Metric};
use crate::compare::{Comparer, html, model_file, pictures, record, table};
use crate::device::Device;
use crate::import::{self, FloatModel};
use crate::recipe::settings::{CalibrationSettings, Settings, WidthSettings};
use crate::recipe::{MethodName, MethodSettings, Recipe, TuneName, TuningSettings};
use crate::widths::StoredWidth;

/// What `--output` writes.
const FILES: [&str; 3] = ["compare.csv", "compare.json", "compare.html"];

/// Compare methods and widths on a timm Vision Transformer
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fresnel compare deit_tiny_patch16_224 --calib photos --data evaluation.csv -o comparison
  fresnel compare deit_tiny_patch16_224 --methods rtn,beacon --bits 2,3 --calib photos --json
  fresnel compare deit_tiny_patch16_224 --calib photos --data evaluation.csv --tune norms -o comparison

Every method runs with the settings that `fresnel quantize` gives it by default. The float model is
measured first; without --data, the figures are not accuracy but agreement with the float model on the
calibration images. The folder of --output gets compare.csv, compare.json and compare.html, rewritten
after every row, so that an interrupted comparison loses nothing that was finished.
Exit code 1: one or more rows failed; the others are there.")]
pub struct CompareArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Methods, separated by commas [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    methods: Vec<MethodName>,
    /// Bits per weight of the blocks' linear layers, separated by commas: 1.58, 2, 3, 4, 8
    #[arg(long, value_name = "BITS", value_delimiter = ',', default_value = "1.58,2,3,4")]
    bits: Vec<StoredWidth>,
    /// Calibration images: a folder, or a csv with a column `file`
    #[arg(long, value_name = "DIR_OR_CSV")]
    calib: Option<PathBuf>,
    /// Number of calibration images [default: all, at most 256]
    #[arg(long, value_name = "N")]
    calib_count: Option<usize>,
    /// Labelled pictures: a csv file with columns file,label, or a folder with one folder per class
    #[arg(long, value_name = "DATA")]
    data: Option<PathBuf>,
    /// Use N labelled pictures only: the first of a csv, evenly spread ones of a folder
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Bits of the patch embedding and the head of quantized models: 8, 16 or 32
    #[arg(long, value_name = "BITS", default_value = "8")]
    edge_bits: StoredWidth,
    /// Arithmetic of the activations in the evaluation
    #[arg(long, value_enum, default_value_t = Compute::F32)]
    compute: Compute,
    /// Show every model once more after tuning
    #[arg(long, value_enum, value_name = "WHAT")]
    tune: Option<TuneName>,
    /// Scale of comq: a fixed multiple of the min-max scale, or `updated` by least squares
    #[arg(long, value_name = "S")]
    comq_scale: Option<ScaleRule>,
    /// Folder in which to keep what all rows, and further runs on the same images, can use
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Where to calibrate, quantize and evaluate: cpu, gpu, gpu:INDEX, gpu:NAME (see `devices`), or auto, a GPU that is no
    /// software renderer
    #[arg(long, value_name = "DEVICE", default_value_t = DeviceChoice::Auto)]
    device: DeviceChoice,
    /// Threads; 0 = one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Seed of the choice of calibration images
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Fail at a calibration image that can't be used, instead of taking another one of the folder
    #[arg(long)]
    strict: bool,
    /// Folder for compare.csv, compare.json and compare.html; created if it is missing
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Folder to keep the model files in; created if it is missing
    #[arg(long, value_name = "DIR")]
    keep_models: Option<PathBuf>,
    /// Overwrite files that exist
    #[arg(long)]
    force: bool,
    /// How to report
    #[command(flatten)]
    pub report: ReportArgs,
}

impl CompareArgs {
    /// The float model's recipe, then one per width and method.
    fn recipes(&self) -> Result<Vec<Recipe>, Failure> {
        let methods = if self.methods.is_empty() {
            MethodName::value_variants().to_vec()
        } else {
            self.methods.clone()
        };
        for (index, method) in methods.iter().enumerate() {
            if methods[..index].contains(method) {
                return Err(Failure::usage(format!("--methods names {} twice", method.name())));
            }
        }
        for (index, bits) in self.bits.iter().enumerate() {
            if bits.codes().is_none() {
                return Err(Failure::usage(format!(
                    "--bits {bits}: expected 1.58, 2, 3, 4 or 8; the float model is always compared with"
                )));
            }
            if self.bits[..index].contains(bits) {
                return Err(Failure::usage(format!("--bits names {bits} twice")));
            }
        }
        if !matches!(self.edge_bits.name(), "8" | "16" | "32") {
            return Err(Failure::usage(format!(
                "--edge-bits {}: expected 8, 16 or 32",
                self.edge_bits
            )));
        }
        let recipe = |bits: StoredWidth, edge_bits: StoredWidth, name: MethodName, tune| {
            let settings = Settings {
                widths: WidthSettings {
                    bits: Some(bits),
                    edge_bits: Some(edge_bits),
                    ..WidthSettings::default()
                },
                method: MethodSettings {
                    name: Some(name),
                    comq_scale: self.comq_scale.filter(|_| name == MethodName::Comq),
                    ..MethodSettings::default()
                },
                tuning: TuningSettings { tune, ..TuningSettings::default() },
                calibration: CalibrationSettings {
                    seed: Some(self.seed),
                    ..CalibrationSettings::default()
                },
                ..Settings::default()
            };
            settings.recipe().map(|(recipe, _)| recipe)
        };
        let float = StoredWidth::Float32;
        let mut recipes = vec![recipe(float, float, MethodName::Rtn, None)?];
        for &bits in &self.bits {
            for &method in &methods {
                recipes.push(recipe(bits, self.edge_bits, method, None)?);
                if let Some(what) = self.tune.filter(|&what| what != TuneName::None) {
                    recipes.push(recipe(bits, self.edge_bits, method, Some(what))?);
                }
            }
        }
        self.check_images(&recipes)?;
        Ok(recipes)
    }

    /// Refuses flags about images that contradict each other.
    fn check_images(&self, recipes: &[Recipe]) -> Result<(), Failure> {
        let needs = recipes.iter().find(|recipe| recipe.needs_calibration());
        if let (Some(recipe), None) = (needs, &self.calib) {
            return Err(Failure::usage(format!(
                "{} needs calibration images: give a folder or a csv with --calib, or compare --methods rtn alone",
                recipe.method.name()
            )));
        }
        if self.calib.is_none() && self.data.is_none() {
            return Err(Failure::usage(
                "nothing to measure on: give labelled pictures with --data, or images with --calib",
            ));
        }
        if self.calib.is_none() && self.calib_count.is_some() {
            return Err(Failure::usage("--calib-count needs --calib"));
        }
        if self.data.is_none() && self.limit.is_some() {
            return Err(Failure::usage("--limit needs --data"));
        }
        Ok(())
    }

    /// Makes the folders and refuses files that exist, before any work is done.
    fn prepare_outputs(&self, model: &FloatModel, recipes: &[Recipe]) -> Result<(), Failure> {
        for folder in [&self.output, &self.keep_models].into_iter().flatten() {
            fs::create_dir_all(folder).map_err(|error| Failure::io(folder, &error))?;
        }
        let reports = self.output.iter().flat_map(|folder| FILES.map(|name| folder.join(name)));
        let models = self
            .keep_models
            .iter()
            .flat_map(|folder| recipes.iter().map(|recipe| folder.join(model_file(model, recipe))));
        let inputs: Vec<&Path> =
            [&self.calib, &self.data].into_iter().flatten().map(PathBuf::as_path).collect();
        for path in reports.chain(models) {
            check_output(&path, &inputs, self.force)?;
        }
        Ok(())
    }
}

/// The files of `--output`, rewritten after every row.
struct Reports<'a> {
    folder: Option<&'a Path>,
    /// Whether what is there may be replaced; it may once it is ours.
    replace: bool,
}

impl Reports<'_> {
    fn write(&mut self, comparison: &Comparison) -> Result<(), Failure> {
        let Some(folder) = self.folder else { return Ok(()) };
        let texts = [
            results::csv(&record::records(comparison)),
            format!("{:#}\n", record::json(comparison)),
            html::page(comparison),
        ];
        for (name, text) in FILES.into_iter().zip(texts) {
            let path = folder.join(name);
            write_file(&path, text.as_bytes(), self.replace)
                .map_err(|error| Failure::io(&path, &error))?;
        }
        self.replace = true;
        Ok(())
    }
}

/// Runs `compare`.
///
/// # Errors
/// When the flags contradict each other, the checkpoint, an evaluation picture or the device can't
/// be used, evaluation pictures are calibration images as well, or a file can't be written; and, after
/// everything else is done and reported, when rows failed.
pub fn compare(args: &CompareArgs) -> Result<(), Failure> {
    let output = Output::new(args.report);
    let recipes = args.recipes()?;
    // Fails early for an instruction set that is forced and not there.
    Isa::from_env().map_err(|error| Failure::usage(error.to_string()))?;
    use_threads(args.threads)?;
    let mut model = import::load(&args.model.locate()?)?;
    if model.config.num_classes == 0 {
        return Err(Failure::bad_input(format!(
            "{}: the model has no classes, so there is no accuracy to compare",
            args.model.model.display()
        )));
    }
    args.model.name_classes(&mut model)?;
    args.prepare_outputs(&model, &recipes)?;
    let calibration = match &args.calib {
        Some(source) => Some(CalibrationImages::select(
            source,
            Selection { count: args.calib_count, seed: args.seed, strict: args.strict },
            (&model.preprocessing, model.config.in_channels),
            args.threads,
        )?),
        None => None,
    };
    report_unusable(&output, calibration.as_ref());
    let evaluates_there = matches!(args.device, DeviceChoice::Gpu(_));
    let device = match calibration.is_some() || evaluates_there {
        true => Device::open(&args.device)?,
        false => Device::cpu(),
    };
    let session = SessionOptions {
        threads: args.threads,
        compute: args.compute,
        ..SessionOptions::default()
    };
    let calibration = calibration
        .map(|images| {
            let with_information = recipes.iter().any(Recipe::needs_information);
            let cache = args.cache.as_deref();
            prepare(&model, images, with_information, &device, cache, args.report)
        })
        .transpose()?;
    let mut comparer = Comparer::new(&model, calibration.as_ref(), &device, session);
    let images = calibration.as_ref().map(|prepared| prepared.calibration().images);
    if let Some(folder) = &args.keep_models {
        comparer = comparer.keeping_models(folder, args.force);
    }
    let float = &recipes[0];
    let (metric, pictures) = evaluation_pictures(args, &comparer, float, images, &output)?;
    let mut comparison = Comparison {
        model: ModelFacts::new(&model.config, &model.preprocessing),
        source_sha256: model.source_sha256.clone(),
        evaluation: Evaluation {
            metric,
            images: pictures.len(),
            sha256: pictures::sha256(pictures.paths())?,
            compute: args.compute.name(),
        },
        calibration: match images {
            Some(images) => Some(Calibration { images: images.len(), sha256: images.sha256()? }),
            None => None,
        },
        planned: recipes.len(),
        rows: Vec::new(),
    };
    output.message(format_args!(
        "{} on {device}, {} rows, evaluated on {}. {}",
        model.config.architecture,
        recipes.len(),
        device.runtime(),
        comparison.statement()
    ));
    run(args, &recipes, &comparer, &pictures, &mut comparison, &output)?;
    if output.json() {
        output.line(record::json(&comparison))?;
    } else {
        output.line(table::table(&comparison))?;
    }
    if let Some(folder) = &args.output {
        output.message(format_args!("Files: {}", folder.display()));
    }
    let failures: Vec<_> = comparison.failures().collect();
    match failures.first() {
        None => Ok(()),
        Some((row, reason)) => Err(Failure::new(
            Exit::CheckFailed,
            "rows-failed",
            format!(
                "{} of {} rows failed, first {} at {} bit: {reason}",
                failures.len(),
                comparison.planned,
                row.label(),
                row.bits
            ),
        )),
    }
}

/// What to measure on: labelled pictures that calibration does not see, or the calibration images
/// labelled by the float model.
fn evaluation_pictures(
    args: &CompareArgs,
    comparer: &Comparer,
    float: &Recipe,
    calibration: Option<&CalibrationImages>,
    output: &Output,
) -> Result<(Metric, LabelledPictures), Failure> {
    let model = comparer.float_model(float)?;
    let files = calibration.map_or(&[][..], CalibrationImages::files);
    match &args.data {
        Some(data) => {
            let pictures = labelled_pictures(data, args.limit, &[model], output)?;
            pictures::check_disjoint(pictures.paths(), files)?;
            Ok((Metric::Accuracy, pictures))
        }
        None => {
            let mut progress = Progress::new("labelling", files.len(), args.report);
            let mut session = comparer.session(&model)?;
            let pictures = LabelledPictures::labelled_by(&mut session, files.to_vec(), |done| {
                progress.advance(done)
            })?;
            Ok((Metric::Agreement, pictures))
        }
    }
}

/// Makes the rows one after the other; each is reported when it is there.
fn run(
    args: &CompareArgs,
    recipes: &[Recipe],
    comparer: &Comparer,
    pictures: &LabelledPictures,
    comparison: &mut Comparison,
    output: &Output,
) -> Result<(), Failure> {
    let mut reports = Reports { folder: args.output.as_deref(), replace: args.force };
    let steps = |recipe: &Recipe| comparer.steps(recipe, pictures.len());
    let mut progress = Progress::new("comparing", recipes.iter().map(steps).sum(), args.report);
    for recipe in recipes {
        let mut left = steps(recipe);
        let row = comparer.row(recipe, pictures, |done| {
            left = left.saturating_sub(done);
            progress.advance(done);
        });
        progress.clear();
        if let (true, Err(reason)) = (row.is_float(), &row.outcome) {
            return Err(Failure::bad_input(format!("the float model can't be measured: {reason}")));
        }
        comparison.rows.push(row);
        if let Some(row) = comparison.rows.last() {
            output.message(table::line(comparison, row));
        }
        reports.write(comparison)?;
        progress.advance(left);
    }
    Ok(())
}
