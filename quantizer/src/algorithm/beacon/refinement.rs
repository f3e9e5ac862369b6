//! Cyclic sweeps (section 3): each coordinate in turn takes the level with the largest cosine to
//! the full target, all others held fixed. The objective never falls, so every sweep ends in a
//! layer error no larger than it began with; a sweep without a change ends the search.

use burn::tensor::Tensor;
use fresnel_runtime::Error;

use super::objective::{Problem, State};
use crate::algorithm::block::{self, RefinementBlock};
use crate::device::{Device, read};

/// A vector counts as zero below this share of the largest column's energy.
const ZERO_ENERGY: f64 = 1e-14;

/// Runs one sweep from a freshly scored state; returns the codes and whether any changed.
///
/// # Errors
/// Fails when the device fails.
pub fn sweep(device: &Device, problem: &Problem, state: State) -> Result<(Tensor<2>, bool), Error> {
    let inputs = problem.inputs();
    let channels = problem.alphabet.channels();
    let State { codes, h, target, mut s, mut n } = state;
    // What this sweep has changed so far; one product per block carries it to the rows ahead.
    let mut change = Tensor::<2>::zeros([inputs, channels], device.burn());
    for (start, end) in block::ranges(inputs) {
        let length = end - start;
        let rows = |matrix: &Tensor<2>| matrix.clone().narrow(0, start, length);
        let mut block_h = rows(&h);
        if start > 0 {
            block_h = block_h
                + problem
                    .gram
                    .clone()
                    .slice([start..end, 0..start])
                    .matmul(change.clone().narrow(0, 0, start));
        }
        let before = rows(&codes);
        let decided = block::refine(
            device,
            RefinementBlock {
                gram: problem.gram.clone().slice([start..end, start..end]),
                h: block_h,
                target: rows(&target),
                codes: before.clone(),
                s,
                n,
                levels: problem.alphabet.levels,
                zero_energy: (ZERO_ENERGY * problem.largest_energy) as f32,
            },
        )?;
        (s, n) = (decided.s, decided.n);
        change = change.slice_assign([start..end, 0..channels], decided.codes - before);
    }
    let moved = read(change.clone().abs().sum().unsqueeze::<2>())?;
    let changed = moved.iter().any(|&sum| sum > 0.0);
    Ok((codes + change, changed))
}
