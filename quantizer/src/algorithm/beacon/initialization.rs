//! Greedy path following (section 3): coordinate by coordinate, each new code is the level that
//! turns `v = X~q` most nearly into the direction of the target *so far*, `y_t = sum_{j<=t} w_j L_j`.
//!
//! The partial target matters: scored against the whole target the path ends in a much worse
//! optimum, which the sweeps never leave. In Gram form, with `pi` the visiting order,
//! `b0 = tril(M_pi) W_pi` holds the inner products with the partial target, and the target's own
//! growth adds `w_t e_t` to `s`, where `e = M'q` over the coordinates decided so far (`e = h` when
//! `M = G`).

use burn::tensor::Tensor;
use fresnel_runtime::Error;

use super::objective::Problem;
use crate::algorithm::block::{self, InitializationBlock};
use crate::device::{Device, read};

/// Builds the initial codes; N x C in the problem's visiting order.
///
/// `reference` is the scale per channel that breaks the first coordinate's tie; without it small
/// levels are preferred.
///
/// # Errors
/// Fails when the device fails.
pub fn run(
    device: &Device,
    problem: &Problem,
    reference: Option<Vec<f32>>,
) -> Result<Vec<f32>, Error> {
    let inputs = problem.inputs();
    let channels = problem.alphabet.channels();
    let reference = reference.map(|scale| device.matrix(scale, 1, channels));
    let partial_target = problem.cross_or_gram().clone().tril(0).matmul(problem.weights.clone());

    let mut q = Tensor::<2>::zeros([inputs, channels], device.burn());
    let mut s = Tensor::<2>::zeros([1, channels], device.burn());
    let mut n = s.clone();
    for (start, end) in block::ranges(inputs) {
        let length = end - start;
        let carried = |matrix: &Tensor<2>, transposed: bool| {
            if start == 0 {
                return Tensor::<2>::zeros([length, channels], device.burn());
            }
            let rows = if transposed {
                matrix.clone().slice([0..start, start..end]).transpose()
            } else {
                matrix.clone().slice([start..end, 0..start])
            };
            rows.matmul(q.clone().narrow(0, 0, start))
        };
        let diagonal = |matrix: &Tensor<2>| matrix.clone().slice([start..end, start..end]);
        let decided = block::initialize(
            device,
            InitializationBlock {
                gram: diagonal(&problem.gram),
                cross: problem.cross.as_ref().map(diagonal),
                h: carried(&problem.gram, false),
                // <v_{t-1}, L_t> reads column t of M.
                e: problem.cross.as_ref().map(|cross| carried(cross, true)),
                weights: problem.weights.clone().narrow(0, start, length),
                partial_target: partial_target.clone().narrow(0, start, length),
                zero: problem.zero.clone(),
                reference: reference.clone(),
                s,
                n,
                levels: problem.alphabet.levels,
            },
        )?;
        (s, n) = (decided.s, decided.n);
        let block_q = decided.codes - problem.zero.clone();
        q = q.slice_assign([start..end, 0..channels], block_q);
    }
    // Exact: zero points are halves of whole numbers.
    read(q + problem.zero.clone())
}
