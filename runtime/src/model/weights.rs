//! The weights of a model, laid out where they are used.
//!
//! Built once when a file is loaded: a [`Placement`] makes matrices (codes stay packed) and vectors (widened to `f32`) out of
//! the tensors, which are read one after the other in the order in which a file has them. Nothing of the file is kept.

mod cpu;
#[cfg(feature = "gpu")]
mod gpu;
mod source;

use std::io::{Read, Seek};

use fresnel_kernels::Activation;

use crate::error::Error;
use crate::format::Encoding;
use crate::format::reader::Reader;
pub(crate) use cpu::{Cpu, kernel as cpu_kernel};
#[cfg(feature = "gpu")]
pub(crate) use gpu::{Gpu, supported as gpu_arithmetic};
use source::Source;
/// Where weights lie, and what a matrix and a vector are there.
pub(crate) trait Placement: Clone {
    /// A weight, `[out_features, in_features]`.
    type Matrix;
    /// A matrix to which rows are added as they are read.
    type Builder;
    /// A bias, norm or the like.
    type Vector;
    /// Tokens: rows of as many numbers as a token has features.
    type Rows;

    /// A matrix of `n` rows of `k` columns.
    fn builder(&self, encoding: Encoding, n: usize, k: usize) -> Result<Self::Builder, Error>;

    /// Adds whole rows as they lie in a file.
    fn push(&self, builder: &mut Self::Builder, rows: &[u8]) -> Result<(), Error>;

    /// The matrix of the rows added; scales and offsets are those of codes, and empty for floats.
    fn finish(
        &self,
        builder: Self::Builder,
        scale: &[f32],
        offset: &[f32],
    ) -> Result<Self::Matrix, Error>;

    /// A vector of these values.
    fn vector(&self, values: Vec<f32>) -> Result<Self::Vector, Error>;

    /// Rows of `columns` numbers.
    fn rows(&self, values: Vec<f32>, columns: usize) -> Result<Self::Rows, Error>;

    /// Bytes that a matrix occupies.
    fn matrix_bytes(matrix: &Self::Matrix) -> usize;

    /// Bytes that a vector occupies.
    fn vector_bytes(vector: &Self::Vector) -> usize;

    /// Bytes that rows occupy.
    fn rows_bytes(rows: &Self::Rows) -> usize;
}

/// A linear layer.
pub(crate) struct Linear<P: Placement = Cpu> {
    pub(crate) weight: P::Matrix,
    pub(crate) bias: Option<P::Vector>,
}

/// A LayerNorm.
pub(crate) struct Norm<P: Placement = Cpu> {
    pub(crate) gamma: P::Vector,
    pub(crate) beta: P::Vector,
    pub(crate) epsilon: f32,
}

/// A transformer block.
pub(crate) struct Block<P: Placement = Cpu> {
    pub(crate) norm1: Norm<P>,
    pub(crate) qkv: Linear<P>,
    pub(crate) q_norm: Option<Norm<P>>,
    pub(crate) k_norm: Option<Norm<P>>,
    pub(crate) proj: Linear<P>,
    pub(crate) layer_scale1: Option<P::Vector>,
    pub(crate) norm2: Norm<P>,
    pub(crate) fc1: Linear<P>,
    pub(crate) activation: Activation,
    pub(crate) fc2: Linear<P>,
    pub(crate) layer_scale2: Option<P::Vector>,
}

/// All weights of a model.
pub(crate) struct Weights<P: Placement = Cpu> {
    pub(crate) placement: P,
    pub(crate) patch_embed: Linear<P>,
    /// `[dim]`
    pub(crate) class_token: Option<P::Rows>,
    /// `[dim]`
    pub(crate) distillation_token: Option<P::Rows>,
    /// `[registers, dim]`
    pub(crate) register_tokens: Option<P::Rows>,
    /// `[tokens or patches, dim]`
    pub(crate) position_embedding: Option<P::Rows>,
    pub(crate) pre_norm: Option<Norm<P>>,
    pub(crate) blocks: Vec<Block<P>>,
    pub(crate) norm: Option<Norm<P>>,
    pub(crate) fc_norm: Option<Norm<P>>,
    pub(crate) head: Option<Linear<P>>,
    pub(crate) head_distilled: Option<Linear<P>>,
}

