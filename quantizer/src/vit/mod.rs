//! The Vision Transformer on burn tensors, opened up between its linear layers.
//!
//! Calibration needs the inputs of each linear layer, so the forward pass is offered in pieces:
//! [`Embedding`] makes the residual stream, and a [`Block`] is walked from one linear layer to the
//! next; [`Head`] turns the last stream into logits. [`Vit`] is all of them together. Token rows are
//! kept flat, `[images * tokens, features]`.

mod block;
mod embedding;
mod head;
mod vectors;

pub use block::{Block, BlockLinear};
pub use embedding::Embedding;
pub use head::Head;
pub use vectors::VectorKind;

use burn::tensor::Tensor;
use burn::tensor::module::layer_norm;
use fresnel_runtime::model::config::VitConfig;

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
        Self::from_weights(device, &model.weights, &model.config)
    }

    /// Uploads the tensors of a model that has the shape `config`.
    ///
    /// # Panics
    /// Panics if `weights` lacks one of the model's tensors, which a loaded [`Checkpoint`] never does.
    pub fn from_weights(device: &Device, weights: &Checkpoint, config: &VitConfig) -> Self {
        Self {
            embedding: Embedding::load(device, weights, config),
            blocks: (0..config.depth as usize)
                .map(|index| Block::load(device, weights, config, index))
                .collect(),
            head: Head::load(device, weights, config),
        }
    }

    /// The linear layer of the blocks whose weight has this name, if there is one.
    pub fn block_linear_mut(&mut self, weight: &str) -> Option<&mut Linear> {
        let (index, layer) = weight.strip_prefix("blocks.")?.split_once('.')?;
        let block = self.blocks.get_mut(index.parse::<usize>().ok()?)?;
        let layer = BlockLinear::ALL
            .into_iter()
            .find(|candidate| layer.strip_suffix(".weight") == Some(candidate.name()))?;
        Some(block.linear_mut(layer))
    }

    /// Logits of embedded images (`[images * tokens, D]`), one row per image.
    pub fn logits(&self, stream: Tensor<2>) -> Tensor<2> {
        self.logits_from(0, stream)
    }

    /// Logits from the residual stream before block `first`, one row per image.
    pub fn logits_from(&self, first: usize, stream: Tensor<2>) -> Tensor<2> {
        let blocks = self.blocks.iter().skip(first);
        self.head.forward(blocks.fold(stream, |stream, block| block.forward(stream)))
    }

    /// As [`Vit::logits`], with the residual stream after each block.
    pub fn streams_and_logits(&self, stream: Tensor<2>) -> (Vec<Tensor<2>>, Tensor<2>) {
        let mut streams: Vec<Tensor<2>> = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let before = streams.last().unwrap_or(&stream).clone();
            streams.push(block.forward(before));
        }
        let logits = self.head.forward(streams.last().unwrap_or(&stream).clone());
        (streams, logits)
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
    /// N x C: inputs by outputs. With a `grid`, the codes.
    pub weight: Tensor<2>,
    /// Scale and offset of each output, where they are kept apart from the codes.
    pub grid: Option<Grid>,
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
            grid: None,
            bias: vector(device, weights, &format!("{name}.bias")),
            probe: None,
        })
    }

    /// Applies the layer to each row.
    pub fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        let product = input.clone().matmul(self.weight.clone());
        let product = match &self.grid {
            Some(Grid { scale, offset }) => {
                product * scale.clone().unsqueeze()
                    + input.sum_dim(1) * offset.clone().unsqueeze::<2>()
            }
            None => product,
        };
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

/// Scale `c` and offset `d` of each output of a layer whose weight is `W = K c + d`: then
/// `x W = c (x K) + d sum(x)`, and derivatives with respect to `c` and `d` need no `W`.
#[derive(Debug, Clone)]
pub struct Grid {
    /// One value per output.
    pub scale: Tensor<1>,
    /// One value per output.
    pub offset: Tensor<1>,
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
