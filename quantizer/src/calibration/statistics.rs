//! Gram matrices of a layer's inputs, accumulated batch by batch.
//!
//! With `X~` the inputs in the partly quantised model, `X_t = X~ + A (X - X~)` the target's inputs
//! (`A` the strength of error correction, 1 in the paper) and `D` the diagonal matrix of token
//! weights with mean 1 ([`super::token_weights`]), solvers need
//!
//! ```text
//! G = X~'D X~        M = X~'D X_t = (1 - A) G + A X~'D X        X_t'D X_t
//! ```
//!
//! and, where a bias may absorb the mean, the weighted means of both inputs. Each batch is one f32
//! product on the device; batches are summed in f64 on the host, so memory is a few N x N matrices
//! and one batch however many images there are.

use burn::tensor::Tensor;
use fresnel_runtime::{Error, ErrorKind};

use crate::device::{Device, read};

/// A centred Gram matrix below this share of the energy of the mean may be rounding for the most part:
/// sums of f32 products are off by 1e-7 of the whole, their eigenvalues by a multiple of that.
const ROUNDING: f64 = 1e-3;

/// Statistics of one layer's inputs, complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    inputs: usize,
    rows: f64,
    gram: Vec<f64>,
    cross: Option<Vec<f64>>,
    target_gram: Option<Vec<f64>>,
    /// Sums of the rows of `D X~` and of `D X_t`.
    sums: Vec<f64>,
    target_sums: Option<Vec<f64>>,
}

impl Statistics {
    /// Statistics whose target is the layer's own input: `rows` token rows, the sums of the weighted
    /// rows, and `G`; `None` where `gram` is not the square of `sums` in size or not finite.
    pub fn of_float_inputs(rows: f64, sums: Vec<f64>, gram: Vec<f64>) -> Option<Self> {
        let inputs = sums.len();
        let finite = gram.iter().chain(&sums).all(|value| value.is_finite()) && rows.is_finite();
        (gram.len() == inputs * inputs && finite).then_some(Self {
            inputs,
            rows,
            gram,
            cross: None,
            target_gram: None,
            sums,
            target_sums: None,
        })
    }

    /// Number of input features, N.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Number of token rows seen.
    pub fn rows(&self) -> f64 {
        self.rows
    }

    /// `||X~_j||^2`, the diagonal of `G`.
    pub fn column_energy(&self, j: usize) -> f64 {
        self.gram[j * self.inputs + j]
    }

    /// `G` with rows and columns in `order`, as f32.
    pub fn gram(&self, order: &[usize]) -> Vec<f32> {
        permute(&self.gram, self.inputs, order)
    }

    /// `M` with rows and columns in `order`, as f32; `None` where `M = G`.
    pub fn cross(&self, order: &[usize]) -> Option<Vec<f32>> {
        self.cross.as_ref().map(|cross| permute(cross, self.inputs, order))
    }

    /// `G` in f64, N x N row-major.
    pub fn gram_matrix(&self) -> &[f64] {
        &self.gram
    }

    /// `M` in f64, or `G` where they are equal.
    pub fn cross_matrix(&self) -> &[f64] {
        self.cross.as_ref().unwrap_or(&self.gram)
    }

    /// Whether `M` differs from `G`.
    pub fn has_cross(&self) -> bool {
        self.cross.is_some()
    }

    /// Sums of the weighted rows of `X~`.
    pub fn sums(&self) -> &[f64] {
        &self.sums
    }

    /// Mean of the rows of `X~`.
    pub fn mean(&self) -> Vec<f64> {
        self.sums.iter().map(|sum| sum / self.rows.max(1.0)).collect()
    }

    /// Mean of the rows of `X_t`.
    pub fn target_mean(&self) -> Vec<f64> {
        match &self.target_sums {
            Some(sums) => sums.iter().map(|sum| sum / self.rows.max(1.0)).collect(),
            None => self.mean(),
        }
    }

