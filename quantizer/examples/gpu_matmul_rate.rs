//! Rates of fresnel's products on a GPU beside burn's own, in turns.
//!
//! ```text
//! cargo run --release -p fresnel-quantizer --example gpu_matmul_rate -- --device gpu
//! ```
//!
//! At the four shapes of a transformer block: every kernel that the device offers, for weights of every width, and burn's
//! products in f32, in f16 and with weights quantized in blocks of 32, on the same adapter. A turn is a few products
//! submitted together and waited for; in each round everyone has one. The table, in Markdown, goes to standard
//! output.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use burn::tensor::quantization::{QuantScheme, QuantStore, QuantValue, ScaleDtype};
use burn::tensor::{DType, Tensor};
use clap::Parser;
use fresnel_kernels::gpu::shader::{Element, TileSize};
use fresnel_kernels::gpu::{
    Epilogue, Gpu, GpuError, Matmul, MatmulDescriptor, Matrix, Operand, Placement, Plan, Quantized,
    Recorder, RowOperation, Rows, Selector, Variant,
};
use fresnel_kernels::{Width, pack};
use fresnel_quantizer::device::Device;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[derive(Parser)]
struct Arguments {
    /// The adapter, as `fresnel devices` names it; burn takes wgpu's first one
    #[arg(long, default_value = "gpu")]
    device: String,
    /// Rows of activations: 197 tokens an image
    #[arg(long, default_value_t = 64 * 197)]
    rows: usize,
    /// Channels of the model
    #[arg(long, default_value_t = 768)]
    width: usize,
    /// Products submitted together
    #[arg(long, default_value_t = 10)]
    products: usize,
    /// Turns of everyone; the median counts
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// No progress on standard error
    #[arg(long)]
    quiet: bool,
}

type Failure = Box<dyn std::error::Error>;

/// Submits a few products and waits for them.
type Turn = Box<dyn FnMut() -> Result<(), Failure>>;

struct Contender {
    name: String,
    turn: Turn,
    seconds: Vec<f64>,
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let selector = match arguments.device.strip_prefix("gpu") {
        Some(rest) => rest.trim_start_matches(':'),
        None => &arguments.device,
    };
    let selector: Selector = if selector.is_empty() { "auto" } else { selector }.parse()?;
    let gpu = Gpu::open(&selector)?;
    let burn = Device::gpu(None)?;
    println!("{} rows, {}; burn on {burn}\n", arguments.rows, gpu.summary());
    println!("| N x K | product | ms | TFLOP/s |\n|---|---|---:|---:|");
    let width = arguments.width;
    for (n, k) in [(3 * width, width), (width, width), (4 * width, width), (width, 4 * width)] {
        let mut contenders = of_fresnel(&gpu, &arguments, n, k)?;
        contenders.extend(of_burn(&burn, &arguments, n, k));
        if !arguments.quiet {
            eprintln!("{n} x {k}: {} contenders", contenders.len());
        }
        // Compiles, and lets burn choose its kernels, some of which do not run on every device.
        contenders.retain_mut(|contender| match (contender.turn)() {
            Ok(()) => true,
            Err(reason) => {
                println!("| {n} x {k} | {}: {reason} | | |", contender.name);
                false
            }
        });
        for _ in 0..arguments.rounds {
            for contender in &mut contenders {
                let start = Instant::now();
                (contender.turn)()?;
                contender.seconds.push(start.elapsed().as_secs_f64() / arguments.products as f64);
            }
        }
        let operations = 2.0 * arguments.rows as f64 * n as f64 * k as f64;
        for contender in &mut contenders {
            contender.seconds.sort_by(f64::total_cmp);
            let median = contender.seconds[contender.seconds.len() / 2];
            let rate = operations / median / 1e12;
            println!("| {n} x {k} | {} | {:.3} | {rate:.2} |", contender.name, median * 1e3);
        }
    }
    Ok(())
}

fn random(length: usize) -> Vec<f32> {
    let mut generator = ChaCha8Rng::seed_from_u64(0);
    (0..length).map(|_| generator.random_range(-1.0..1.0)).collect()
}

