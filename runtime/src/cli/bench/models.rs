//! `bench`: latency and throughput of models, measured fairly.
//!
//! All models are loaded and warmed up first; then they run in rounds, one run of each per round, in
//! an order that rotates, so that a change of the machine's speed meets all of them alike.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use super::{Failure, MachineArgs, Output, Progress, ReportArgs};
use crate::model::Model;
use crate::session::{Compute, Session};

/// Measure how fast models run
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fresnel-run bench model.fresnel --threads 1
  fresnel-run bench float.fresnel 4bit.fresnel 2bit.fresnel --batch 8 --json
  fresnel-run bench model.fresnel --compute f32,int8

Several models and modes run in turns. peak_rss_bytes is that of the whole process: give one model and
one mode to learn what it needs.")]
pub struct BenchArgs {
    /// Model files
    #[arg(value_name = "FILE", required = true)]
    pub models: Vec<PathBuf>,
    /// Arithmetic of the activations; several, separated by commas, are compared
    #[arg(long, value_enum, value_delimiter = ',', default_value = "auto")]
    pub compute: Vec<Compute>,
    /// Images per run
    #[arg(long, value_name = "B", default_value_t = 1)]
    pub batch: usize,
    /// Timed runs of each model and mode
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub iterations: usize,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    /// How to report
    #[command(flatten)]
    pub report: ReportArgs,
}

/// One model in one mode.
struct Contestant<'a> {
    file: &'a PathBuf,
    session: Session,
    pixels: Vec<f32>,
    milliseconds: Vec<f64>,
}

/// Runs `bench`.
///
/// # Errors
/// When a model cannot be read or run.
pub fn bench(args: &BenchArgs) -> Result<(), Failure> {
    let output = Output::new(args.report);
    for (flag, value) in [("--batch", args.batch), ("--iterations", args.iterations)] {
        if value == 0 {
            return Err(Failure::usage(format!("{flag} must be at least 1")));
        }
    }
    let mut contestants = Vec::new();
    for file in &args.models {
        let model = Model::open(file)?;
        for &compute in &args.compute {
            contestants.push(Contestant {
                file,
                session: args.machine.session(&model, compute)?,
                pixels: noise(&model, args.batch)?,
                milliseconds: Vec::with_capacity(args.iterations),
            });
        }
    }
    let runs = (args.iterations + 1) * contestants.len();
    let mut progress = Progress::new("measuring", runs, args.report);
    for contestant in &mut contestants {
        contestant.run(args.batch)?;
        progress.advance(1);
    }
    let count = contestants.len();
    for round in 0..args.iterations {
        for turn in 0..count {
            let contestant = &mut contestants[(round + turn) % count];
            let milliseconds = contestant.run(args.batch)?;
            contestant.milliseconds.push(milliseconds);
            progress.advance(1);
        }
    }
    drop(progress);
    let peak = peak_rss_bytes();
    if !output.json() {
        output.line(format_args!(
            "{:>10} {:>10} {:>10}  {:>5} {:>7} {:>5} {:>12} {:>12}  {:<28} file",
            "median ms",
            "min ms",
            "images/s",
            "mode",
            "threads",
            "batch",
            "file bytes",
            "memory",
            "kernel"
        ))?;
    }
    for contestant in &mut contestants {
        output.line(contestant.report(args, peak))?;
    }
    Ok(())
}

impl Contestant<'_> {
    /// One run, in milliseconds.
    fn run(&mut self, batch: usize) -> Result<f64, Failure> {
        let start = Instant::now();
        self.session.run(&self.pixels, batch).map_err(|error| error.at_path(self.file))?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }

    /// The line of output for this model and mode.
    fn report(&mut self, args: &BenchArgs, peak: Option<u64>) -> String {
        let session = &self.session;
        let model = session.model();
        let median = median(&mut self.milliseconds);
        let min = self.milliseconds.first().copied().unwrap_or(f64::NAN);
        let images_per_second = args.batch as f64 * 1e3 / median;
        if args.report.json {
            let object: Value = json!({
                "file": self.file.display().to_string(),
                "median_ms": median,
                "min_ms": min,
                "images_per_second": images_per_second,
                "file_bytes": model.file_bytes(),
                "resident_bytes": model.resident_bytes(),
                "peak_rss_bytes": peak,
                "compute": session.compute().name(),
                "threads": session.threads(),
                "batch": args.batch,
                "iterations": args.iterations,
                "kernel": session.kernel(),
            });
            return object.to_string();
        }
        let compute = session.compute().name();
        format!(
            "{median:10.3} {min:10.3} {images_per_second:10.1}  {compute:>5} {:>7} {:>5} {:>12} {:>12}  {:<28} {}",
            session.threads(),
            args.batch,
            model.file_bytes(),
            model.resident_bytes(),
            session.kernel(),
            self.file.display()
        )
    }
}

/// Sorts `values` and returns the middle one, or the mean of the two middle ones.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// Pixels of a usual size, the same in every run of the program.
fn noise(model: &Model, batch: usize) -> Result<Vec<f32>, Failure> {
    let config = model.config();
    let [height, width] = config.image_size;
    let count = [height, width, config.in_channels]
        .into_iter()
        .try_fold(batch, |product, size| product.checked_mul(size as usize))
        .filter(|&count| count <= isize::MAX as usize / size_of::<f32>());
    let count = count.ok_or_else(|| Failure::usage("--batch is too large"))?;
    let mut pixels = Vec::new();
    pixels
        .try_reserve_exact(count)
        .map_err(|_| Failure::usage("--batch is too large for this machine's memory"))?;
    let mut state = 1u32;
    pixels.resize_with(count, || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 22) as f32 - 2.0
    });
    Ok(pixels)
}

/// Peak of the process's memory in use; `None` where the system does not tell.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::{median, peak_rss_bytes};

    #[test]
    fn median_of_odd_and_even_counts() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&mut []).is_nan());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_tells_peak_memory() {
        assert!(peak_rss_bytes().is_some_and(|bytes| bytes > 1 << 16));
    }
}
