//! How much of the matrix product's rate the solvers reach on the CPU.
//!
//! ```text
//! cargo run --release -p fresnel-quantizer --example solver_rate -- --model tiny
//! ```
//!
//! For every linear layer of a block it times, in turn and several times over, the product of an
//! N x N with an N x C matrix in f32, Beacon, GPTQ and the factorization of the Gram matrix, on random
//! inputs. A solver's rate counts what it must do in passes of `2 N^2 C` operations: Beacon the target,
//! half a pass for the initialization, and for each sweep that ran one pass and the recomputation of
//! `h`; GPTQ half a pass. The factorization and its inverse count `2/3 N^3`.

use std::time::Instant;

use clap::{Parser, ValueEnum};
use fresnel_quantizer::algorithm::alphabet::Alphabet;
use fresnel_quantizer::algorithm::beacon;
use fresnel_quantizer::algorithm::gptq::{RoundingOrder, Solver};
use fresnel_quantizer::calibration::{Accumulator, Batch, Statistics};
use fresnel_quantizer::device::{Device, read};
use fresnel_quantizer::linear_algebra::CholeskyInverse;
use fresnel_runtime::Error;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[derive(Parser)]
struct Arguments {
    /// Whose layers
    #[arg(long, value_enum, default_value_t = Model::Tiny)]
    model: Model,
    /// Number of levels
    #[arg(long, default_value_t = 4)]
    levels: u32,
    /// Times that every measurement is taken; the fastest counts
    #[arg(long, default_value_t = 3)]
    repetitions: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Model {
    /// DeiT-Tiny: width 192
    Tiny,
    /// DeiT-B: width 768
    Base,
    /// DeiT-III-L: width 1024
    Large,
}

impl Model {
    fn width_and_depth(self) -> (usize, usize) {
        match self {
            Self::Tiny => (192, 12),
            Self::Base => (768, 12),
            Self::Large => (1024, 24),
        }
    }
}

/// The fastest times of one layer, in seconds.
struct Times {
    matmul: f64,
    beacon: f64,
    gptq: f64,
    factorization: f64,
    /// Sweeps of Beacon that ran.
    sweeps: usize,
}

fn main() -> Result<(), Error> {
    let arguments = Arguments::parse();
    let (width, depth) = arguments.model.width_and_depth();
    let device = Device::cpu();
    println!(
        "layer    N     C     matmul GF/s  beacon GF/s      share  gptq GF/s  factorization GF/s"
    );
    let mut total = 0.0;
    for (name, inputs, channels) in [
        ("qkv ", width, 3 * width),
        ("proj", width, width),
        ("fc1 ", width, 4 * width),
        ("fc2 ", 4 * width, width),
    ] {
        let times = measure(&device, &arguments, inputs, channels)?;
        let pass = 2.0 * (inputs * inputs * channels) as f64 / 1e9;
        let matmul = pass / times.matmul;
        let beacon = (1.5 + 2.0 * times.sweeps as f64) * pass / times.beacon;
        println!(
            "{name} {inputs:>5} {channels:>5}  {matmul:>11.1}  {beacon:>11.1}  {:>8.0} %  {:>9.1}  {:>18.1}",
            100.0 * beacon / matmul,
            0.5 * pass / times.gptq,
            2.0 / 3.0 * (inputs as f64).powi(3) / 1e9 / times.factorization,
        );
        println!(
            "         {} sweeps, seconds: matmul {:.4}, beacon {:.3}, gptq {:.3}, factorization {:.3}",
            times.sweeps, times.matmul, times.beacon, times.gptq, times.factorization
        );
        total += times.beacon * depth as f64;
    }
    println!("Beacon on all {depth} blocks: {total:.1} s");
    Ok(())
}

fn measure(
    device: &Device,
    arguments: &Arguments,
    inputs: usize,
    channels: usize,
) -> Result<Times, Error> {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut numbers =
        |count: usize| -> Vec<f32> { (0..count).map(|_| random.random_range(-1.0..1.0)).collect() };
    let rows = inputs.min(1024) * 2;
    let weights = numbers(inputs * channels);
    let mut sums = Accumulator::new(inputs, false);
    let batch = Batch {
        inputs: device.matrix(numbers(rows * inputs), rows, inputs),
        target: None,
        weights: None,
    };
    sums.add(&batch.products()?);
    let statistics: Statistics = sums.finish().damped(0.01);
    let order: Vec<usize> = (0..inputs).collect();
    let left = device.matrix(statistics.gram(&order), inputs, inputs);
    let right = device.matrix(weights.clone(), inputs, channels);
    let alphabet = Alphabet::asymmetric(&weights, channels, arguments.levels);
    let solver = Solver::new(device, &statistics, RoundingOrder::Natural, 0.0)?;
    let options = beacon::Options::default();

    let mut times = Times {
        matmul: f64::INFINITY,
        beacon: f64::INFINITY,
        gptq: f64::INFINITY,
        factorization: f64::INFINITY,
        sweeps: 0,
    };
    for _ in 0..arguments.repetitions.max(1) {
        fastest(&mut times.matmul, || read(left.clone().matmul(right.clone())).map(drop))?;
        let mut phases = 0;
        fastest(&mut times.beacon, || {
            let solution =
                beacon::solve(device, &statistics, &weights, arguments.levels, &options)?;
            phases = solution.phases.len();
            Ok(())
        })?;
        times.sweeps = phases - 1;
        fastest(&mut times.gptq, || solver.codes(&weights, &alphabet).map(drop))?;
        fastest(&mut times.factorization, || {
            CholeskyInverse::new(statistics.gram_matrix(), inputs).map(drop)
        })?;
    }
    Ok(times)
}

/// Lowers `least` to the time that `work` takes, where that is less.
fn fastest(least: &mut f64, work: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
    let started = Instant::now();
    work()?;
    *least = least.min(started.elapsed().as_secs_f64());
    Ok(())
}