impl<P: Placement> Weights<P> {
    /// Reads and lays out the tensors of a file, whose set matches its config.
    ///
    /// # Errors
    /// Those of reading; [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) naming the tensor when one is missing or unusable,
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) when there is no memory for it.
    pub(crate) fn read<R: Read + Seek>(
        reader: &mut Reader<R>,
        placement: P,
    ) -> Result<Self, Error> {
        let config = reader.contents().manifest.config.clone();
        let mut source =
            Source { reader, placement: placement.clone(), epsilon: config.norm_epsilon };
        Ok(Self {
            placement,
            class_token: source.optional_rows("cls_token")?,
            distillation_token: source.optional_rows("dist_token")?,
            register_tokens: source.optional_rows("reg_token")?,
            position_embedding: source.optional_rows("pos_embed")?,
            patch_embed: source.linear("patch_embed.proj")?,
            pre_norm: source.optional_norm("norm_pre")?,
            blocks: (0..config.depth)
                .map(|index| source.block(index, &config))
                .collect::<Result<_, _>>()?,
            norm: source.optional_norm("norm")?,
            fc_norm: source.optional_norm("fc_norm")?,
            head: source.optional_linear("head")?,
            head_distilled: source.optional_linear("head_dist")?,
        })
    }

    /// Every linear layer, with its name, in the order of the forward pass.
    pub(crate) fn linears(&self) -> Vec<(String, &Linear<P>)> {
        let mut linears = vec![("patch_embed.proj".to_owned(), &self.patch_embed)];
        for (index, block) in self.blocks.iter().enumerate() {
            let layers = [
                ("attn.qkv", &block.qkv),
                ("attn.proj", &block.proj),
                ("mlp.fc1", &block.fc1),
                ("mlp.fc2", &block.fc2),
            ];
            linears.extend(layers.map(|(name, linear)| (format!("blocks.{index}.{name}"), linear)));
        }
        linears.extend(self.head.as_ref().map(|linear| ("head".to_owned(), linear)));
        linears.extend(self.head_distilled.as_ref().map(|linear| ("head_dist".to_owned(), linear)));
        linears
    }

    /// Names of the kernels of the blocks' layers, as `name` gives them, each once, in order of appearance, joined by `+`.
    pub(crate) fn kernels(&self, name: impl Fn(&P::Matrix) -> String) -> String {
        let mut names: Vec<String> = Vec::new();
        for block in &self.blocks {
            for linear in [&block.qkv, &block.proj, &block.fc1, &block.fc2] {
                let name = name(&linear.weight);
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names.join("+")
    }

    /// Bytes that the weights occupy in memory.
    pub(crate) fn resident_bytes(&self) -> usize {
        let norms = self.blocks.iter().flat_map(Block::norms);
        let norms = norms.chain([&self.pre_norm, &self.norm, &self.fc_norm].into_iter().flatten());
        let scales =
            self.blocks.iter().flat_map(|block| [&block.layer_scale1, &block.layer_scale2]);
        let tokens = [
            &self.class_token,
            &self.distillation_token,
            &self.register_tokens,
            &self.position_embedding,
        ];
        let linears = self.linears();
        let biases = linears.iter().map(|(_, linear)| &linear.bias);
        let matrices = linears.iter().map(|(_, linear)| P::matrix_bytes(&linear.weight));
        let vectors = scales.chain(biases).flatten();
        let vectors = vectors.chain(norms.flat_map(|norm| [&norm.gamma, &norm.beta]));
        let tokens = tokens.into_iter().flatten().map(P::rows_bytes);
        matrices.chain(vectors.map(P::vector_bytes)).chain(tokens).sum()
    }
}

impl<P: Placement> Block<P> {
    fn norms(&self) -> impl Iterator<Item = &Norm<P>> {
        [&self.norm1, &self.norm2].into_iter().chain(&self.q_norm).chain(&self.k_norm)
    }
}
