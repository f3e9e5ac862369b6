//! The Vision Transformer on burn tensors, opened up between its linear layers.
//!
//! Calibration needs the inputs of each linear layer, so the forward pass is offered in pieces:
//! [`Embedding`] makes the residual stream, and a [`Block`] is walked from one linear layer to the
//! next; [`Head`] turns the last stream into logits. [`Vit`] is all of them together. Token rows are
//! kept flat, `[images * tokens, features]`.

mod block;
mod embedding;
mod head;

pub use block::{Block, BlockLinear};
pub use embedding::Embedding;
pub use head::Head;

use burn::tensor::Tensor;
use burn::tensor::module::layer_norm;

use crate::device::Device;
use crate::import::{Checkpoint, FloatModel};

/// A whole model on a device.
#[derive(Debug, Clone)]
pub struct Vit {
    /// Pixels to residual stream.
    pub embedding: Embedding,
    /// The blocks, first to last.
    pub blocks: Vec<Block>,
    /// Residual stream to logits.
    pub head: Head,
}

impl Vit {
    /// Uploads a float model.
    pub fn load(device: &Device, model: &FloatModel) -> Self {
        let (weights, config) = (&model.weights, &model.config);
        Self {
            embedding: Embedding::load(device, weights, config),
            blocks: (0..config.depth as usize)
                .map(|index| Block::load(device, weights, config, index))
                .collect(),
            head: Head::load(device, weights, config),
        }
    }

    /// Logits of embedded images (`[images * tokens, D]`), one row per image.
    pub fn logits(&self, stream: Tensor<2>) -> Tensor<2> {
        self.logits_from(0, stream)
    }

    /// Logits from the residual stream before block `first`, one row per image.
    pub fn logits_from(&self, first: usize, stream: Tensor<2>) -> Tensor<2> {
        let stream = self.blocks.iter().skip(first).fold(stream, |stream, block| {
            let heads = block.projection_input(stream.clone());
            block.after_mlp(block.after_attention(stream, heads))
        });
        self.head.forward(stream)
    }
}

/// Layer normalization over the last dimension.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
}

impl LayerNorm {
    /// The normalization of this name, or `None` where the model has none.
    fn load(device: &Device, weights: &Checkpoint, name: &str, epsilon: f32) -> Option<Self> {
        Some(Self {
            gamma: vector(device, weights, &format!("{name}.weight"))?,
            beta: vector(device, weights, &format!("{name}.bias"))?,
            epsilon: f64::from(epsilon),
        })
    }

    /// Normalizes each row.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        layer_norm(input, self.gamma.clone(), Some(self.beta.clone()), self.epsilon)
    }
}

/// A linear layer, `y = x W + b` with `W` N x C.
#[derive(Debug, Clone)]
pub struct Linear {
    /// N x C: inputs by outputs.
    pub weight: Tensor<2>,
    /// One value per output.
    pub bias: Option<Tensor<1>>,
    /// Added to the outputs, m x C: a place to take the gradient of every output at.
    pub probe: Option<Tensor<2>>,
}

impl Linear {
    /// The layer of this name; its weight is C x N as timm stores it.
    fn load(device: &Device, weights: &Checkpoint, name: &str) -> Option<Self> {
        let weight = weights.get(&format!("{name}.weight"))?;
        let outputs = *weight.shape.first()?;
        let inputs = weight.values.len() / outputs.max(1);
        Some(Self {
            weight: device.matrix(weight.values.clone(), outputs, inputs).transpose(),
            bias: vector(device, weights, &format!("{name}.bias")),
            probe: None,
        })
    }

    /// Applies the layer to each row.
    pub fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        let product = input.matmul(self.weight.clone());
        let output = match &self.bias {
            Some(bias) => product + bias.clone().unsqueeze(),
            None => product,
        };
        match &self.probe {
            Some(probe) => output + probe.clone(),
            None => output,
        }
    }
}

/// The tensor of this name as a vector, whatever its shape.
fn vector(device: &Device, weights: &Checkpoint, name: &str) -> Option<Tensor<1>> {
    Some(device.vector(weights.get(name)?.values.clone()))
}

/// The tensor of this name as a matrix with rows of `columns` values.
fn matrix(device: &Device, weights: &Checkpoint, name: &str, columns: usize) -> Option<Tensor<2>> {
    let tensor = weights.get(name)?;
    let rows = tensor.values.len() / columns.max(1);
    Some(device.matrix(tensor.values.clone(), rows, columns))
}
