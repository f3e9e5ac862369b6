//! `completions`: what shells need to complete command lines of both programs.

use std::io::Write;

use clap::{Args, Command, CommandFactory, ValueEnum};
use clap_complete::Shell;
use fresnel_runtime::cli::{Exit, Failure, Program};

/// Print a shell's completions for fresnel or fresnel-run
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fresnel completions bash > ~/.local/share/bash-completion/completions/fresnel
  fresnel completions bash --program fresnel-run > ~/.local/share/bash-completion/completions/fresnel-run
  fresnel completions zsh > ~/.zfunc/_fresnel
  fresnel completions fish > ~/.config/fish/completions/fresnel.fish
  fresnel completions powershell >> $PROFILE")]
pub struct CompletionsArgs {
    /// Shell to complete in
    #[arg(value_enum)]
    shell: Shell,
    /// Program to complete
    #[arg(long, value_enum, default_value_t = ProgramName::Fresnel)]
    program: ProgramName,
}

/// One of the two programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ProgramName {
    /// The quantizer
    Fresnel,
    /// The runtime for devices
    FresnelRun,
}

/// Runs `completions`; `fresnel` is the command line of that program.
///
/// # Errors
/// When standard output can't be written.
pub fn completions(args: &CompletionsArgs, fresnel: Command) -> Result<(), Failure> {
    let mut command = match args.program {
        ProgramName::Fresnel => fresnel,
        ProgramName::FresnelRun => Program::command(),
    };
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    std::io::stdout()
        .write_all(&script)
        .map_err(|error| Failure::new(Exit::Io, "io", format!("standard output: {error}")))
}
