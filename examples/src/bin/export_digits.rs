//! Takes the digits for calibration and evaluation out of the MNIST archive.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use fresnel_examples::digits::{Digits, export};

/// Write the calibration, evaluation and sample digits that belong to the digits model
///
/// Calibration digits come from the first 9,000 of the archive, the others from the last 1,000.
#[derive(Debug, Parser)]
#[command(after_help = "Example:\n  export_digits mnist.npz --output quantizer/assets/digits")]
struct Arguments {
    /// The archive: an .npz with images u8 10000 x 28 x 28 and labels u8 10000
    archive: PathBuf,
    /// Folder for the files
    #[arg(short, long)]
    output: PathBuf,
    /// Number of calibration digits
    #[arg(long, default_value_t = 256)]
    calibration_count: usize,
    /// Seed for the draw of the calibration digits
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let written = Digits::read_whole(&arguments.archive).and_then(|digits| {
        export::export(&digits, arguments.calibration_count, arguments.seed, &arguments.output)
    });
    match written {
        Ok(paths) => {
            for path in paths {
                println!("{}", path.display());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
