//! The weights of a model, laid out for the kernels of one instruction set.
//!
//! Built once when a file is loaded: matrices become panels of [`Matrix`] (codes stay packed), vectors
//! are widened to `f32`. The tensors are read one after the other in the order in which a file has them,
//! and nothing of the file is kept.

use std::io::{Read, Seek};

use fresnel_kernels::{
    Activation as KernelActivation, Arithmetic, Isa, Matrix, MatrixBuilder, MatrixError,
};

use super::config::{Activation, VitConfig};
use super::decoded::{extend, matrix_shape, missing};
use crate::error::{Error, ErrorKind};
use crate::format::reader::Reader;
use crate::format::{Encoding, TensorEntry};

/// A linear layer.
pub(crate) struct Linear {
    pub(crate) weight: Matrix,
    pub(crate) bias: Option<Vec<f32>>,
}

/// A LayerNorm.
pub(crate) struct Norm {
    pub(crate) gamma: Vec<f32>,
    pub(crate) beta: Vec<f32>,
    pub(crate) epsilon: f32,
}

/// A transformer block.
pub(crate) struct Block {
    pub(crate) norm1: Norm,
    pub(crate) qkv: Linear,
    pub(crate) q_norm: Option<Norm>,
    pub(crate) k_norm: Option<Norm>,
    pub(crate) proj: Linear,
    pub(crate) layer_scale1: Option<Vec<f32>>,
    pub(crate) norm2: Norm,
    pub(crate) fc1: Linear,
    pub(crate) activation: KernelActivation,
    pub(crate) fc2: Linear,
    pub(crate) layer_scale2: Option<Vec<f32>>,
}

/// All weights of a model.
pub(crate) struct Weights {
    pub(crate) patch_embed: Linear,
    /// `[dim]`
    pub(crate) class_token: Option<Vec<f32>>,
    /// `[dim]`
    pub(crate) distillation_token: Option<Vec<f32>>,
    /// `[registers, dim]`
    pub(crate) register_tokens: Option<Vec<f32>>,
    /// `[tokens or patches, dim]`
    pub(crate) position_embedding: Option<Vec<f32>>,
    pub(crate) pre_norm: Option<Norm>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) norm: Option<Norm>,
    pub(crate) fc_norm: Option<Norm>,
    pub(crate) head: Option<Linear>,
    pub(crate) head_distilled: Option<Linear>,
}

