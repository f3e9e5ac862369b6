//! `bench`: how fast models run, where their time goes, and how near the kernels come to what the machine can do.
//!
//! Whatever is compared runs in rounds, one run of each per round, so that a change of the machine's speed meets all of them
//! alike.

mod kernels;
mod models;
mod operations;
mod products;
mod statistics;

use std::path::PathBuf;

use clap::Args;

use super::results::{Format, FormatArgs};
use super::{Failure, MachineArgs, ReportArgs};
use crate::device::DeviceChoice;
use crate::session::Compute;
use kernels::KernelArgs;

/// Most timed runs, all of which are remembered.
const MAX_ITERATIONS: usize = 1 << 20;

/// Measure how fast models or kernels run
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fresnel-run bench model.fresnel --threads 1
  fresnel-run bench 4bit.fresnel 2bit.fresnel --baseline float.fresnel --batch 8
  fresnel-run bench float.fresnel 2bit.fresnel --format csv > bench.csv
  fresnel-run bench model.fresnel --compute f32,int8 --profile
  fresnel-run bench model.fresnel --device cpu,gpu --batch 64
  fresnel-run bench --kernels --threads 1
  FRESNEL_ISA=avx2 fresnel-run bench --kernels --rows 197 --shape 768x3072 --json

Several models, devices and modes run in turns. speed-up is how many times as fast as the baseline
a row is: the median over the rounds. Csv begins with the columns of timm's benchmark.py (samples per
second and the mean time of a step in ms, multiplications in 10^9, activations in 10^6, parameters in
10^6). peak_rss_bytes is that of the whole process: give one model, device and mode to learn what it
needs. first ms is the time from opening the file to the first logits.

--kernels times the matrix products of every width and arithmetic, on each instruction set of
this machine (or the one that FRESNEL_ISA names), in turns with a loop that measures the highest
rate of the instruction they use. share is the part of that rate which a kernel reaches, as the
median over the runs; best compares the shortest run with the highest rate. Without a model the
shapes are those of DeiT-B.")]
pub struct BenchArgs {
    /// Model files; with --kernels, at most one, for its shapes
    #[arg(value_name = "FILE", required_unless_present = "kernels")]
    pub models: Vec<PathBuf>,
    /// The file that speed-ups are relative to, on the first device in the first mode; it runs as well [default: the first FILE]
    #[arg(long, value_name = "FILE", conflicts_with = "kernels")]
    pub baseline: Option<PathBuf>,
    /// Where to run: cpu, gpu, gpu:INDEX or gpu:NAME (see `devices`), or auto; several, separated by commas, are compared
    #[arg(
        long,
        value_name = "DEVICE",
        value_delimiter = ',',
        default_value = "cpu",
        conflicts_with = "kernels"
    )]
    pub device: Vec<DeviceChoice>,
    /// Arithmetic of the activations; several, separated by commas, are compared
    #[arg(long, value_enum, value_delimiter = ',', default_value = "auto")]
    pub compute: Vec<Compute>,
    /// Images per run
    #[arg(long, value_name = "B", default_value_t = 1)]
    pub batch: usize,
    /// Timed runs of each model and mode, or of each kernel
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub iterations: usize,
    /// Show where the time goes, operation by operation
    #[arg(long)]
    pub profile: bool,
    #[command(flatten)]
    pub(crate) kernels: KernelArgs,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
    /// How to report
    #[command(flatten)]
    pub report: ReportArgs,
}

impl BenchArgs {
    /// Whether everything is wanted as JSON, a failure included.
    pub fn json(&self) -> bool {
        self.format() == Format::Json
    }

    /// The format of the rows.
    fn format(&self) -> Format {
        self.format.format(self.report)
    }
}

/// Runs `bench`.
///
/// # Errors
/// When a model cannot be read or run, or the machine lacks the instruction set that `FRESNEL_ISA` names.
pub fn bench(args: &BenchArgs) -> Result<(), Failure> {
    if args.batch == 0 {
        return Err(Failure::usage("--batch must be at least 1"));
    }
    if !(1..=MAX_ITERATIONS).contains(&args.iterations) {
        return Err(Failure::usage(format!("--iterations must be in 1..={MAX_ITERATIONS}")));
    }
    if !args.kernels.kernels {
        return models::bench(args);
    }
    if !matches!(args.format(), Format::Table | Format::Json) {
        return Err(Failure::usage("--kernels prints a table or JSON"));
    }
    kernels::bench(args)
}
