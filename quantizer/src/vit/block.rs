//! One transformer block, in the steps between its four linear layers.

use burn::tensor::Tensor;
use burn::tensor::activation::{gelu, gelu_approximate, sigmoid};
use burn::tensor::module::attention;
use fresnel_runtime::model::config::{Activation, VitConfig};

use super::{LayerNorm, Linear, vector};
use crate::device::Device;
use crate::import::Checkpoint;

/// The linear layers of a block, in the order in which they are quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockLinear {
    /// `attn.qkv`
    Qkv,
    /// `attn.proj`
    Projection,
    /// `mlp.fc1`
    Expansion,
    /// `mlp.fc2`
    Contraction,
}

impl BlockLinear {
    /// All four, first to last.
    pub const ALL: [Self; 4] = [Self::Qkv, Self::Projection, Self::Expansion, Self::Contraction];

    /// Whether the layer's output is added to the residual stream.
    pub fn writes_to_stream(self) -> bool {
        matches!(self, Self::Projection | Self::Contraction)
    }

    /// timm's name within the block.
    pub fn name(self) -> &'static str {
        match self {
            Self::Qkv => "attn.qkv",
            Self::Projection => "attn.proj",
            Self::Expansion => "mlp.fc1",
            Self::Contraction => "mlp.fc2",
        }
    }
}

/// One block's weights on the device.
#[derive(Debug, Clone)]
pub struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    query_norm: Option<LayerNorm>,
    key_norm: Option<LayerNorm>,
    projection: Linear,
    attention_scale: Option<Tensor<1>>,
    norm2: LayerNorm,
    expansion: Linear,
    contraction: Linear,
    mlp_scale: Option<Tensor<1>>,
    activation: Activation,
    heads: usize,
    tokens: usize,
}

impl Block {
    /// Uploads block `index` of a model.
    ///
    /// # Panics
    /// Panics if `weights` lacks one of the block's tensors, which a loaded [`Checkpoint`] never
    /// does.
    pub fn load(device: &Device, weights: &Checkpoint, config: &VitConfig, index: usize) -> Self {
        let name = |part: &str| format!("blocks.{index}.{part}");
        let norm = |part: &str| LayerNorm::load(device, weights, &name(part), config.norm_epsilon);
        let required = |part: &str| norm(part).expect("a checkpoint has every normalization");
        let linear = |layer: BlockLinear| {
            Linear::load(device, weights, &name(layer.name()))
                .expect("a checkpoint has every linear layer")
        };
        Self {
            norm1: required("norm1"),
            qkv: linear(BlockLinear::Qkv),
            query_norm: norm("attn.q_norm"),
            key_norm: norm("attn.k_norm"),
            projection: linear(BlockLinear::Projection),
            attention_scale: vector(device, weights, &name("ls1.gamma")),
            norm2: required("norm2"),
            expansion: linear(BlockLinear::Expansion),
            contraction: linear(BlockLinear::Contraction),
            mlp_scale: vector(device, weights, &name("ls2.gamma")),
            activation: config.activation,
            heads: config.num_heads as usize,
            tokens: config.tokens() as usize,
        }
    }

    /// One of the four linear layers.
    pub fn linear(&self, layer: BlockLinear) -> &Linear {
        match layer {
            BlockLinear::Qkv => &self.qkv,
            BlockLinear::Projection => &self.projection,
            BlockLinear::Expansion => &self.expansion,
            BlockLinear::Contraction => &self.contraction,
        }
    }

    /// One of the four linear layers, to be changed.
    pub fn linear_mut(&mut self, layer: BlockLinear) -> &mut Linear {
        match layer {
            BlockLinear::Qkv => &mut self.qkv,
            BlockLinear::Projection => &mut self.projection,
            BlockLinear::Expansion => &mut self.expansion,
            BlockLinear::Contraction => &mut self.contraction,
        }
    }

    /// The block's normalizations with timm's names within the block, and its linear layers in the
    /// order of [`BlockLinear::ALL`].
    pub(super) fn parts_mut(
        &mut self,
    ) -> (impl Iterator<Item = (&'static str, &mut LayerNorm)>, [&mut Linear; 4]) {
        let norms = [
            ("norm1", Some(&mut self.norm1)),
            ("attn.q_norm", self.query_norm.as_mut()),
            ("attn.k_norm", self.key_norm.as_mut()),
            ("norm2", Some(&mut self.norm2)),
        ];
        let linears =
            [&mut self.qkv, &mut self.projection, &mut self.expansion, &mut self.contraction];
        (norms.into_iter().filter_map(|(name, norm)| Some((name, norm?))), linears)
    }

    /// Input of `attn.qkv`.
    pub fn qkv_input(&self, stream: Tensor<2>) -> Tensor<2> {
        self.norm1.forward(stream)
    }

    /// Input of `attn.proj`: the heads' outputs side by side, from the residual stream.
    pub fn projection_input(&self, stream: Tensor<2>) -> Tensor<2> {
        let qkv = self.qkv.forward(self.qkv_input(stream));
        let [rows, width] = qkv.dims();
        let (images, features) = (rows / self.tokens, width / 3);
        let head = features / self.heads;
        let parts: Tensor<5> =
            qkv.reshape([images, self.tokens, 3, self.heads, head].map(|n| n as i64));
        let part = |index: usize, norm: Option<&LayerNorm>| -> Tensor<4> {
            let part = parts
                .clone()
                .narrow(2, index, 1)
                .reshape([images, self.tokens, self.heads, head].map(|n| n as i64));
            let part = match norm {
                Some(norm) => norm.forward(part),
                None => part,
            };
            part.swap_dims(1, 2)
        };
        let heads = attention(
            part(0, self.query_norm.as_ref()),
            part(1, self.key_norm.as_ref()),
            part(2, None),
            None,
            None,
            Default::default(),
        );
        heads.swap_dims(1, 2).reshape([rows, features].map(|n| n as i64))
    }

    /// The residual stream after attention, from the stream before it and the heads' outputs.
    pub fn after_attention(&self, stream: Tensor<2>, heads: Tensor<2>) -> Tensor<2> {
        stream + scaled(self.projection.forward(heads), self.attention_scale.as_ref())
    }

    /// Input of `mlp.fc1`, from the residual stream after attention.
    pub fn expansion_input(&self, stream: Tensor<2>) -> Tensor<2> {
        self.norm2.forward(stream)
    }

    /// Input of `mlp.fc2`, from the residual stream after attention.
    pub fn contraction_input(&self, stream: Tensor<2>) -> Tensor<2> {
        let hidden = self.expansion.forward(self.expansion_input(stream));
        match self.activation {
            Activation::GeluErf => gelu(hidden),
            Activation::GeluTanh => gelu_approximate(hidden),
            Activation::QuickGelu => hidden.clone() * sigmoid(hidden * 1.702),
        }
    }

    /// The residual stream after the block, from the stream before it.
    pub fn forward(&self, stream: Tensor<2>) -> Tensor<2> {
        let heads = self.projection_input(stream.clone());
        self.after_mlp(self.after_attention(stream, heads))
    }

    /// The residual stream after the block, from the stream after attention.
    pub fn after_mlp(&self, stream: Tensor<2>) -> Tensor<2> {
        let hidden = self.contraction_input(stream.clone());
        stream + scaled(self.contraction.forward(hidden), self.mlp_scale.as_ref())
    }
}

/// Applies LayerScale, where the model has it.
fn scaled(branch: Tensor<2>, gamma: Option<&Tensor<1>>) -> Tensor<2> {
    match gamma {
        Some(gamma) => branch * gamma.clone().unsqueeze(),
        None => branch,
    }
}
