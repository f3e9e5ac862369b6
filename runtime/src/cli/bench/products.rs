//! The kernels of one shape, run in turns with the peak loops of their instructions.

use std::rc::Rc;
use std::time::Duration;

use fresnel_kernels::{
    Activations, AlignedVec, Arithmetic, Epilogue, Isa, Layout, Matrix, MatrixError, Peak, Pool,
    Rows, Width, matmul, pack,
};
use half::f16;
use serde_json::{Value, json};

use super::statistics::{Samples, milliseconds, noise};
use crate::cli::{Failure, Output};
use crate::session::Compute;

/// The peak rate is measured this many times before each run of a kernel, for this long. The highest counts: what
/// interrupts the loop is not the instruction.
const PEAK_RUNS: usize = 4;
const PEAK_TIME: Duration = Duration::from_micros(500);
/// A kernel that took this long in all is not run again, once it was timed twice.
const KERNEL_MILLISECONDS: f64 = 500.0;

/// Input and output features of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) k: usize,
    pub(super) n: usize,
}

/// All kernels of one instruction set and shape, and their operands.
pub(super) struct Products {
    m: usize,
    shape: Shape,
    /// Packed once for each arithmetic.
    activations: Vec<Activations>,
    out: AlignedVec<f32>,
    kernels: Vec<Kernel>,
}

/// One kernel: a matrix of some width in some arithmetic.
struct Kernel {
    matrix: Rc<Matrix>,
    arithmetic: Arithmetic,
    /// Index of those packed for the arithmetic.
    activations: usize,
    peak: Option<Peak>,
    milliseconds: Samples,
    /// The rate of the peak loop before each run, in 10^9 operations per second.
    peaks: Samples,
    /// The rate of each run over that of the peak loop before it.
    shares: Samples,
}

impl Products {
    /// The kernels of `isa` for `m` rows, with every width in every arithmetic.
    ///
    /// # Errors
    /// When a matrix cannot be made.
    pub(super) fn new(
        isa: Isa,
        pool: &Pool,
        m: usize,
        shape: Shape,
    ) -> Result<Products, MatrixError> {
        let values: Vec<f32> = noise().take(m * shape.k).collect();
        let matrices: Vec<Rc<Matrix>> = matrices(isa, shape)?.into_iter().map(Rc::new).collect();
        let (mut activations, mut kernels) = (Vec::new(), Vec::new());
        for arithmetic in Arithmetic::ALL.into_iter().filter(|&one| isa.supports(one)) {
            for matrix in matrices.iter().filter(|matrix| matrix.supports(arithmetic)) {
                kernels.push(Kernel {
                    matrix: Rc::clone(matrix),
                    arithmetic,
                    activations: activations.len(),
                    peak: Peak::new(isa, arithmetic),
                    milliseconds: Samples::default(),
                    peaks: Samples::default(),
                    shares: Samples::default(),
                });
            }
            let mut packed = Activations::new();
            packed.pack(
                pool,
                arithmetic,
                &Rows::Plain { values: &values, columns: shape.k, layout: Layout::Rows },
            );
            activations.push(packed);
        }
        let mut out = AlignedVec::default();
        out.grow(m * shape.n)
            .map_err(|_| MatrixError::Memory { out_features: shape.n, in_features: shape.k })?;
        Ok(Products { m, shape, activations, out, kernels })
    }

    /// Arithmetic operations of one product.
    fn operations(&self) -> f64 {
        2.0 * self.m as f64 * self.shape.k as f64 * self.shape.n as f64
    }

    /// Runs every kernel in turn, `iterations` times, after a first time that is not counted.
    pub(super) fn measure(&mut self, pool: &Pool, iterations: usize) {
        let operations = self.operations();
        let Products { activations, out, kernels, shape, .. } = self;
        // As in a model.
        let epilogue = Epilogue { layout: Layout::of(shape.n), ..Epilogue::default() };
        for round in 0..=iterations {
            for kernel in kernels.iter_mut() {
                let timed = &kernel.milliseconds;
                if timed.count() >= 2 && timed.sum() > KERNEL_MILLISECONDS {
                    continue;
                }
                let peak = kernel.peak.map(|peak| highest_rate(&peak, pool));
                let a = &activations[kernel.activations];
                let (milliseconds, ()) =
                    milliseconds(|| matmul(pool, a, &kernel.matrix, &epilogue, out));
                if round > 0 {
                    kernel.milliseconds.push(milliseconds);
                    if let Some(peak) = peak {
                        kernel.peaks.push(peak * 1e-9);
                        kernel.shares.push(operations / (milliseconds * 1e-3) / peak);
                    }
                }
            }
        }
    }

