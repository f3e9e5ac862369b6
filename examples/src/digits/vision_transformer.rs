//! The Vision Transformer in burn, with the arithmetic of timm's `VisionTransformer`.
//!
//! Pre-norm blocks, class token, learned position embedding, GELU with the error function,
//! LayerNorm epsilon 1e-6. Two things are arranged otherwise than in timm, and put back by
//! [`VisionTransformer::tensors`]: query, key and value are three linears instead of one that is
//! sliced afterwards, since the gradient of a slice is a copy into zeros; and the patch embedding is
//! a linear over flattened patches instead of a strided convolution.

use burn::module::{Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear};
use burn::tensor::activation::{gelu, softmax};
use burn::tensor::{Device, Tensor, TensorData};
use rand::{Rng, RngExt};

use super::archive::{CLASSES, PIXELS, SIDE};
use super::{MEAN, STANDARD_DEVIATION};

/// LayerNorm's epsilon in timm's Vision Transformers.
const NORM_EPSILON: f64 = 1e-6;

/// The sizes of a digits model. The image is always 28 x 28 with one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Architecture {
    /// Side of a patch in pixels; divides 28.
    pub patch_size: usize,
    /// Width of a token.
    pub embed_dim: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads; divides `embed_dim`.
    pub num_heads: usize,
    /// Width of the hidden layer of a block's MLP, in multiples of `embed_dim`.
    pub mlp_ratio: usize,
}

impl Architecture {
    /// Checks that the sizes fit each other.
    ///
    /// # Errors
    /// Says in words which size does not fit.
    pub fn validate(&self) -> Result<(), String> {
        if [self.patch_size, self.embed_dim, self.depth, self.num_heads, self.mlp_ratio]
            .contains(&0)
        {
            return Err("every size of the model must be at least 1".to_owned());
        }
        if !SIDE.is_multiple_of(self.patch_size) {
            return Err(format!(
                "patch size {} does not divide the image side {SIDE}",
                self.patch_size
            ));
        }
        if !self.embed_dim.is_multiple_of(self.num_heads) {
            return Err(format!(
                "{} heads do not divide the embedding of {}",
                self.num_heads, self.embed_dim
            ));
        }
        Ok(())
    }

    /// Number of patches of a digit.
    #[must_use]
    pub fn patches(&self) -> usize {
        (SIDE / self.patch_size).pow(2)
    }

    /// Pixels of a patch.
    #[must_use]
    pub fn patch_pixels(&self) -> usize {
        self.patch_size.pow(2)
    }

    /// Cuts a digit (`[28, 28]`, 0.0 to 255.0) into normalised patches and appends them to
    /// `patches` as `[patches, patch_pixels]`, both row-major.
    ///
    /// # Panics
    /// If `digit` does not have 784 elements.
    pub fn append_patches(&self, digit: &[f32], patches: &mut Vec<f32>) {
        assert_eq!(digit.len(), PIXELS, "a digit has {PIXELS} pixels");
        let size = self.patch_size;
        for top in (0..SIDE).step_by(size) {
            for left in (0..SIDE).step_by(size) {
                for row in top..top + size {
                    let line = &digit[row * SIDE + left..][..size];
                    patches.extend(
                        line.iter().map(|pixel| (pixel / 255.0 - MEAN) / STANDARD_DEVIATION),
                    );
                }
            }
        }
    }
}

/// One tensor of the model under timm's name.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// timm's name, such as `blocks.0.attn.qkv.weight`.
    pub name: String,
    /// timm's shape; linears are `[out, in]`.
    pub shape: Vec<usize>,
    /// The elements, row-major.
    pub values: Vec<f32>,
}

