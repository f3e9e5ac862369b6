//! Measuring which kernel computes a product fastest.
//!
//! How a tile fits a shape depends on more than what a device tells of itself, so a product that is computed often is worth a few
//! trials. A result is plain data: a [`Plan`] goes into text and back.

use std::time::{Duration, Instant};

use super::plan::{Plan, Variant};
use super::shader::TileSize;
use super::{Capabilities, Gpu, GpuError, Matmul, MatmulDescriptor, Recorder};

/// Trials of a product end after this time.
const BUDGET: Duration = Duration::from_millis(200);

/// Products timed together, so that what a submission costs hardly counts.
const REPETITIONS: usize = 8;

/// Times that each candidate is timed; the least counts.
const ROUNDS: usize = 3;

impl Plan {
    /// The fastest of the plans that a device has for a product of `rows` rows, measured on its own buffers, whose output is
    /// overwritten. The variant stays that of `fallback`, which is also the answer where nothing could be measured within a fifth of
    /// a second (a device that is slower than that has only its fallback).
    ///
    /// # Errors
    /// As [`Matmul::new`] and [`Matmul::record`].
    pub fn measured(
        gpu: &Gpu,
        fallback: Plan,
        descriptor: &MatmulDescriptor<'_>,
        rows: usize,
    ) -> Result<Plan, GpuError> {
        let start = Instant::now();
        let mut best: Option<(Duration, Plan)> = None;
        // The fallback first: it has been compiled, and is a bound for the others.
        let others = Plan::candidates(fallback.variant, gpu.capabilities());
        for plan in
            [fallback].into_iter().chain(others.into_iter().filter(|plan| *plan != fallback))
        {
            if start.elapsed() > BUDGET {
                break;
            }
            let matmul = Matmul::new(gpu, plan, descriptor)?;
            // The driver compiles at the first use.
            timed(gpu, &matmul, rows, 1)?;
            for _ in 0..ROUNDS {
                let time = timed(gpu, &matmul, rows, REPETITIONS)?;
                if best.is_none_or(|(least, _)| time < least) {
                    best = Some((time, plan));
                }
                if start.elapsed() > BUDGET {
                    break;
                }
            }
        }
        Ok(best.map_or(fallback, |(_, plan)| plan))
    }

    /// The plans of a variant that a device can run.
    fn candidates(variant: Variant, capabilities: &Capabilities) -> Vec<Plan> {
        let sizes = TileSize::ALL.into_iter();
        sizes
            .map(|size| Plan { variant, size })
            .filter(|plan| plan.check(capabilities).is_ok())
            .collect()
    }
}

/// Time of some products, one after the other.
fn timed(
    gpu: &Gpu,
    matmul: &Matmul,
    rows: usize,
    repetitions: usize,
) -> Result<Duration, GpuError> {
    let mut recorder = Recorder::new(gpu, "measuring")?;
    for _ in 0..repetitions {
        matmul.record(&mut recorder, rows)?;
    }
    let start = Instant::now();
    recorder.submit()?.wait()?;
    Ok(start.elapsed())
}