    /// Checks that the statistics fit `weights` weights in columns and are finite.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when they don't or aren't.
    pub fn check(&self, weights: usize) -> Result<(), Error> {
        let invalid = |message| Err(Error::new(ErrorKind::Invalid, message));
        if self.inputs == 0 || !weights.is_multiple_of(self.inputs) {
            return invalid(format!(
                "{weights} weights do not form columns of {} inputs, the width of the statistics",
                self.inputs
            ));
        }
        let finite = |matrix: &[f64]| matrix.iter().all(|value| value.is_finite());
        let all = finite(&self.gram)
            && self.cross.as_deref().is_none_or(finite)
            && self.target_gram.as_deref().is_none_or(finite);
        if !all {
            return invalid("the calibration inputs of this layer are not finite".to_owned());
        }
        Ok(())
    }

    /// The statistics of inputs with their means taken away: a bias absorbs them.
    pub fn centred(mut self) -> Self {
        let (mean, target_mean) = (self.mean(), self.target_mean());
        let rows = self.rows;
        let take = |matrix: &mut [f64], left: &[f64], right: &[f64]| {
            subtract_outer(matrix, left, right, rows);
        };
        take(&mut self.gram, &mean, &mean);
        if let Some(cross) = &mut self.cross {
            take(cross, &mean, &target_mean);
        }
        if let Some(target_gram) = &mut self.target_gram {
            take(target_gram, &target_mean, &target_mean);
        }
        self
    }

    /// `G + lambda I` and `M + lambda I`, with `lambda` as a share of the mean of `G`'s diagonal:
    /// shrinks towards the float weights and makes `G` invertible.
    ///
    /// Inputs that never vary leave nothing but rounding in a centred `G`; there `lambda` is the
    /// energy of their mean, so that the float weights decide.
    pub fn damped(mut self, share: f64) -> Self {
        let inputs = self.inputs;
        let per_input = |sum: f64| sum / inputs.max(1) as f64;
        let energy = per_input((0..inputs).map(|j| self.column_energy(j)).sum());
        let of_mean =
            per_input(self.rows * self.mean().iter().map(|mean| mean * mean).sum::<f64>());
        let damping = if energy > ROUNDING * of_mean {
            share * energy
        } else if of_mean > 0.0 {
            of_mean
        } else {
            1.0
        };
        let matrices = [Some(&mut self.gram), self.cross.as_mut(), self.target_gram.as_mut()];
        for matrix in matrices.into_iter().flatten() {
            (0..inputs).for_each(|j| matrix[j * inputs + j] += damping);
        }
        self
    }