/// A Vision Transformer that maps patches to the logits of the ten digits.
#[derive(Module, Debug)]
pub struct VisionTransformer {
    patch_embed: Linear,
    cls_token: Param<Tensor<3>>,
    pos_embed: Param<Tensor<3>>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

/// A block: attention, then an MLP, each behind a LayerNorm and added to its input.
#[derive(Module, Debug)]
struct Block {
    norm1: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    projection: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: usize,
}

impl VisionTransformer {
    /// A model with random weights from `rng` on `device`: linears with the uniform distribution of
    /// Glorot and Bengio, biases zero, tokens and positions small.
    ///
    /// # Panics
    /// If `architecture` is not valid.
    pub fn new(architecture: Architecture, rng: &mut impl Rng, device: &Device) -> Self {
        if let Err(reason) = architecture.validate() {
            panic!("{reason}");
        }
        let width = architecture.embed_dim;
        let hidden = width * architecture.mlp_ratio;
        let mut initial = Initial { rng, device };
        Self {
            patch_embed: initial.linear(architecture.patch_pixels(), width),
            cls_token: initial.token([1, 1, width]),
            pos_embed: initial.token([1, architecture.patches() + 1, width]),
            blocks: (0..architecture.depth)
                .map(|_| Block {
                    norm1: initial.norm(width),
                    query: initial.linear(width, width),
                    key: initial.linear(width, width),
                    value: initial.linear(width, width),
                    projection: initial.linear(width, width),
                    norm2: initial.norm(width),
                    fc1: initial.linear(width, hidden),
                    fc2: initial.linear(hidden, width),
                    heads: architecture.num_heads,
                })
                .collect(),
            norm: initial.norm(width),
            head: initial.linear(width, CLASSES),
        }
    }

    /// The logits `[batch, 10]` of `patches` (`[batch, patches, patch_pixels]`, normalised).
    pub fn forward(&self, patches: Tensor<3>) -> Tensor<2> {
        let embedded = self.patch_embed.forward(patches);
        let [batch, _, width] = embedded.dims();
        let class_token = self.cls_token.val().expand([batch, 1, width]);
        let mut tokens = Tensor::cat(vec![class_token, embedded], 1) + self.pos_embed.val();
        for (index, block) in self.blocks.iter().enumerate() {
            tokens = block.attend(tokens);
            if index + 1 == self.blocks.len() {
                // Only the class token is read from here on, and tokens no longer mix.
                tokens = tokens.narrow(1, 0, 1);
            }
            tokens = block.transform(tokens);
        }
        let class_token: Tensor<2> = tokens.narrow(1, 0, 1).squeeze_dim(1);
        self.head.forward(self.norm.forward(class_token))
    }

