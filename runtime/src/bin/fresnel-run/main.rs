//! `fresnel-run`: runs, measures and checks `.fresnel` models on a device.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use fresnel_runtime::cli;

/// Runs low-bit Vision Transformers from .fresnel files
#[derive(Parser)]
#[command(name = "fresnel-run", version, arg_required_else_help = true)]
#[command(after_help = "Examples:
  fresnel-run classify model.fresnel cat.jpg
  fresnel-run bench model.fresnel --threads 1 --json
  fresnel-run inspect model.fresnel

Results go to standard output, messages to standard error.
Exit codes: 0 done, 1 a check failed, 2 usage, 3 bad input file, 4 reading or writing failed, 5 device.
FRESNEL_ISA=scalar|avx2|avxvnni|avx512vnni|amx|neon|dotprod|i8mm forces an instruction set,
FRESNEL_GPU=INDEX|NAME|vulkan|metal|dx12 says which GPU --device gpu is.")]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Classify(cli::ClassifyArgs),
    Run(cli::RunArgs),
    Bench(cli::BenchArgs),
    Devices(cli::DevicesArgs),
    Inspect(cli::InspectArgs),
    Verify(cli::VerifyArgs),
}

fn main() -> ExitCode {
    let command = match cli::parse::<Program>() {
        Ok(program) => program.command,
        Err(code) => return code,
    };
    let (result, json) = match &command {
        Command::Classify(args) => (cli::classify(args), args.report.json),
        Command::Run(args) => (cli::run(args), args.report.json),
        Command::Bench(args) => (cli::bench(args), args.report.json),
        Command::Devices(args) => (cli::devices(args), args.report.json),
        Command::Inspect(args) => (cli::inspect(args), args.report.json),
        Command::Verify(args) => (cli::verify(args), args.report.json),
    };
    cli::finish(result, json)
}
