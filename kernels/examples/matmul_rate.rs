//! Rates of the matmul kernels beside the `gemm` crate, in one run.
//!
//! ```text
//! cargo run --release -p fresnel-kernels --example matmul_rate [-- --threads 1 --rounds 15 --isa avx512vnni --m 197]
//! ```
//!
//! For the four linear layers of a DeiT-B block (197 tokens) every kernel and `gemm` (f32) are timed in turn, round after
//! round, so that other load on the machine meets all of them alike. Time and rate are medians over the rounds; the first
//! ratio is the median of the ratios to `gemm` in the same round, the second that of the shortest times, which other load
//! disturbs least. Packing the activations is not part of a product here.
//!
//! `fresnel-run bench --kernels` times the same products, and the other operations of a block, against the peak rate of the
//! machine's instructions.

use std::error::Error;
use std::time::Instant;

use fresnel_kernels::{
    Activations, Arithmetic, Epilogue, Isa, Layout, Matrix, Pool, Rows, Width, matmul, pack,
};

/// `(K, N)` of qkv, projection, fc1 and fc2.
const LAYERS: [(usize, usize); 4] = [(768, 2304), (768, 768), (768, 3072), (3072, 768)];

struct Options {
    threads: usize,
    rounds: usize,
    isa: Isa,
    m: usize,
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut options = Options { threads: 1, rounds: 15, isa: Isa::from_env()?, m: 197 };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or("every option takes a value")?;
        match name.as_str() {
            "--threads" => options.threads = value.parse()?,
            "--rounds" => options.rounds = value.parse()?,
            "--isa" => options.isa = value.parse()?,
            "--m" => options.m = value.parse()?,
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    Ok(options)
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    let pool = Pool::with_isa(options.threads, options.isa)?;
    println!(
        "M = {}, {} thread(s), {}, median of {} rounds",
        options.m, options.threads, options.isa, options.rounds
    );
    println!(
        "{:>12} {:>28} {:>9} {:>9} {:>9} {:>8} {:>9}",
        "K x N", "kernel", "ms", "least ms", "GFLOP/s", "/ gemm", "of least"
    );
    for (k, n) in LAYERS {
        layer(&pool, &options, k, n)?;
    }
    Ok(())
}

/// Numbers in -1..1.
fn numbers(count: usize) -> Vec<f32> {
    let mut state = 1_u32;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn layer(pool: &Pool, options: &Options, k: usize, n: usize) -> Result<(), Box<dyn Error>> {
    let m = options.m;
    let a = numbers(m * k);
    let weights = numbers(n * k);
    let bias = numbers(n);
    let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
    let mut kernels: Vec<(Matrix, Arithmetic)> = Vec::new();
    for arithmetic in Arithmetic::ALL {
        for width in Width::ALL {
            let codes: Vec<u8> = weights
                .iter()
                .map(|w| ((w + 1.0) * 0.5 * width.levels() as f32) as u8)
                .map(|code| code.min((width.levels() - 1) as u8))
                .collect();
            let packed = pack::pack(width, n, k, &codes)?;
            let (scale, offset) = (vec![0.01; n], vec![-0.01; n]);
            let matrix = Matrix::from_codes(options.isa, width, n, k, &packed, &scale, &offset)?;
            if matrix.supports(arithmetic) {
                kernels.push((matrix, arithmetic));
            }
        }
    }
    kernels.push((Matrix::from_f32(options.isa, n, k, &weights)?, Arithmetic::F32));
    let halves: Vec<half::f16> = weights.iter().map(|&w| half::f16::from_f32(w)).collect();
    kernels.push((Matrix::from_f16(options.isa, n, k, &halves)?, Arithmetic::F32));

    let mut out = vec![0.0; m * n];
    let mut packed = Activations::new();
    let mut times = vec![Vec::new(); kernels.len()];
    let mut gemm_times = Vec::new();
    for round in 0..options.rounds + 2 {
        let gemm_time = seconds(|| gemm(m, n, k, &a, &weights, options.threads, &mut out));
        // Two rounds to warm up.
        if round > 1 {
            gemm_times.push(gemm_time);
        }
        for ((matrix, arithmetic), times) in kernels.iter().zip(&mut times) {
            packed.pack(
                pool,
                *arithmetic,
                &Rows::Plain { values: &a, columns: k, layout: Layout::Rows },
            );
            let time = seconds(|| matmul(pool, &packed, matrix, &epilogue, &mut out));
            if round > 1 {
                times.push(time);
            }
        }
    }
    let print = |name: &str, times: &[f64]| {
        let time = median(times.to_vec());
        let ratios = times.iter().zip(&gemm_times).map(|(time, gemm)| gemm / time);
        println!(
            "{:>12} {name:>28} {:>9.3} {:>9.3} {:>9.1} {:>8.2} {:>9.2}",
            format!("{k} x {n}"),
            time * 1e3,
            least(times) * 1e3,
            2.0 * (m * n * k) as f64 / time * 1e-9,
            median(ratios.collect()),
            least(&gemm_times) / least(times),
        );
    };
    print("gemm f32", &gemm_times);
    for ((matrix, arithmetic), times) in kernels.iter().zip(&times) {
        print(&matrix.kernel_name(*arithmetic), times);
    }
    Ok(())
}

/// `out = a * weights^T` with the `gemm` crate; `weights` is `[n, k]`.
#[allow(unsafe_code)]
fn gemm(m: usize, n: usize, k: usize, a: &[f32], weights: &[f32], threads: usize, out: &mut [f32]) {
    assert_eq!((a.len(), weights.len(), out.len()), (m * k, n * k, m * n));
    let parallelism = match threads {
        1 => gemm::Parallelism::None,
        threads => gemm::Parallelism::Rayon(threads),
    };
    // SAFETY: the strides describe row-major matrices of the lengths just checked.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            false,
            a.as_ptr(),
            1,
            k as isize,
            weights.as_ptr(),
            k as isize,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}
