//! Residual-stream correction: layers that write to the residual stream also repair it.
//!
//! The target of `attn.proj` and `mlp.fc2` is not the branch's own output but what the stream
//! lacks, `Y = X_t W + B (r - r~)` with `r` and `r~` the float and the quantised stream before the
//! addition. The second part is brought into the weights by least squares on the damped, weighted
//! statistics: `W_1 = W + B (G + lambda I)^-1 X~'D (r - r~)`.

use burn::tensor::Tensor;
use fresnel_runtime::Error;

use super::statistics::{Statistics, add};
use crate::device::read;
use crate::linear_algebra::CholeskyInverse;

/// Damping of the least squares as a share of the mean of `G`'s diagonal.
const DAMPING: f64 = 0.03;

/// Products of a layer's inputs with what the residual stream lacks.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamDifference {
    channels: usize,
    /// `X~'D (r - r~)`, N x C.
    cross: Vec<f64>,
    /// Sum of the rows of `D (r - r~)`.
    sums: Vec<f64>,
}

/// One batch's share of a [`StreamDifference`].
#[derive(Debug)]
pub struct DifferenceProducts {
    cross: Vec<f32>,
    sums: Vec<f32>,
}

impl DifferenceProducts {
    /// Of rows of `X~` (m x N), of `r - r~` (m x C) and token weights (m x 1).
    ///
    /// # Errors
    /// Fails when the device fails.
    pub fn new(
        inputs: Tensor<2>,
        difference: Tensor<2>,
        weights: Option<Tensor<2>>,
    ) -> Result<Self, Error> {
        let weighted = match weights {
            Some(weights) => difference * weights,
            None => difference,
        };
        Ok(Self {
            sums: read(weighted.clone().sum_dim(0))?,
            cross: read(inputs.transpose().matmul(weighted))?,
        })
    }
}

impl StreamDifference {
    /// Sums over no batch yet, for a layer of `inputs` inputs and `channels` outputs.
    pub fn new(inputs: usize, channels: usize) -> Self {
        Self { channels, cross: vec![0.0; inputs * channels], sums: vec![0.0; channels] }
    }

    /// Adds a batch's products.
    pub fn add(&mut self, products: &DifferenceProducts) {
        add(&mut self.sums, &products.sums);
        add(&mut self.cross, &products.cross);
    }

    /// Mean of the rows of `D (r - r~)`, given the number of rows.
    pub fn mean(&self, rows: f64) -> Vec<f64> {
        self.sums.iter().map(|sum| sum / rows.max(1.0)).collect()
    }

    /// `W_1` for `weights` (N x C row-major) and strength B; `raw` are the layer's statistics, not
    /// centred, of which `centred` are the centred ones.
    ///
    /// # Errors
    /// Fails when `G` is not positive definite even with damping.
    pub fn target_weights(
        &self,
        raw: &Statistics,
        centred: &Statistics,
        weights: &[f32],
        strength: f64,
    ) -> Result<Vec<f64>, Error> {
        let mean = self.mean(raw.rows());
        let mut cross = self.cross.clone();
        for (row, input_mean) in cross.chunks_exact_mut(self.channels.max(1)).zip(raw.mean()) {
            row.iter_mut()
                .zip(&mean)
                .for_each(|(value, mean)| *value -= raw.rows() * input_mean * mean);
        }
        let damped = centred.clone().damped(DAMPING);
        let solution = CholeskyInverse::new(damped.gram_matrix(), damped.inputs())?
            .solve(&cross, self.channels);
        Ok(weights
            .iter()
            .zip(solution)
            .map(|(&weight, correction)| f64::from(weight) + strength * correction)
            .collect())
    }
}
