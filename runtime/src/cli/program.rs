//! The program `fresnel-run`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::{
    BenchArgs, ClassifyArgs, DevicesArgs, InspectArgs, RunArgs, VerifyArgs, bench, classify,
    devices, finish, inspect, run, verify,
};

/// Runs low-bit Vision Transformers from .fresnel files
#[derive(Debug, Parser)]
#[command(name = "fresnel-run", version, arg_required_else_help = true)]
#[command(after_help = "Examples:
  fresnel-run classify model.fresnel cat.jpg
  fresnel-run bench model.fresnel --threads 1 --json
  fresnel-run inspect model.fresnel

Results go to standard output, messages to standard error.

Exit codes: 0 done, 1 a check failed, 2 usage, 3 bad input file, 4 reading or writing failed, 5 device,
130 interrupted (Ctrl-C), 143 terminated; whatever the code, no file is left half written.

FRESNEL_ISA=scalar|avx2|avxvnni|avx512vnni|amx|neon|dotprod|i8mm forces an instruction set,
FRESNEL_GPU=INDEX|NAME|vulkan|metal|dx12 says which GPU --device gpu is, FRESNEL_GPU_AUTOTUNE=0|1 whether
its kernels are chosen by timing them.")]
pub struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Classify(ClassifyArgs),
    Run(RunArgs),
    Bench(BenchArgs),
    Devices(DevicesArgs),
    Inspect(InspectArgs),
    Verify(VerifyArgs),
}

impl Program {
    /// Does what the command line says.
    pub fn run(&self) -> ExitCode {
        let (result, json) = match &self.command {
            Command::Classify(args) => (classify(args), args.report.json),
            Command::Run(args) => (run(args), args.report.json),
            Command::Bench(args) => (bench(args), args.json()),
            Command::Devices(args) => (devices(args), args.report.json),
            Command::Inspect(args) => (inspect(args), args.report.json),
            Command::Verify(args) => (verify(args), args.report.json),
        };
        finish(result, json)
    }
}
