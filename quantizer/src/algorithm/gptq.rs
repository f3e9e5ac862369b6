//! GPTQ (arXiv 2210.17323): round one coordinate after the other and let those still free make up
//! for the error.
//!
//! With `H^-1 = U'U`, `U` upper triangular in the visiting order, coordinate t is rounded and the
//! coordinates after it move by `-U[t, later] (v_t - c q_t) / U[t, t]`. Blocks as in Beacon: [`block`] inside,
//! one product on the device between them.

use burn::tensor::Tensor;
use fresnel_runtime::Error;

use super::alphabet::Alphabet;
use super::beacon::ColumnOrder;
use super::block::{self, RoundingBlock, ranges};
use super::lanes::on_pool;
use super::pieces;
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
    inverse: CholeskyInverse,
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
        let inverse = CholeskyInverse::new(&matrix, inputs)?;
        let upper = device.matrix(inverse.upper(), inputs, inputs);
        Ok(Self { device: device.clone(), order: positions, inverse, upper })
    }

    /// `H^-1 B` with `H` the damped `G`, for `right` B, N x `columns` row-major.
    pub fn solve(&self, right: &[f64], columns: usize) -> Vec<f64> {
        let permuted: Vec<f64> = self
            .order
            .iter()
            .flat_map(|&row| right[row * columns..][..columns].iter().copied())
            .collect();
        let mut result = vec![0.0; right.len()];
        let solution = self.inverse.solve(&permuted, columns);
        for (&row, values) in self.order.iter().zip(solution.chunks_exact(columns.max(1))) {
            result[row * columns..][..columns].copy_from_slice(values);
        }
        result
    }

    /// Codes of `targets` (N x C row-major) on `alphabet`, N x C row-major.
    ///
    /// # Errors
    /// Fails when the device fails.
    pub fn codes(&self, targets: &[f32], alphabet: &Alphabet) -> Result<Vec<u8>, Error> {
        let (inputs, channels) = (self.order.len(), alphabet.channels());
        let parts = on_pool(|| {
            pieces::solve(&self.device, channels, |piece| {
                let part = pieces::columns(targets, channels, &piece);
                read(self.round(&self.upload(&part), &alphabet.part(piece))?)
            })
        })?;
        let positions = pieces::join(parts.iter().map(Vec::as_slice), inputs);
        let mut codes = vec![0_u8; inputs * channels];
        for (&row, rounded) in self.order.iter().zip(positions.chunks_exact(channels)) {
            let to = &mut codes[row * channels..][..channels];
            // Codes are whole numbers in 0..=255.
            to.iter_mut().zip(rounded).for_each(|(to, &code)| *to = code as u8);
        }
        Ok(codes)
    }

    /// Position to coordinate: the order of rounding.
    pub(super) fn order(&self) -> &[usize] {
        &self.order
    }

    /// Uploads targets (N x C row-major) in the order of rounding.
    pub(super) fn upload(&self, targets: &[f32]) -> Tensor<2> {
        let channels = targets.len() / self.order.len().max(1);
        let mut permuted = Vec::with_capacity(targets.len());
        for &row in &self.order {
            permuted.extend_from_slice(&targets[row * channels..][..channels]);
        }
        self.device.matrix(permuted, self.order.len(), channels)
    }

    /// Codes of `values` on `alphabet`, both N x C in the order of rounding.
    ///
    /// # Errors
    /// Fails when the device fails.
    pub(super) fn round(
        &self,
        values: &Tensor<2>,
        alphabet: &Alphabet,
    ) -> Result<Tensor<2>, Error> {
        let (inputs, channels) = (self.order.len(), alphabet.channels());
        let row = |values: &[f64]| {
            let narrow = values.iter().map(|&value| value as f32).collect();
            self.device.matrix(narrow, 1, channels)
        };
        // A scale of 0 stands for a channel without extent: any scale rounds it to zero.
        let scale: Vec<f64> =
            alphabet.scale.iter().map(|&c| if c > 0.0 { c } else { 1.0 }).collect();
        let scale = row(&scale);
        let zero = row(&alphabet.zero);
        let mut errors = Tensor::<2>::zeros([inputs, channels], self.device.burn());
        let mut codes = errors.clone();
        for (start, end) in ranges(inputs) {
            let mut block = values.clone().narrow(0, start, end - start);
            if start > 0 {
                let carried = self.upper.clone().slice([0..start, start..end]).transpose();
                block = block - carried.matmul(errors.clone().narrow(0, 0, start));
            }
            let rounded = block::round(
                &self.device,
                RoundingBlock {
                    values: block,
                    upper: self.upper.clone().slice([start..end, start..end]),
                    scale: scale.clone(),
                    zero: zero.clone(),
                    levels: alphabet.levels,
                },
            )?;
            errors = errors.slice_assign([start..end, 0..channels], rounded.errors);
            codes = codes.slice_assign([start..end, 0..channels], rounded.codes);
        }
        Ok(codes)
    }
}
