//! `demo`: the whole way in a minute, on a small model of handwritten digits that the program
//! carries: quantize it at every low width with each method, write the files, run them, compare.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use fresnel_runtime::cli::{Exit, Failure, Output, Progress, ReportArgs};
use fresnel_runtime::format::{CodeWidth, encode, write};
use fresnel_runtime::{Compute, DeviceChoice, Model, Session, SessionOptions};
use serde_json::json;

use crate::algorithm::{Method, StatisticsOptions, beacon, beacon_plus};
use crate::calibration::{Calibration, CalibrationImages, Prepared};
use crate::device::Device;
use crate::digits::{Digits, model};
use crate::import::FloatModel;
use crate::recipe::Recipe;
use crate::widths::StoredWidth;

/// Timed runs per model, one image each; the models take turns.
const TIMED_RUNS: usize = 60;

/// Quantize a small built-in model at every low width and compare
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fresnel demo
  fresnel demo -o digits --json

The model reads handwritten digits (MNIST); accuracy is measured on 1,000 digits that neither its
training nor its calibration saw. The files it writes can be given to every other command.")]
pub struct DemoArgs {
    /// Folder for the model files; created if it is missing
    #[arg(short, long, value_name = "DIR", default_value = "fresnel-demo")]
    output: PathBuf,
    /// Overwrite files that exist and differ
    #[arg(long)]
    force: bool,
    /// Where to calibrate and quantize
    #[arg(long, value_name = "DEVICE", default_value_t = DeviceChoice::Auto)]
    device: DeviceChoice,
    /// Threads to run the models with; 0 = one per core
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// How to report
    #[command(flatten)]
    pub report: ReportArgs,
}

/// One line of the comparison.
struct Row {
    method: &'static str,
    bits: StoredWidth,
    file: PathBuf,
    file_bytes: u64,
    top1: f64,
    compute: Compute,
    session: Session,
    times: Vec<f64>,
}

/// Runs `demo`.
///
/// # Errors
/// When a device fails or the files can't be written.
pub fn demo(args: &DemoArgs) -> Result<(), Failure> {
    let output = Output::new(args.report);
    let model = model()?;
    let images = CalibrationImages::from_pixels(Digits::calibration()?.pixels(&model)?);
    let evaluation = Digits::evaluation()?;
    let device = Device::open(&args.device)?;
    std::fs::create_dir_all(&args.output).map_err(|error| Failure::io(&args.output, &error))?;

    let recipes = recipes()?;
    let with_information = recipes.iter().any(Recipe::needs_information);
    let prepared = Prepared::new(&model, images, with_information, &device, None, |_| {})?;
    let mut progress = Progress::new("quantizing", recipes.len(), args.report);
    let mut rows = Vec::new();
    for recipe in &recipes {
        rows.push(row(args, &model, prepared.calibration(), &evaluation, &device, recipe)?);
        progress.advance(1);
    }
    drop(progress);
    time(&mut rows, &evaluation.pixels(&model)?)?;
    print(args, &output, &rows, evaluation.len())
}

/// The float model, then the methods at every low width.
fn recipes() -> Result<Vec<Recipe>, Failure> {
    let width = |bits: &str| bits.parse::<StoredWidth>().map_err(Failure::usage);
    let rtn = || Method::Rtn { symmetric: false };
    let mut recipes = vec![Recipe {
        bits: width("32")?,
        layers: Vec::new(),
        edge_bits: width("32")?,
        method: rtn(),
        statistics: StatisticsOptions::default(),
        tuning: None,
        seed: 0,
    }];
    for codes in [CodeWidth::Four, CodeWidth::Three, CodeWidth::Two, CodeWidth::Ternary] {
        let beacon = Method::Beacon(beacon::Options::default());
        let plus = Method::BeaconPlus(beacon_plus::Options::default());
        for (method, statistics) in [
            (rtn(), StatisticsOptions::default()),
            (beacon, StatisticsOptions::default()),
            (plus, StatisticsOptions::for_beacon_plus(codes)),
        ] {
            let (bits, edge_bits) = (StoredWidth::Codes(codes), width("8")?);
            recipes.push(Recipe {
                bits,
                layers: Vec::new(),
                edge_bits,
                method,
                statistics,
                tuning: None,
                seed: 0,
            });
        }
    }
    Ok(recipes)
}

fn row(
    args: &DemoArgs,
    model: &FloatModel,
    calibration: Calibration,
    evaluation: &Digits,
    device: &Device,
    recipe: &Recipe,
) -> Result<Row, Failure> {
    let finished = recipe.run(model, Some(calibration), device, args.threads, |_| {})?;
    let method = if recipe.bits.codes().is_some() { recipe.method.name() } else { "float" };
    let file = args.output.join(format!("digits_{method}_{}bit.fresnel", recipe.bits));
    let bytes = encode(&finished.parts, &finished.tensors)?;
    if !holds(&file, &bytes) {
        if file.exists() && !args.force {
            return Err(Failure::new(
                Exit::Io,
                "io",
                format!("{}: the file exists and differs; give --force", file.display()),
            ));
        }
        write(&file, true, &finished.parts, &finished.tensors)?;
    }
    let loaded = Model::open(&file)?;
    let options = SessionOptions { threads: args.threads, ..SessionOptions::default() };
    let mut session = Session::new(&loaded, options)?;
    let top1 = evaluation.accuracy(model, &mut session)?;
    Ok(Row {
        method,
        bits: recipe.bits,
        file,
        file_bytes: bytes.len() as u64,
        top1,
        compute: session.compute(),
        session,
        times: Vec::new(),
    })
}

/// Whether the file exists with exactly these bytes: a second demo leaves it alone.
fn holds(path: &Path, bytes: &[u8]) -> bool {
    std::fs::read(path).is_ok_and(|found| found == bytes)
}

/// Times the models in turns, so that whatever else the machine does falls on all of them.
fn time(rows: &mut [Row], images: &[Vec<f32>]) -> Result<(), Failure> {
    for image in images.iter().take(TIMED_RUNS) {
        for row in &mut *rows {
            let start = Instant::now();
            row.session.run(image, 1)?;
            row.times.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    for row in rows {
        row.times.sort_by(f64::total_cmp);
    }
    Ok(())
}

fn print(args: &DemoArgs, output: &Output, rows: &[Row], digits: usize) -> Result<(), Failure> {
    let median = |row: &Row| row.times.get(row.times.len() / 2).copied().unwrap_or_default();
    let float_bytes = rows.first().map_or(0, |row| row.file_bytes);
    if output.json() {
        for row in rows {
            output.line(json!({
                "method": row.method,
                "bits": row.bits.name(),
                "top1": row.top1,
                "n": digits,
                "file": row.file,
                "file_bytes": row.file_bytes,
                "compute": row.compute.name(),
                "threads": args.threads,
                "median_ms": median(row),
            }))?;
        }
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["method", "bits", "top-1 %", "file kB", "smaller", "ms / image", "compute"]);
    for row in rows {
        table.add_row([
            row.method.to_owned(),
            row.bits.to_string(),
            format!("{:.1}", row.top1),
            format!("{:.0}", row.file_bytes as f64 / 1e3),
            format!("{:.1}x", float_bytes as f64 / row.file_bytes as f64),
            format!("{:.2}", median(row)),
            row.compute.to_string(),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    output.line(table)?;
    output.line(format_args!(
        "\nTop-1 on {digits} handwritten digits that training and calibration did not see; times are medians on {} thread(s).\nFiles: {}",
        args.threads,
        args.output.display()
    ))
}
