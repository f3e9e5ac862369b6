//! The commands that `fresnel` and `fresnel-run` share, as clap argument structs and functions.
//!
//! Every command follows the same rules: the result goes to standard output, progress and messages
//! to standard error; `--json` makes the result JSON; a failure is one line `error: ...` on
//! standard error (and a JSON object on standard output with `--json`) and an exit code of
//! [`Exit`]. Nothing is overwritten without `--force`.

mod bench;
mod classify;
mod devices;
mod eval;
mod failure;
mod inspect;
mod output;
mod output_file;
mod progress;
mod run;
mod tensors;
#[cfg(test)]
mod tests;
mod verify;

use std::path::Path;

use clap::{Args, Parser};

use crate::device::DeviceChoice;
use crate::error::Error;
use crate::session::{Compute, DEFAULT_INT8_AGREEMENT, DeviceTiming, Session, SessionOptions};

pub use bench::{BenchArgs, bench};
pub use classify::{ClassifyArgs, classify};
pub use devices::{DevicesArgs, devices};
pub use eval::{EvalArgs, eval, labelled_pictures};
pub use failure::{Exit, Failure, finish};
pub use inspect::{InspectArgs, inspect};
pub use output::Output;
pub use output_file::{check_output, write_file};
pub use progress::Progress;
pub use run::{RunArgs, run};
pub use verify::{VerifyArgs, verify};

/// How a command reports: flags that every command has.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct ReportArgs {
    /// Print the result as JSON on standard output
    #[arg(long)]
    pub json: bool,
    /// No progress and no messages on standard error, errors excepted
    #[arg(short, long)]
    pub quiet: bool,
}

/// How a model is run: flags of every command that runs one.
#[derive(Args, Clone, Debug)]
pub struct ComputeArgs {
    /// Where to run: cpu, gpu, gpu:INDEX or gpu:NAME (see `devices`), or auto, the faster one
    #[arg(long, value_name = "DEVICE", default_value_t = DeviceChoice::Cpu)]
    pub device: DeviceChoice,
    /// Arithmetic of the activations
    #[arg(long, value_enum, default_value_t = Compute::Auto)]
    pub compute: Compute,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
}

impl ComputeArgs {
    /// A session on the model in `file` as the flags say; what `auto` measured is reported.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn open(&self, file: &Path, output: &Output) -> Result<Session, Error> {
        self.machine.open(file, &self.device, self.compute, output)
    }
}

/// Threads and the threshold of `auto`: the flags beside `--compute`.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct MachineArgs {
    /// Threads to compute with; 0 = one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) threads: usize,
    /// `auto` considers half and int8 when their recorded top-1 agreement with f32 is at least this percentage
    #[arg(long, value_name = "PERCENT", default_value_t = DEFAULT_INT8_AGREEMENT)]
    pub(crate) int8_agreement: f64,
}

impl MachineArgs {
    fn options(&self, compute: Compute) -> SessionOptions {
        SessionOptions { threads: self.threads, compute, int8_agreement: self.int8_agreement }
    }

    fn open(
        &self,
        file: &Path,
        device: &DeviceChoice,
        compute: Compute,
        output: &Output,
    ) -> Result<Session, Error> {
        let session = Session::open(file, device, self.options(compute))?;
        if *device == DeviceChoice::Auto {
            let timing = |timing: &DeviceTiming| {
                format!("{} {:.1} ms", timing.device, timing.time.as_secs_f64() * 1e3)
            };
            let timings: Vec<String> = session.timings().iter().map(timing).collect();
            let measured = match timings.is_empty() {
                true => "no GPU to choose".to_owned(),
                false => format!("{} per image", timings.join(", ")),
            };
            let device = session.model().device();
            output.message(format_args!("device auto: {measured}; runs on {device}"));
        }
        Ok(session)
    }
}

/// Parses the command line as `P`.
///
/// # Errors
/// The exit code to end with, after the help, the version or the usage error was printed (with
/// `--json` among the arguments a usage error is printed as a JSON object as well).
pub fn parse<P: Parser>() -> Result<P, std::process::ExitCode> {
    P::try_parse().map_err(|error| {
        // Nothing sensible is left to do when even the message cannot be written.
        let _ = error.print();
        if !error.use_stderr() {
            return Exit::Ok.into();
        }
        if std::env::args_os().any(|argument| argument == "--json") {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            failure::print_json(&Failure::usage(line.trim_start_matches("error: ")));
        }
        Exit::Usage.into()
    })
}