    /// All tensors under timm's names and in timm's shapes.
    #[must_use]
    pub fn tensors(&self, architecture: Architecture) -> Vec<NamedTensor> {
        let mut tensors = Vec::new();
        let mut push = |name: String, shape: &[usize], values: Vec<f32>| {
            debug_assert_eq!(shape.iter().product::<usize>(), values.len());
            tensors.push(NamedTensor { name, shape: shape.to_vec(), values });
        };
        let (width, size) = (architecture.embed_dim, architecture.patch_size);
        let hidden = width * architecture.mlp_ratio;
        push("cls_token".into(), &[1, 1, width], values(&self.cls_token));
        let positions = architecture.patches() + 1;
        push("pos_embed".into(), &[1, positions, width], values(&self.pos_embed));
        let (weight, bias) = linear_values(&[&self.patch_embed]);
        push("patch_embed.proj.weight".into(), &[width, 1, size, size], weight);
        push("patch_embed.proj.bias".into(), &[width], bias);
        for (index, block) in self.blocks.iter().enumerate() {
            let linears: [(&str, &[&Linear], [usize; 2]); 4] = [
                ("attn.qkv", &[&block.query, &block.key, &block.value], [3 * width, width]),
                ("attn.proj", &[&block.projection], [width, width]),
                ("mlp.fc1", &[&block.fc1], [hidden, width]),
                ("mlp.fc2", &[&block.fc2], [width, hidden]),
            ];
            for (name, stacked, shape) in linears {
                let (weight, bias) = linear_values(stacked);
                push(format!("blocks.{index}.{name}.weight"), &shape, weight);
                push(format!("blocks.{index}.{name}.bias"), &shape[..1], bias);
            }
            for (name, norm) in [("norm1", &block.norm1), ("norm2", &block.norm2)] {
                let (weight, bias) = norm_values(norm);
                push(format!("blocks.{index}.{name}.weight"), &[width], weight);
                push(format!("blocks.{index}.{name}.bias"), &[width], bias);
            }
        }
        let (weight, bias) = norm_values(&self.norm);
        push("norm.weight".into(), &[width], weight);
        push("norm.bias".into(), &[width], bias);
        let (weight, bias) = linear_values(&[&self.head]);
        push("head.weight".into(), &[CLASSES, width], weight);
        push("head.bias".into(), &[CLASSES], bias);
        tensors
    }
}

impl Block {
    fn attend(&self, tokens: Tensor<3>) -> Tensor<3> {
        let [batch, count, width] = tokens.dims();
        let head_dim = width / self.heads;
        let heads = |tokens: Tensor<3>| -> Tensor<4> {
            tokens.reshape([batch, count, self.heads, head_dim]).swap_dims(1, 2)
        };
        let normed = self.norm1.forward(tokens.clone());
        let query = heads(self.query.forward(normed.clone()));
        let key = heads(self.key.forward(normed.clone()));
        let value = heads(self.value.forward(normed));
        let scale = (head_dim as f64).powf(-0.5);
        let weights = softmax(query.mul_scalar(scale).matmul(key.swap_dims(2, 3)), 3);
        let mixed = weights.matmul(value).swap_dims(1, 2).reshape([batch, count, width]);
        tokens + self.projection.forward(mixed)
    }

    fn transform(&self, tokens: Tensor<3>) -> Tensor<3> {
        let hidden = gelu(self.fc1.forward(self.norm2.forward(tokens.clone())));
        tokens + self.fc2.forward(hidden)
    }
}

/// Makes parameters with their first values.
struct Initial<'a, R> {
    rng: &'a mut R,
    device: &'a Device,
}

impl<R: Rng> Initial<'_, R> {
    fn uniform<const D: usize>(&mut self, shape: [usize; D], limit: f32) -> Param<Tensor<D>> {
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| limit * self.rng.random_range(-1.0..=1.0f32))
            .collect();
        Param::from_data(TensorData::new(values, shape), self.device)
    }

    fn linear(&mut self, inputs: usize, outputs: usize) -> Linear {
        let limit = (6.0 / (inputs + outputs) as f32).sqrt();
        Linear {
            weight: self.uniform([inputs, outputs], limit),
            bias: Some(self.uniform([outputs], 0.0)),
        }
    }

    fn token(&mut self, shape: [usize; 3]) -> Param<Tensor<3>> {
        self.uniform(shape, 0.02)
    }

    fn norm(&self, width: usize) -> LayerNorm {
        LayerNormConfig::new(width).with_epsilon(NORM_EPSILON).init(self.device)
    }
}

/// The elements of a parameter, row-major.
fn values<const D: usize>(parameter: &Param<Tensor<D>>) -> Vec<f32> {
    parameter.val().into_data().try_to_vec().expect("parameters are f32")
}

/// Weights `[out, in]` and biases `[out]` of linears stacked along their outputs.
fn linear_values(stacked: &[&Linear]) -> (Vec<f32>, Vec<f32>) {
    let mut weight = Vec::new();
    let mut bias = Vec::new();
    for linear in stacked {
        let transposed = linear.weight.val().transpose();
        weight.extend(transposed.into_data().try_to_vec::<f32>().expect("parameters are f32"));
        bias.extend(linear.bias.iter().flat_map(values));
    }
    (weight, bias)
}

/// Weight and bias of a LayerNorm.
fn norm_values(norm: &LayerNorm) -> (Vec<f32>, Vec<f32>) {
    (values(&norm.gamma), norm.beta.iter().flat_map(values).collect())
}

#[cfg(test)]
mod tests;