    /// The head of the table that [`Products::write`] continues.
    pub(super) fn header() -> String {
        format!(
            "{:>13} {:>27} {:>9} {:>9} {:>8} {:>8} {:>7} {:>7}  peak of",
            "K x N", "kernel", "ms", "least ms", "GOP/s", "peak", "share", "best"
        )
    }

    /// One line for each kernel.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub(super) fn write(&self, output: &Output, pool: &Pool) -> Result<(), Failure> {
        self.kernels.iter().try_for_each(|kernel| match output.json() {
            true => output.line(self.object(kernel, pool)),
            false => output.line(self.row(kernel)),
        })
    }

    /// The rate of a kernel by its median time, in 10^9 operations per second.
    fn rate(&self, kernel: &Kernel) -> f64 {
        self.operations() / kernel.milliseconds.median() * 1e-6
    }

    /// The rate of the shortest run over the highest peak rate.
    fn best_share(&self, kernel: &Kernel) -> f64 {
        self.operations() / kernel.milliseconds.least() * 1e-6 / kernel.peaks.greatest()
    }

    fn object(&self, kernel: &Kernel, pool: &Pool) -> Value {
        // Not a number, which JSON has as null, where there is no peak loop.
        json!({
            "kind": "matmul",
            "isa": kernel.matrix.isa().name(),
            "kernel": kernel.matrix.kernel_name(kernel.arithmetic),
            "arithmetic": arithmetic_name(kernel.arithmetic),
            "threads": pool.threads(),
            "m": self.m,
            "k": self.shape.k,
            "n": self.shape.n,
            "resident_bytes": kernel.matrix.resident_bytes(),
            "runs": kernel.milliseconds.count(),
            "median_ms": kernel.milliseconds.median(),
            "min_ms": kernel.milliseconds.least(),
            "gops": self.rate(kernel),
            "peak_instruction": kernel.peak.map(|peak| peak.instruction()),
            "peak_gops": kernel.peaks.median(),
            "peak_max_gops": kernel.peaks.greatest(),
            "share_of_peak": kernel.shares.median(),
            "best_share_of_peak": self.best_share(kernel),
        })
    }

    fn row(&self, kernel: &Kernel) -> String {
        let peak = match kernel.peak {
            Some(peak) => format!(
                "{:8.1} {:5.1} % {:5.1} %  {}",
                kernel.peaks.median(),
                kernel.shares.median() * 100.0,
                self.best_share(kernel) * 100.0,
                peak.instruction()
            ),
            None => format!("{:>8} {:>7} {:>7}", "-", "-", "-"),
        };
        format!(
            "{:>13} {:>27} {:9.3} {:9.3} {:8.1} {peak}",
            format!("{} x {}", self.shape.k, self.shape.n),
            kernel.matrix.kernel_name(kernel.arithmetic),
            kernel.milliseconds.median(),
            kernel.milliseconds.least(),
            self.rate(kernel),
        )
    }
}

fn highest_rate(peak: &Peak, pool: &Pool) -> f64 {
    (0..PEAK_RUNS).map(|_| peak.operations_per_second(pool, PEAK_TIME)).fold(0.0, f64::max)
}

/// As `--compute` has it.
pub(super) fn arithmetic_name(arithmetic: Arithmetic) -> &'static str {
    Compute::from(arithmetic).name()
}

/// A matrix of each width, with 16-bit and with 32-bit floats.
fn matrices(isa: Isa, Shape { k, n }: Shape) -> Result<Vec<Matrix>, MatrixError> {
    let weights: Vec<f32> = noise().take(n * k).collect();
    let (scale, offset) = (vec![0.01; n], vec![-0.01; n]);
    let mut matrices = Vec::new();
    for width in Width::ALL {
        let levels = width.levels() as f32;
        let code = |weight: &f32| ((weight + 1.0) * 0.5 * levels).min(levels - 1.0) as u8;
        let codes: Vec<u8> = weights.iter().map(code).collect();
        let packed = pack::pack(width, n, k, &codes)?;
        matrices.push(Matrix::from_codes(isa, width, n, k, &packed, &scale, &offset)?);
    }
    let halves: Vec<f16> = weights.iter().map(|&weight| f16::from_f32(weight)).collect();
    matrices.push(Matrix::from_f16(isa, n, k, &halves)?);
    matrices.push(Matrix::from_f32(isa, n, k, &weights)?);
    Ok(matrices)
}