fn of_fresnel(
    gpu: &Gpu,
    arguments: &Arguments,
    n: usize,
    k: usize,
) -> Result<Vec<Contender>, Failure> {
    let (rows, products) = (arguments.rows, arguments.products);
    let values = random(rows * k);
    let single = Rows::of(gpu, "activations", Element::F32, &values, k)?;
    let half = Rows::of(gpu, "activations", Element::F16, &values, k)?;
    let quantized = Quantized::new(gpu, rows, k)?;
    let mut recorder = Recorder::new(gpu, "quantising")?;
    RowOperation::quantize(gpu, &single, &quantized)?.record(&mut recorder, rows)?;
    recorder.submit()?.wait()?;

    let mut contenders = Vec::new();
    for width in Width::ALL {
        let mut generator = ChaCha8Rng::seed_from_u64(1);
        let levels = width.levels();
        let codes: Vec<u8> = (0..n * k).map(|_| generator.random_range(0..levels) as u8).collect();
        let packed = pack::pack(width, n, k, &codes)?;
        let weights =
            Matrix::from_codes(gpu, width, (n, k), &packed, &vec![0.01; n], &vec![0.0; n])?;
        for variant in Variant::offered(gpu.capabilities()) {
            let activations = match variant {
                Variant::Cooperative => Operand::Rows(&half),
                Variant::Integer => Operand::Quantized(&quantized),
                Variant::Tiled => Operand::Rows(&single),
            };
            for size in TileSize::ALL {
                let output = Rows::new(gpu, "products", Element::F16, rows, n)?;
                let plan = Plan { variant, size };
                let descriptor = MatmulDescriptor {
                    activations,
                    weights: &weights,
                    epilogue: Epilogue::default(),
                    output: &output,
                    placement: Placement::IDENTITY,
                };
                let product = match Matmul::new(gpu, plan, &descriptor) {
                    // A tile that the device has no room for.
                    Err(GpuError::Limit { .. }) => continue,
                    product => product?,
                };
                let gpu = gpu.clone();
                let turn = move || {
                    let mut recorder = Recorder::new(&gpu, "products")?;
                    for _ in 0..products {
                        product.record(&mut recorder, rows)?;
                    }
                    Ok(recorder.submit()?.wait()?)
                };
                let name = format!("fresnel {} bit, {plan}", width.label());
                contenders.push(Contender { name, turn: Box::new(turn), seconds: Vec::new() });
            }
        }
    }
    Ok(contenders)
}

fn of_burn(device: &Device, arguments: &Arguments, n: usize, k: usize) -> Vec<Contender> {
    let rows = arguments.rows;
    let activations = device.matrix(random(rows * k), rows, k);
    let weights = device.matrix(random(n * k), k, n);
    let blocks = |value| {
        let scheme = QuantScheme::default().with_value(value).with_store(QuantStore::PackedU32(0));
        weights.clone().quantize_dynamic(&scheme.per_block([32], ScaleDtype::F32))
    };
    let pairs = [
        ("f32", activations.clone(), weights.clone()),
        ("f16", activations.clone().cast(DType::F16), weights.clone().cast(DType::F16)),
        ("f32 x 4 bit in blocks of 32", activations.clone(), blocks(QuantValue::Q4S)),
        ("f32 x 2 bit in blocks of 32", activations.clone(), blocks(QuantValue::Q2S)),
    ];
    let contender = |(name, activations, weights): (&str, Tensor<2>, Tensor<2>)| {
        let (burn, products) = (device.burn().clone(), arguments.products);
        let turn = move || {
            // burn panics where a device lacks what its kernel asks for.
            catch_unwind(AssertUnwindSafe(|| {
                for _ in 0..products {
                    drop(activations.clone().matmul(weights.clone()));
                }
            }))
            .map_err(|_| "burn has no kernel for this device")?;
            Ok(burn.sync()?)
        };
        Contender { name: format!("burn {name}"), turn: Box::new(turn), seconds: Vec::new() }
    };
    pairs.map(contender).into()
}
