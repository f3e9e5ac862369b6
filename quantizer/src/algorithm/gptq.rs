//! GPTQ (arXiv 2210.17323): round one coordinate after the other and let those still free make up
//! for the error.
//!
//! With `H^-1 = U'U`, `U` upper triangular in the visiting order, coordinate t is rounded and the
//! coordinates after it move by `-U[t, later] (v_t - c q_t) / U[t, t]`. Blocks as in Beacon: inside
//! a block on the host's cores, between blocks one product on the device.

// A lane is an index into several arrays at once.
#![allow(clippy::needless_range_loop)]

use burn::tensor::Tensor;
use fresnel_runtime::Error;

use super::alphabet::Alphabet;
use super::beacon::ColumnOrder;
use super::beacon::block::ranges;
use super::lanes::{LANES, gather, gather_row, groups, merge};
use crate::calibration::Statistics;
use crate::device::{Device, read};
use crate::linear_algebra::CholeskyInverse;

/// Which order coordinates are rounded in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RoundingOrder {
    /// The layer's own.
    #[default]
    Natural,
    /// By decreasing norm of the inputs ("act-order"): the strong ones while all others can still
    /// make up for them.
    DecreasingNorm,
}

/// A factorized Gram matrix on the device, for any number of passes.
#[derive(Debug)]
pub struct Solver {
    device: Device,
    /// Position to coordinate.
    order: Vec<usize>,
    /// `U`, N x N.
    upper: Tensor<2>,
}

impl Solver {
    /// Factorizes `G` with `damping` times the mean of its diagonal added; inputs that are always
    /// zero count as unit vectors of their own.
    ///
    /// # Errors
    /// Fails when `G` is not positive definite with that damping.
    pub fn new(
        device: &Device,
        statistics: &Statistics,
        order: RoundingOrder,
        damping: f64,
    ) -> Result<Self, Error> {
        let inputs = statistics.inputs();
        let positions = match order {
            RoundingOrder::Natural => (0..inputs).collect(),
            RoundingOrder::DecreasingNorm => ColumnOrder::Norm.orders(statistics).refinement,
        };
        let gram = statistics.gram_matrix();
        let mut matrix: Vec<f64> = positions
            .iter()
            .flat_map(|&row| positions.iter().map(move |&column| gram[row * inputs + column]))
            .collect();
        let diagonal = |matrix: &[f64], j: usize| matrix[j * inputs + j];
        for j in 0..inputs {
            if diagonal(&matrix, j) <= 0.0 {
                matrix[j * inputs + j] = 1.0;
            }
        }
        let mean = (0..inputs).map(|j| diagonal(&matrix, j)).sum::<f64>() / inputs.max(1) as f64;
        (0..inputs).for_each(|j| matrix[j * inputs + j] += damping * mean);
        let upper = CholeskyInverse::new(&matrix, inputs)?.upper();
        let upper = device.matrix(upper, inputs, inputs);
        Ok(Self { device: device.clone(), order: positions, upper })
    }

    /// Codes of `targets` (N x C row-major) on `alphabet`, N x C row-major.
    ///
    /// # Errors
    /// Fails when the device fails.
    pub fn codes(&self, targets: &[f32], alphabet: &Alphabet) -> Result<Vec<u8>, Error> {
        let (inputs, channels) = (self.order.len(), alphabet.channels());
        let permuted = self
            .order
            .iter()
            .flat_map(|&row| targets[row * channels..][..channels].iter().copied())
            .collect();
        let values = self.device.matrix(permuted, inputs, channels);
        let mut errors = Tensor::<2>::zeros([inputs, channels], self.device.burn());
        let mut codes = vec![0_u8; inputs * channels];
        for (start, end) in ranges(inputs) {
            let mut block = values.clone().narrow(0, start, end - start);
            if start > 0 {
                let carried = self.upper.clone().slice([0..start, start..end]).transpose();
                block = block - carried.matmul(errors.clone().narrow(0, 0, start));
            }
            let upper = read(self.upper.clone().slice([start..end, start..end]))?;
            let (rounded, error) = round_block(&read(block)?, &upper, alphabet);
            errors = errors.slice_assign(
                [start..end, 0..channels],
                self.device.matrix(error, end - start, channels),
            );
            for (row, rounded) in self.order[start..end].iter().zip(rounded.chunks_exact(channels))
            {
                let to = &mut codes[row * channels..][..channels];
                // Codes are whole numbers in 0..=255.
                to.iter_mut().zip(rounded).for_each(|(to, &code)| *to = code as u8);
            }
        }
        Ok(codes)
    }
}

/// Rounds the coordinates of one block (b x C); returns codes and scaled errors.
fn round_block(values: &[f32], upper: &[f32], alphabet: &Alphabet) -> (Vec<f32>, Vec<f32>) {
    let channels = alphabet.channels();
    let rows = values.len() / channels.max(1);
    let top = (alphabet.levels - 1) as f32;
    let narrow = |values: &[f64]| -> Vec<f32> { values.iter().map(|&x| x as f32).collect() };
    let (scale, zero) = (narrow(&alphabet.scale), narrow(&alphabet.zero));
    let (codes, errors): (Vec<_>, Vec<_>) = groups(channels, |first| {
        let mut values = gather(values, channels, first);
        let scale = gather_row(&scale, channels, first).map(|c| if c > 0.0 { c } else { 1.0 });
        let zero = gather_row(&zero, channels, first);
        let mut codes = Vec::with_capacity(rows);
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                for t in 0..rows {
                    let mut code = [0.0; LANES];
                    let mut error = [0.0; LANES];
                    let pivot = upper[t * rows + t];
                    for lane in 0..LANES {
                        let value = values[t][lane];
                        code[lane] =
                            (value / scale[lane] + zero[lane]).round_ties_even().clamp(0.0, top);
                        error[lane] = (value - scale[lane] * (code[lane] - zero[lane])) / pivot;
                    }
                    for later in t + 1..rows {
                        let factor = upper[t * rows + later];
                        for lane in 0..LANES {
                            values[later][lane] -= factor * error[lane];
                        }
                    }
                    values[t] = error;
                    codes.push(code);
                }
            },
        );
        (codes, values)
    })
    .into_iter()
    .unzip();
    (merge(&codes, channels), merge(&errors, channels))
}
