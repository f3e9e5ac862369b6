//! `fresnel-run`: runs, measures and checks `.fresnel` models on a device.

use std::process::ExitCode;

use fresnel_runtime::cli;

fn main() -> ExitCode {
    cli::handle_interrupts();
    match cli::parse::<cli::Program>() {
        Ok(program) => program.run(),
        Err(code) => code,
    }
}
