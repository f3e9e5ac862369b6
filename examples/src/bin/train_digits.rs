//! Trains the Vision Transformer for handwritten digits that `fresnel demo` quantizes.
//!
//! With `--validate`, trains on digits 0 to 7,999 and prints the accuracy on 8,000 to 8,999 as it
//! goes: this is how settings are chosen. Without it, trains on all 9,000 and evaluates the held-out
//! last 1,000 once, at the end. Progress goes to standard error, the final accuracy to standard
//! output.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use burn::module::Module;
use clap::Parser;
use fresnel_examples::digits::augmentation::Augmentation;
use fresnel_examples::digits::training::{TrainingOptions, accuracy, train};
use fresnel_examples::digits::vision_transformer::Architecture;
use fresnel_examples::digits::{Digits, Error, HELD_OUT, TRAINING, VALIDATION, checkpoint};

/// Train a small Vision Transformer on the handwritten digits of MNIST
///
/// Writes model.safetensors and config.json, as timm names things.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  train_digits mnist.npz --validate --epochs 30\n  \
    train_digits mnist.npz --output quantizer/assets/digits --force")]
struct Arguments {
    /// The archive: an .npz with images u8 10000 x 28 x 28 and labels u8 10000
    archive: PathBuf,
    /// Folder for model.safetensors and config.json
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Replace a model that is already in the folder
    #[arg(long)]
    force: bool,
    /// Train on the first 8,000 digits and validate on the next 1,000; the held-out ones stay unseen
    #[arg(long)]
    validate: bool,
    /// Epochs between two checkpoints, and with --validate between two validations
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    interval: u16,
    /// Passes over the training digits
    #[arg(long, default_value_t = 120)]
    epochs: usize,
    /// Digits of an optimizer step
    #[arg(long, default_value_t = 50)]
    batch_size: usize,
    /// Highest learning rate
    #[arg(long, default_value_t = 1e-3)]
    learning_rate: f64,
    /// Epochs of linear warm-up
    #[arg(long, default_value_t = 5)]
    warmup_epochs: usize,
    /// AdamW's weight decay of the linears' weights
    #[arg(long, default_value_t = 0.05)]
    weight_decay: f32,
    /// Share of the target spread over all classes
    #[arg(long, default_value_t = 0.1)]
    label_smoothing: f32,
    /// Strength of the distortions of the training digits; 0 turns them off
    #[arg(long, default_value_t = 1.0)]
    distortion: f32,
    /// Parts of a batch that are computed side by side
    #[arg(long, default_value_t = 2)]
    shards: usize,
    /// Seed of everything that is random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Side of a patch in pixels
    #[arg(long, default_value_t = 7)]
    patch_size: usize,
    /// Width of a token
    #[arg(long, default_value_t = 64)]
    embed_dim: usize,
    /// Number of blocks
    #[arg(long, default_value_t = 6)]
    depth: usize,
    /// Attention heads
    #[arg(long, default_value_t = 4)]
    num_heads: usize,
    /// Hidden width of the MLP in multiples of the token's
    #[arg(long, default_value_t = 4)]
    mlp_ratio: usize,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Error> {
    if !(arguments.distortion.is_finite() && (0.0..=2.0).contains(&arguments.distortion)) {
        return Err(Error::Options(format!("distortion {} is not in 0..=2", arguments.distortion)));
    }
    let architecture = Architecture {
        patch_size: arguments.patch_size,
        embed_dim: arguments.embed_dim,
        depth: arguments.depth,
        num_heads: arguments.num_heads,
        mlp_ratio: arguments.mlp_ratio,
    };
    let options = TrainingOptions {
        epochs: arguments.epochs,
        batch_size: arguments.batch_size,
        learning_rate: arguments.learning_rate,
        warmup_epochs: arguments.warmup_epochs,
        weight_decay: arguments.weight_decay,
        label_smoothing: arguments.label_smoothing,
        augmentation: Augmentation::TRAINING.scaled(arguments.distortion),
        shards: arguments.shards,
        seed: arguments.seed,
    };
    let digits = Digits::read_whole(&arguments.archive)?;
    if let Some(directory) = &arguments.output {
        checkpoint::prepare(directory, arguments.force)?;
    }
    let range = if arguments.validate { TRAINING.start..VALIDATION.start } else { TRAINING };
    let start = Instant::now();
    let model = train(&digits, range, architecture, &options, |report, model| {
        let seconds = report.elapsed.as_secs_f64();
        let mut line = format!(
            "epoch {:3}/{}  loss {:.4}  rate {:.2e}  {seconds:6.0} s",
            report.epoch, options.epochs, report.loss, report.learning_rate
        );
        if report.epoch == 1 {
            line += &format!("  {} parameters", model.num_params());
        }
        if report.epoch.is_multiple_of(usize::from(arguments.interval)) {
            if arguments.validate {
                let top1 = accuracy(model, architecture, &digits, VALIDATION);
                line += &format!("  validation {top1:.1} %");
            }
            if let Some(directory) = &arguments.output {
                checkpoint::write(directory, architecture, &model.tensors(architecture))?;
            }
        }
        eprintln!("{line}");
        Ok(())
    })?;
    let seconds = start.elapsed().as_secs_f64();
    if let Some(directory) = &arguments.output {
        checkpoint::write(directory, architecture, &model.tensors(architecture))?;
    }
    let (name, range) =
        if arguments.validate { ("validation", VALIDATION) } else { ("held-out", HELD_OUT) };
    let top1 = accuracy(&model, architecture, &digits, range.clone());
    println!(
        "{name} digits {} to {}: top-1 {top1:.1} %, {} parameters, trained in {seconds:.0} s",
        range.start,
        range.end - 1,
        model.num_params()
    );
    Ok(())
}
