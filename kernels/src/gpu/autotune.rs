//! Measuring which kernel computes a product fastest.
//!
//! How a tile fits a shape depends on more than what a device tells of itself, so a product that is computed often is worth a few
//! trials. They are timed by the device's own clock where programs can read it, and end after a time that is set beforehand. What
//! was measured stays with the device ([`Gpu::timings`]): where the time was too short, the next one goes on.

use std::time::{Duration, Instant};

use super::plan::Plan;
use super::shader::MatmulShader;
use super::{Capabilities, Gpu, GpuError, Matmul, MatmulDescriptor, Recorder};
use crate::Arithmetic;

/// `1` has plans measured on software renderers as well, `0` on no device.
pub const AUTOTUNE_VARIABLE: &str = "FRESNEL_GPU_AUTOTUNE";

/// Most products that are timed together, so that what a submission costs hardly counts, and the time that they should take.
const REPETITIONS: u32 = 8;
const ROUND: Duration = Duration::from_millis(2);

/// Times that each candidate is timed; the least counts.
const ROUNDS: usize = 3;

/// A candidate that takes so many times as long as the best is not timed again.
const HOPELESS: f64 = 1.5;

/// Products that have their plan in common.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Product {
    arithmetic: Arithmetic,
    shader: MatmulShader,
    /// Output and input features.
    shape: [usize; 2],
    /// Rows, up to the next power of two.
    rows: usize,
}

/// What was measured of a product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    product: Product,
    /// The kernel.
    pub plan: Plan,
    /// Seconds for a row.
    pub row_seconds: f64,
}

impl Timing {
    /// Output and input features of the product.
    pub fn shape(&self) -> [usize; 2] {
        self.product.shape
    }

    /// Its arithmetic.
    pub fn arithmetic(&self) -> Arithmetic {
        self.product.arithmetic
    }
}

/// Chooses plans by timing them, within a time for all of them.
#[derive(Debug)]
pub struct Autotuner {
    gpu: Gpu,
    budget: Duration,
    /// Time that may still be spent, and how much of it on the next product.
    left: Duration,
    credit: Duration,
    settled: Vec<(Product, Plan)>,
    untimed: usize,
}

impl Autotuner {
    /// A tuner that measures for `budget` in all. The last trial may end later: how long a driver compiles is not known before.
    pub fn new(gpu: &Gpu, budget: Duration) -> Autotuner {
        Autotuner {
            gpu: gpu.clone(),
            budget,
            left: budget,
            credit: Duration::ZERO,
            settled: Vec::new(),
            untimed: 0,
        }
    }

    /// Whether plans are measured on such a device if nobody says otherwise: what [`AUTOTUNE_VARIABLE`] says, or else where it is no
    /// software renderer, on which compiling takes longer than anything gained.
    pub fn is_worthwhile(capabilities: &Capabilities) -> bool {
        match std::env::var(AUTOTUNE_VARIABLE).as_deref() {
            Ok("") | Err(_) => !capabilities.is_software(),
            Ok(value) => value != "0",
        }
    }

    /// The fastest of the plans by which the device can compute a product of `rows` rows, as far as they are measured, or else
    /// [`Plan::choose`]'s. Measured on the product's own buffers, whose output is overwritten; on this tuner every later product of
    /// the same kind and shape has the same plan.
    ///
    /// `share` is the part of the time that is meant for this product; what earlier ones left over of theirs comes to it.
    ///
    /// # Errors
    /// As [`Matmul::new`] and [`Matmul::record`].
    pub fn plan(
        &mut self,
        arithmetic: Arithmetic,
        descriptor: &MatmulDescriptor<'_>,
        rows: usize,
        share: f64,
    ) -> Result<Plan, GpuError> {
        let shape = [descriptor.weights.out_features(), descriptor.weights.in_features()];
        let fallback = Plan::choose(self.gpu.capabilities(), arithmetic, [rows, shape[0]]);
        let shader = descriptor.numbers();
        let product = Product { arithmetic, shader, shape, rows: rows.next_power_of_two() };
        if let Some((_, plan)) = self.settled.iter().find(|(settled, _)| *settled == product) {
            return Ok(*plan);
        }
        self.credit = (self.credit + self.budget.mul_f64(share.clamp(0.0, 1.0))).min(self.left);
        let plan = self.measure(&product, fallback, descriptor, rows)?;
        self.settled.push((product, plan));
        Ok(plan)
    }