    /// The statistics with the direction `X~ 1` projected out, which leaves a free real-valued
    /// offset per channel: `G - g g'/gamma` and `M - g (1'M)/gamma` with `g = G 1`,
    /// `gamma = 1'G 1`.
    pub fn deflated(mut self) -> Self {
        let row_sums: Vec<f64> =
            self.gram.chunks_exact(self.inputs.max(1)).map(|row| row.iter().sum()).collect();
        let total: f64 = row_sums.iter().sum();
        if total <= 0.0 {
            return self;
        }
        if let Some(cross) = &mut self.cross {
            let mut column_sums = vec![0.0; self.inputs];
            for row in cross.chunks_exact(self.inputs) {
                column_sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
            subtract_outer(cross, &row_sums, &column_sums, 1.0 / total);
        }
        subtract_outer(&mut self.gram, &row_sums, &row_sums, 1.0 / total);
        self
    }

    /// `||X_t w||^2` of each column of `weights` (N x C row-major).
    ///
    /// # Errors
    /// Fails when the device fails.
    pub fn target_energy(&self, device: &Device, weights: &[f32]) -> Result<Vec<f64>, Error> {
        let gram = self.target_gram.as_ref().unwrap_or(&self.gram);
        let channels = weights.len() / self.inputs.max(1);
        let matrix = gram.iter().map(|&x| x as f32).collect();
        let product = read(device.matrix(matrix, self.inputs, self.inputs).matmul(device.matrix(
            weights.to_vec(),
            self.inputs,
            channels,
        )))?;
        let mut energy = vec![0.0; channels];
        for (row, weights) in product.chunks_exact(channels).zip(weights.chunks_exact(channels)) {
            for ((energy, &product), &weight) in energy.iter_mut().zip(row).zip(weights) {
                *energy += f64::from(product) * f64::from(weight);
            }
        }
        Ok(energy)
    }
}

/// `matrix -= factor * left right'`.
fn subtract_outer(matrix: &mut [f64], left: &[f64], right: &[f64], factor: f64) {
    for (row, left) in matrix.chunks_exact_mut(right.len().max(1)).zip(left) {
        row.iter_mut().zip(right).for_each(|(value, right)| *value -= factor * left * right);
    }
}

fn permute(matrix: &[f64], inputs: usize, order: &[usize]) -> Vec<f32> {
    let mut permuted = Vec::with_capacity(matrix.len());
    for &row in order {
        let row = &matrix[row * inputs..][..inputs];
        permuted.extend(order.iter().map(|&column| row[column] as f32));
    }
    permuted
}

/// Sums a layer's statistics over batches.
#[derive(Debug, Clone)]
pub struct Accumulator {
    sums: Statistics,
}

/// One batch of a layer's inputs: m token rows.
#[derive(Debug)]
pub struct Batch {
    /// Rows of `X~`, m x N.
    pub inputs: Tensor<2>,
    /// The same rows of `X_t` where they differ, m x N.
    pub target: Option<Tensor<2>>,
    /// Token weights with mean 1, m x 1; `None` weighs all tokens alike.
    pub weights: Option<Tensor<2>>,
}

impl Batch {
    /// The batch's own products, read back from the device.
    ///
    /// # Errors
    /// Fails when the device fails.
    pub fn products(self) -> Result<Products, Error> {
        let Batch { inputs, target, weights } = self;
        let weighted = |rows: Tensor<2>| match &weights {
            Some(weights) => rows * weights.clone(),
            None => rows,
        };
        let [rows, _] = inputs.dims();
        let weighted_inputs = weighted(inputs.clone());
        let sums = read(weighted_inputs.clone().sum_dim(0))?;
        let transposed = weighted_inputs.transpose();
        let gram = read(transposed.clone().matmul(inputs))?;
        let target = match target {
            Some(target) => {
                let weighted_target = weighted(target.clone());
                Some(TargetProducts {
                    sums: read(weighted_target.clone().sum_dim(0))?,
                    cross: read(transposed.matmul(target.clone()))?,
                    gram: read(weighted_target.transpose().matmul(target))?,
                })
            }
            None => None,
        };
        Ok(Products { rows: rows as f64, sums, gram, target })
    }
}

/// One batch's share of a layer's statistics.
#[derive(Debug)]
pub struct Products {
    rows: f64,
    sums: Vec<f32>,
    gram: Vec<f32>,
    target: Option<TargetProducts>,
}

#[derive(Debug)]
struct TargetProducts {
    sums: Vec<f32>,
    cross: Vec<f32>,
    gram: Vec<f32>,
}

impl Accumulator {
    /// Statistics of no input yet; `with_target` where the target's inputs differ from the layer's
    /// (error correction).
    pub fn new(inputs: usize, with_target: bool) -> Self {
        let zeros = || vec![0.0; inputs * inputs];
        Self {
            sums: Statistics {
                inputs,
                rows: 0.0,
                gram: zeros(),
                cross: with_target.then(zeros),
                target_gram: with_target.then(zeros),
                sums: vec![0.0; inputs],
                target_sums: with_target.then(|| vec![0.0; inputs]),
            },
        }
    }

    /// Adds a batch's products; the order of the batches decides the last bits of the sums.
    pub fn add(&mut self, products: &Products) {
        self.sums.rows += products.rows;
        add(&mut self.sums.sums, &products.sums);
        add(&mut self.sums.gram, &products.gram);
        if let (Some(cross), Some(target_gram), Some(target_sums), Some(target)) = (
            &mut self.sums.cross,
            &mut self.sums.target_gram,
            &mut self.sums.target_sums,
            &products.target,
        ) {
            add(target_sums, &target.sums);
            add(cross, &target.cross);
            add(target_gram, &target.gram);
        }
    }

    /// The sums over all batches.
    pub fn finish(self) -> Statistics {
        self.sums
    }
}

/// Adds values of f32 to sums in f64.
pub(super) fn add(sums: &mut [f64], values: &[f32]) {
    sums.iter_mut().zip(values).for_each(|(sum, &value)| *sum += f64::from(value));
}
