//! The commands that `fresnel` and `fresnel-run` share, as clap argument structs and functions.
//!
//! Every command follows the same rules: the result goes to standard output, progress and messages
//! to standard error; `--json` makes the result JSON (measurements take `--format` as well); a failure is one line `error: ...` on
//! standard error (and a JSON object on standard output with `--json`) and an exit code of
//! [`Exit`]. Nothing is overwritten without `--force`, and nothing is left half written, not even by
//! [Ctrl-C](handle_interrupts).

mod bench;
mod classify;
mod devices;
mod diff;
mod edit;
mod eval;
mod export;
mod failure;
mod inspect;
mod interrupt;
mod output;
mod output_file;
mod program;
mod progress;
pub mod results;
mod run;
mod tensors;
#[cfg(test)]
mod tests;
mod verify;

use std::path::{Path, PathBuf};

use clap::{Args, Command, Parser};

use crate::device::DeviceChoice;
use crate::error::Error;
use crate::session::{Compute, DEFAULT_INT8_AGREEMENT, DeviceTiming, Session, SessionOptions};

pub use bench::{BenchArgs, bench};
pub use classify::{ClassifyArgs, classify};
pub use devices::{DevicesArgs, devices};
pub use diff::{DiffArgs, diff};
pub use edit::{EditArgs, edit};
pub use eval::{EvalArgs, eval, labelled_pictures};
pub use export::{ExportArgs, ExportFormat, export};
pub use failure::{Exit, Failure, finish};
pub use inspect::{InspectArgs, inspect};
pub use interrupt::handle_interrupts;
pub use output::Output;
pub use output_file::{check_output, write_file};
pub use program::Program;
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
        SessionOptions {
            threads: self.threads,
            compute,
            int8_agreement: self.int8_agreement,
            ..SessionOptions::default()
        }
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

/// The files to measure: `baseline` first, where there is one, then those of `files` that are not the baseline.
fn with_baseline<'a>(baseline: Option<&'a Path>, files: &'a [PathBuf]) -> Vec<&'a Path> {
    let others = files.iter().map(PathBuf::as_path).filter(|&file| Some(file) != baseline);
    baseline.into_iter().chain(others).collect()
}

/// Parses the command line as `P`.
///
/// # Errors
/// The exit code to end with, after the help, the version or the usage error was printed (with
/// `--json` among the arguments a usage error is printed as a JSON object as well).
pub fn parse<P: Parser>() -> Result<P, std::process::ExitCode> {
    let mut command = with_own_examples(P::command());
    let parsed = command.try_get_matches_from_mut(std::env::args_os());
    let program = parsed.and_then(|mut matches| P::from_arg_matches_mut(&mut matches));
    program.map_err(|error| {
        let error = error.format(&mut command);
        // Nothing sensible is left to do when even the message cannot be written.
        let _ = error.print();
        if !error.use_stderr() {
            return Exit::Ok.into();
        }
        if std::env::args_os().any(|argument| argument == "--json") {
            let text = error.to_string();
            // What is missing may stand on lines of its own; the usage follows behind an empty one.
            let lines = text.lines().take_while(|line| !line.is_empty()).map(str::trim);
            let message = lines.collect::<Vec<_>>().join(" ");
            failure::print_json(&Failure::usage(message.trim_start_matches("error: ")));
        }
        Exit::Usage.into()
    })
}

/// The command with the examples of the shared subcommands naming it, and not `fresnel-run`.
#[must_use]
pub fn with_own_examples(command: Command) -> Command {
    let program = command.get_name().to_owned();
    command.mut_subcommands(|subcommand| {
        let after_help = subcommand.get_after_help().map(ToString::to_string);
        match after_help {
            Some(text) => {
                subcommand.after_help(text.replace("fresnel-run ", &format!("{program} ")))
            }
            None => subcommand,
        }
    })
}