    /// Time that was not spent.
    pub fn left(&self) -> Duration {
        self.left
    }

    /// Plans that there was no time for.
    pub fn untimed(&self) -> usize {
        self.untimed
    }

    fn measure(
        &mut self,
        product: &Product,
        fallback: Plan,
        descriptor: &MatmulDescriptor<'_>,
        rows: usize,
    ) -> Result<Plan, GpuError> {
        let gpu = self.gpu.clone();
        // Held meanwhile: two that measure at a time would disturb each other.
        let mut timings = gpu.timings_lock();
        let known = |timings: &[Timing], plan| {
            timings.iter().any(|timing| timing.product == *product && timing.plan == plan)
        };
        // The fallback first: it is a bound for the others.
        let others = Plan::candidates(gpu.capabilities(), product.arithmetic);
        let others = others.into_iter().filter(|plan| *plan != fallback);
        let mut last = Duration::ZERO;
        for plan in [fallback].into_iter().chain(others) {
            if known(&timings, plan) {
                continue;
            }
            // The next will take about as long as the last.
            if rows == 0 || self.credit <= last {
                self.untimed += 1;
                continue;
            }
            let start = Instant::now();
            let best = fastest(&timings, product).map_or(f64::INFINITY, |best| best.row_seconds);
            let time = least_time(&gpu, plan, descriptor, rows, best * rows as f64)?;
            let row_seconds = time.as_secs_f64() / rows as f64;
            timings.push(Timing { product: *product, plan, row_seconds });
            last = start.elapsed();
            self.left = self.left.saturating_sub(last);
            self.credit = self.credit.saturating_sub(last);
        }
        Ok(fastest(&timings, product).map_or(fallback, |best| best.plan))
    }
}

impl Gpu {
    /// What [`Autotuner`]s have measured on this device so far.
    pub fn timings(&self) -> Vec<Timing> {
        self.timings_lock().clone()
    }
}

fn fastest<'a>(timings: &'a [Timing], product: &Product) -> Option<&'a Timing> {
    let timings = timings.iter().filter(|timing| timing.product == *product);
    timings.min_by(|a, b| a.row_seconds.total_cmp(&b.row_seconds))
}

/// The least time of a product of several, fewer where it is far above `best` seconds.
fn least_time(
    gpu: &Gpu,
    plan: Plan,
    descriptor: &MatmulDescriptor<'_>,
    rows: usize,
    best: f64,
) -> Result<Duration, GpuError> {
    let matmul = Matmul::new(gpu, plan, descriptor)?;
    // The driver compiles at the first use; only a device's own clock leaves that out.
    let first = timed(gpu, &matmul, rows, 1)?;
    let repetitions = ROUND.div_duration_f64(first.max(Duration::from_nanos(1)));
    let repetitions = (repetitions as u32).clamp(1, REPETITIONS);
    let mut least = Duration::MAX;
    for _ in 0..ROUNDS {
        least = least.min(timed(gpu, &matmul, rows, repetitions)?);
        if least.as_secs_f64() > HOPELESS * best {
            break;
        }
    }
    Ok(least)
}

/// Time of a product, of so many one after the other.
fn timed(gpu: &Gpu, matmul: &Matmul, rows: usize, repetitions: u32) -> Result<Duration, GpuError> {
    let mut recorder = Recorder::new(gpu, "measuring")?;
    let by_device = gpu.capabilities().timestamps;
    if by_device {
        recorder.start_timer()?;
    }
    for _ in 0..repetitions {
        matmul.record(&mut recorder, rows)?;
    }
    let elapsed = if by_device { Some(recorder.stop_timer()?) } else { None };
    let start = Instant::now();
    recorder.submit()?.wait()?;
    let waited = start.elapsed();
    let elapsed = elapsed.map(|elapsed| elapsed.wait()).transpose()?.flatten();
    Ok(elapsed.unwrap_or(waited) / repetitions)
}
