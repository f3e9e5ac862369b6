//! `fresnel`: quantizes Vision Transformers, and runs, measures and inspects the result.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
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

Exit codes: 0 done, 1 a check failed (of diff: the files differ), 2 usage, 3 bad input file, 4 reading or
writing failed, 5 device, 130 interrupted (Ctrl-C), 143 terminated; whatever the code, no file is left
half written.

FRESNEL_ISA=scalar|avx2|avxvnni|avx512vnni|amx|neon|dotprod|i8mm forces an instruction set,
FRESNEL_GPU=INDEX|NAME|vulkan|metal|dx12 says which GPU --device gpu is, FRESNEL_GPU_AUTOTUNE=0|1 whether
its kernels are chosen by timing them.")]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Quantize(Box<cli::QuantizeArgs>),
    Compare(Box<cli::CompareArgs>),
    Report(cli::ReportPageArgs),
    Demo(cli::DemoArgs),
    Synth(cli::SynthArgs),
    Eval(runtime::EvalArgs),
    Run(runtime::RunArgs),
    Classify(runtime::ClassifyArgs),
    Inspect(runtime::InspectArgs),
    Diff(runtime::DiffArgs),
    Edit(runtime::EditArgs),
    Export(runtime::ExportArgs),
    Verify(runtime::VerifyArgs),
    Bench(runtime::BenchArgs),
    Devices(runtime::DevicesArgs),
    Completions(cli::CompletionsArgs),
    Man(cli::ManArgs),
}

fn main() -> ExitCode {
    runtime::handle_interrupts();
    fresnel_runtime::image::decode::quiet_decoders();
    let command = match runtime::parse::<Program>() {
        Ok(program) => program.command,
        Err(code) => return code,
    };
    let (result, json) = match &command {
        Command::Quantize(args) => (cli::quantize(args), args.report.json),
        Command::Compare(args) => (cli::compare(args), args.report.json),
        Command::Report(args) => (cli::report(args), args.report.json),
        Command::Demo(args) => (cli::demo(args), args.report.json),
        Command::Synth(args) => (cli::synth(args), args.report.json),
        Command::Eval(args) => (runtime::eval(args), args.json()),
        Command::Run(args) => (runtime::run(args), args.report.json),
        Command::Classify(args) => (runtime::classify(args), args.report.json),
        Command::Inspect(args) => (runtime::inspect(args), args.report.json),
        Command::Diff(args) => (runtime::diff(args), args.report.json),
        Command::Edit(args) => (runtime::edit(args), args.report.json),
        Command::Export(args) => (runtime::export(args), args.report.json),
        Command::Verify(args) => (runtime::verify(args), args.report.json),
        Command::Devices(args) => (runtime::devices(args), args.report.json),
        Command::Bench(args) => (runtime::bench(args), args.json()),
        Command::Completions(args) => (cli::completions(args, command_line()), false),
        Command::Man(args) => (cli::man(args, command_line()), args.report.json),
    };
    runtime::finish(result, json)
}

/// The whole command line, with the examples of the commands that both programs have naming this one.
fn command_line() -> clap::Command {
    runtime::with_own_examples(Program::command())
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory};

    /// The words of a line of a shell, without redirections, comments and what follows the command.
    fn words(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut quoted = false;
        for character in line.chars() {
            match character {
                '\'' => quoted = !quoted,
                ' ' if !quoted => words.push(String::new()),
                other => words.last_mut().expect("a word").push(other),
            }
        }
        words.retain(|word| !word.is_empty());
        let ends = |word: &String| [">", ">>", "&&", "#"].contains(&word.as_str());
        let end = words.iter().position(ends);
        words.truncate(end.unwrap_or(words.len()));
        let start = words.iter().position(|word| !word.contains("FRESNEL_ISA="));
        words.split_off(start.unwrap_or_default())
    }

    /// The examples in the help of `command`.
    fn examples(command: &Command) -> Vec<Vec<String>> {
        let help = command.get_after_help().expect("examples").to_string();
        let (head, rest) = help.split_once('\n').expect("lines");
        assert!(head.starts_with("Example"), "{}: {head}", command.get_name());
        let lines = rest.lines().take_while(|line| !line.is_empty());
        lines.map(words).collect()
    }

    #[test]
    fn every_example_is_a_command_line_that_parses() {
        for program in [super::command_line(), fresnel_runtime::cli::Program::command()] {
            let name = program.get_name().to_owned();
            let own = examples(&program);
            let of_commands = program.get_subcommands().flat_map(|command| {
                let examples = examples(command);
                let named = |example: &Vec<String>| example[1] == command.get_name();
                assert!(examples.iter().any(named), "{}", command.get_name());
                examples
            });
            let mut checked = 0;
            for example in own.into_iter().chain(of_commands) {
                assert_eq!(example[0], name, "{example:?}");
                if let Err(error) = program.clone().try_get_matches_from(&example) {
                    panic!("{example:?}: {error}");
                }
                checked += 1;
            }
            assert!(checked >= 10, "{checked} examples of {name}");
        }
    }

    #[test]
    fn every_command_line_in_the_documents_parses() {
        let mut checked = 0;
        for document in [
            include_str!("../../README.md"),
            include_str!("../../runtime/EMBEDDING.md"),
            include_str!("../../examples/results/README.md"),
            include_str!("../docs/algorithm.md"),
            include_str!("../docs/choosing_bits.md"),
            include_str!("../docs/model_family.md"),
        ] {
            let mut blocks = document.split("```");
            // What stands between fences is every second part.
            while let (Some(_), Some(block)) = (blocks.next(), blocks.next()) {
                let Some(block) = block.strip_prefix("sh\n") else { continue };
                let block = block.replace("\\\n", " ");
                let lines = block.lines().filter(|line| line.starts_with("fresnel"));
                for example in lines.map(words) {
                    let program = match example[0].as_str() {
                        "fresnel" => super::command_line(),
                        "fresnel-run" => fresnel_runtime::cli::Program::command(),
                        other => panic!("no program {other}"),
                    };
                    if let Err(error) = program.try_get_matches_from(&example) {
                        panic!("{example:?}: {error}");
                    }
                    checked += 1;
                }
            }
        }
        assert!(checked >= 20, "{checked} command lines");
    }

    #[test]
    fn the_command_lines_are_consistent() {
        super::command_line().debug_assert();
        fresnel_runtime::cli::Program::command().debug_assert();
    }
}
