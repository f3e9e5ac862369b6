//! Which arithmetic is fastest on this machine: a timing of the model's first block.
//!
//! Blocks have equal shapes, so one stands for all of them, at a fraction of a forward pass's cost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fresnel_kernels::Arithmetic;

use super::cpu::Executor;
use crate::error::Error;

/// Timed runs of each arithmetic, alternating; the fastest of each counts.
const ROUNDS: usize = 4;

/// Times float arithmetic and `others` on one image.
///
/// # Errors
/// When the buffers cannot be allocated.
pub(crate) fn fastest(executor: &mut Executor, others: &[Arithmetic]) -> Result<Arithmetic, Error> {
    executor.reserve(1)?;
    let weights = Arc::clone(&executor.weights);
    let mut best: Vec<(Duration, Arithmetic)> =
        [Arithmetic::F32].iter().chain(others).map(|&other| (Duration::MAX, other)).collect();
    // The first round warms up caches and threads and is not counted.
    for round in 0..=ROUNDS {
        for (best, arithmetic) in &mut best {
            executor.fill_stream();
            let start = Instant::now();
            if let Some(block) = weights.blocks.first() {
                executor.block(block, *arithmetic, 1);
            }
            let elapsed = start.elapsed();
            if round > 0 {
                *best = elapsed.min(*best);
            }
        }
    }
    let fastest = best.into_iter().min_by_key(|(elapsed, _)| *elapsed);
    Ok(fastest.map_or(Arithmetic::F32, |(_, arithmetic)| arithmetic))
}