impl Weights {
    /// Reads and lays out the tensors of a file, whose set matches its config, for `isa`.
    ///
    /// # Errors
    /// Those of reading; [`ErrorKind::Invalid`] naming the tensor when one is missing or unusable,
    /// [`ErrorKind::Limit`] when there is no memory for it.
    pub(crate) fn read<R: Read + Seek>(reader: &mut Reader<R>, isa: Isa) -> Result<Self, Error> {
        let config = reader.contents().manifest.config.clone();
        let mut source = Source { reader, isa, epsilon: config.norm_epsilon };
        Ok(Self {
            class_token: source.optional_vector("cls_token")?,
            distillation_token: source.optional_vector("dist_token")?,
            register_tokens: source.optional_vector("reg_token")?,
            position_embedding: source.optional_vector("pos_embed")?,
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
    pub(crate) fn linears(&self) -> Vec<(String, &Linear)> {
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

    /// Whether any layer is multiplied in `arithmetic`.
    pub(crate) fn supports(&self, arithmetic: Arithmetic) -> bool {
        self.linears().iter().any(|(_, linear)| linear.weight.supports(arithmetic))
    }

    /// Names of the kernels of the blocks' layers, each once, in order of appearance.
    pub(crate) fn kernels(&self, arithmetic: Arithmetic) -> String {
        let mut names: Vec<String> = Vec::new();
        for block in &self.blocks {
            for linear in [&block.qkv, &block.proj, &block.fc1, &block.fc2] {
                let name = linear.kernel(arithmetic);
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
        let matrices: usize =
            self.linears().iter().map(|(_, linear)| linear.weight.resident_bytes()).sum();
        let biases: usize = self.linears().iter().map(|(_, linear)| length(&linear.bias)).sum();
        let vectors = norms.map(|norm| norm.gamma.len() + norm.beta.len()).sum::<usize>()
            + scales.chain(tokens).map(length).sum::<usize>()
            + biases;
        matrices + vectors * size_of::<f32>()
    }
}

fn length(vector: &Option<Vec<f32>>) -> usize {
    vector.as_ref().map_or(0, Vec::len)
}

impl Linear {
    /// The arithmetic that this layer is multiplied in when the model runs in `arithmetic`: float where it has no other.
    pub(crate) fn arithmetic(&self, arithmetic: Arithmetic) -> Arithmetic {
        if self.weight.supports(arithmetic) { arithmetic } else { Arithmetic::F32 }
    }

    /// Name of the kernel that multiplies with this layer when the model runs in `arithmetic`.
    pub(crate) fn kernel(&self, arithmetic: Arithmetic) -> String {
        self.weight.kernel_name(self.arithmetic(arithmetic))
    }
}

impl Block {
    fn norms(&self) -> impl Iterator<Item = &Norm> {
        [&self.norm1, &self.norm2].into_iter().chain(&self.q_norm).chain(&self.k_norm)
    }
}

/// Where the weights come from.
struct Source<'a, R> {
    reader: &'a mut Reader<R>,
    isa: Isa,
    /// That of every LayerNorm.
    epsilon: f32,
}

impl<R: Read + Seek> Source<'_, R> {
    fn block(&mut self, index: u32, config: &VitConfig) -> Result<Block, Error> {
        let name = |part: &str| format!("blocks.{index}.{part}");
        Ok(Block {
            norm1: self.norm(&name("norm1"))?,
            qkv: self.linear(&name("attn.qkv"))?,
            q_norm: self.optional_norm(&name("attn.q_norm"))?,
            k_norm: self.optional_norm(&name("attn.k_norm"))?,
            proj: self.linear(&name("attn.proj"))?,
            layer_scale1: self.optional_vector(&name("ls1.gamma"))?,
            norm2: self.norm(&name("norm2"))?,
            fc1: self.linear(&name("mlp.fc1"))?,
            activation: match config.activation {
                Activation::GeluErf => KernelActivation::GeluErf,
                Activation::GeluTanh => KernelActivation::GeluTanh,
                Activation::QuickGelu => KernelActivation::QuickGelu,
            },
            fc2: self.linear(&name("mlp.fc2"))?,
            layer_scale2: self.optional_vector(&name("ls2.gamma"))?,
        })
    }

    fn linear(&mut self, name: &str) -> Result<Linear, Error> {
        Ok(Linear {
            weight: self.matrix(&format!("{name}.weight"))?,
            bias: self.optional_vector(&format!("{name}.bias"))?,
        })
    }

    fn optional_linear(&mut self, name: &str) -> Result<Option<Linear>, Error> {
        let present = self.reader.entry(&format!("{name}.weight")).is_some();
        present.then(|| self.linear(name)).transpose()
    }

    fn norm(&mut self, name: &str) -> Result<Norm, Error> {
        Ok(Norm {
            gamma: self.vector(&format!("{name}.weight"))?,
            beta: self.vector(&format!("{name}.bias"))?,
            epsilon: self.epsilon,
        })
    }

    fn optional_norm(&mut self, name: &str) -> Result<Option<Norm>, Error> {
        let present = self.reader.entry(&format!("{name}.weight")).is_some();
        present.then(|| self.norm(name)).transpose()
    }

    fn optional_vector(&mut self, name: &str) -> Result<Option<Vec<f32>>, Error> {
        let present = self.reader.entry(name).is_some();
        present.then(|| self.vector(name)).transpose()
    }

    fn matrix(&mut self, name: &str) -> Result<Matrix, Error> {
        let failed = |error| {
            let kind = match error {
                MatrixError::Memory { .. } => ErrorKind::Limit,
                _ => ErrorKind::Invalid,
            };
            Error::new(kind, "cannot lay out the matrix").at_tensor(name).with_source(error)
        };
        let entry = self.entry(name)?;
        let (n, k) = matrix_shape(&entry.shape);
        let builder = match entry.encoding {
            Encoding::F32 => MatrixBuilder::f32(self.isa, n, k),
            Encoding::F16 => MatrixBuilder::f16(self.isa, n, k),
            Encoding::Codes(width) => MatrixBuilder::codes(self.isa, width.into(), n, k),
        };
        let is_codes = matches!(entry.encoding, Encoding::Codes(_));
        let mut builder = builder.map_err(failed)?;
        self.reader.rows(name, |rows| builder.push(rows).map_err(failed))?;
        let (scale, offset) = if is_codes {
            (self.vector(&format!("{name}.scale"))?, self.vector(&format!("{name}.offset"))?)
        } else {
            (Vec::new(), Vec::new())
        };
        builder.finish(&scale, &offset).map_err(failed)
    }

    /// The values of a tensor that is not stored as codes.
    fn vector(&mut self, name: &str) -> Result<Vec<f32>, Error> {
        let entry = self.entry(name)?;
        let encoding = entry.encoding;
        let count: usize = entry.shape.iter().map(|&dimension| dimension as usize).product();
        let mut values = Vec::new();
        values.try_reserve_exact(count).map_err(|error| {
            Error::new(ErrorKind::Limit, format!("no memory for {count} values"))
                .at_tensor(name)
                .with_source(error)
        })?;
        self.reader.values(name, |bytes| extend(&mut values, encoding, bytes))?;
        Ok(values)
    }

    fn entry(&self, name: &str) -> Result<&TensorEntry, Error> {
        self.reader.entry(name).ok_or_else(|| missing(name))
    }
}
