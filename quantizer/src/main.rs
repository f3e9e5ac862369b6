//! `fresnel`: quantizes Vision Transformers, and runs, measures and inspects the result.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use fresnel_quantizer::cli;
use fresnel_runtime::cli as runtime;

/// Low-bit Vision Transformers: quantize, run, measure
#[derive(Parser)]
#[command(name = "fresnel", version, arg_required_else_help = true)]
#[command(after_help = "Examples:
  fresnel demo
  fresnel quantize deit_tiny_patch16_224 --calib photos --bits 2 -o deit_tiny_2bit.fresnel
  fresnel classify deit_tiny_2bit.fresnel cat.jpg
  fresnel eval deit_tiny_2bit.fresnel --data evaluation.csv

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
    Quantize(Box<cli::QuantizeArgs>),
    Compare(Box<cli::CompareArgs>),
    Demo(cli::DemoArgs),
    Synth(cli::SynthArgs),
    Eval(runtime::EvalArgs),
    Run(runtime::RunArgs),
    Classify(runtime::ClassifyArgs),
    Inspect(runtime::InspectArgs),
    Verify(runtime::VerifyArgs),
    Bench(runtime::BenchArgs),
    Devices(runtime::DevicesArgs),
}

fn main() -> ExitCode {
    let command = match runtime::parse::<Program>() {
        Ok(program) => program.command,
        Err(code) => return code,
    };
    let (result, json) = match &command {
        Command::Quantize(args) => (cli::quantize(args), args.report.json),
        Command::Compare(args) => (cli::compare(args), args.report.json),
        Command::Demo(args) => (cli::demo(args), args.report.json),
        Command::Synth(args) => (cli::synth(args), args.report.json),
        Command::Eval(args) => (runtime::eval(args), args.report.json),
        Command::Run(args) => (runtime::run(args), args.report.json),
        Command::Classify(args) => (runtime::classify(args), args.report.json),
        Command::Inspect(args) => (runtime::inspect(args), args.report.json),
        Command::Verify(args) => (runtime::verify(args), args.report.json),
        Command::Devices(args) => (runtime::devices(args), args.report.json),
        Command::Bench(args) => (runtime::bench(args), args.report.json),
    };
    runtime::finish(result, json)
}
