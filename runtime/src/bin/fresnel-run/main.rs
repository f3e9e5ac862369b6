//! `fresnel-run`: runs, measures and checks `.fresnel` models on a device.

use std::process::ExitCode;

use fresnel_runtime::cli;
use fresnel_runtime::image::decode::quiet_decoders;

fn main() -> ExitCode {
    cli::handle_interrupts();
    quiet_decoders();
    match cli::parse::<cli::Program>() {
        Ok(program) => program.run(),
        Err(code) => code,
    }
}
