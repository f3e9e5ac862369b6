//! Gram matrices of a layer's inputs, accumulated batch by batch.
//!
//! With `X~` the inputs in the partly quantised model and `X_t = X~ + A (X - X~)` the target's
//! inputs (`A` the strength of error correction, 1 in the paper), solvers need
//!
//! ```text
//! G = X~'X~        M = X~'X_t = (1 - A) G + A X~'X        ||X_t w||^2 per channel
//! ```
//!
//! Each batch is one f32 product on the device; batches are summed in f64 on the host, so memory
//! is two N x N matrices and one batch however many images there are.

use burn::tensor::Tensor;
use fresnel_runtime::Error;

use crate::device::{Device, read};

/// Statistics of one layer's inputs, complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    inputs: usize,
    gram: Vec<f64>,
    cross: Option<Vec<f64>>,
    target_gram: Option<Vec<f64>>,
}

impl Statistics {
    /// Number of input features, N.
    pub fn inputs(&self) -> usize {
        self.inputs
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

    /// Whether every value is finite.
    pub fn is_finite(&self) -> bool {
        let finite = |matrix: &[f64]| matrix.iter().all(|value| value.is_finite());
        finite(&self.gram)
            && self.cross.as_deref().is_none_or(finite)
            && self.target_gram.as_deref().is_none_or(finite)
    }

    /// `||X_t w||^2` of each column of `weights` (N x C row-major).
    ///
    /// # Errors
    /// Fails when the device fails.
    pub fn target_energy(&self, device: &Device, weights: &[f32]) -> Result<Vec<f64>, Error> {
        let gram = self.target_gram.as_ref().unwrap_or(&self.gram);
        quadratic(device, gram, self.inputs, weights)
    }
}

/// `diag(V' A V)` for a symmetric `matrix` A and `vectors` V (N x C row-major).
fn quadratic(
    device: &Device,
    matrix: &[f64],
    inputs: usize,
    vectors: &[f32],
) -> Result<Vec<f64>, Error> {
    let channels = vectors.len() / inputs.max(1);
    let matrix = device.matrix(matrix.iter().map(|&x| x as f32).collect(), inputs, inputs);
    let vectors_on_device = device.matrix(vectors.to_vec(), inputs, channels);
    let product = read(matrix.matmul(vectors_on_device))?;
    let mut energy = vec![0.0; channels];
    for (row, vector) in product.chunks_exact(channels).zip(vectors.chunks_exact(channels)) {
        for ((energy, &product), &value) in energy.iter_mut().zip(row).zip(vector) {
            *energy += f64::from(product) * f64::from(value);
        }
    }
    Ok(energy)
}

fn permute(matrix: &[f64], inputs: usize, order: &[usize]) -> Vec<f32> {
    order
        .iter()
        .flat_map(|&row| {
            let row = &matrix[row * inputs..][..inputs];
            order.iter().map(move |&column| row[column] as f32)
        })
        .collect()
}

/// Sums a layer's statistics over batches.
#[derive(Debug, Clone)]
pub struct Accumulator {
    sums: Statistics,
}

impl Accumulator {
    /// Statistics of no input yet; `with_target` where the target's inputs differ from the layer's
    /// (error correction).
    pub fn new(inputs: usize, with_target: bool) -> Self {
        let zeros = || vec![0.0; inputs * inputs];
        Self {
            sums: Statistics {
                inputs,
                gram: zeros(),
                cross: with_target.then(zeros),
                target_gram: with_target.then(zeros),
            },
        }
    }

    /// Adds a batch: `inputs` are rows of `X~`, `target` the same rows of `X_t` where they differ.
    ///
    /// # Errors
    /// Fails when the device fails.
    pub fn add(&mut self, inputs: Tensor<2>, target: Option<Tensor<2>>) -> Result<(), Error> {
        let transposed = inputs.clone().transpose();
        add_product(&mut self.sums.gram, transposed.clone(), inputs)?;
        if let (Some(cross), Some(target_gram), Some(target)) =
            (&mut self.sums.cross, &mut self.sums.target_gram, target)
        {
            add_product(cross, transposed, target.clone())?;
            add_product(target_gram, target.clone().transpose(), target)?;
        }
        Ok(())
    }

    /// The sums over all batches.
    pub fn finish(self) -> Statistics {
        self.sums
    }
}

fn add_product(sums: &mut [f64], left: Tensor<2>, right: Tensor<2>) -> Result<(), Error> {
    for (sum, product) in sums.iter_mut().zip(read(left.matmul(right))?) {
        *sum += f64::from(product);
    }
    Ok(())
}
