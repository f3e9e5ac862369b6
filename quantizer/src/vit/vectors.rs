//! The small vectors of a model by the names that a file gives them: what can be tuned while the
//! codes stay fixed.

use burn::tensor::Tensor;

use super::{Block, BlockLinear, LayerNorm, Linear, Vit};

/// What a vector is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VectorKind {
    /// Factor or summand of a layer normalization.
    Norm,
    /// Bias of a linear layer.
    Bias,
    /// Scale of a linear layer's codes.
    Scale,
    /// Offset of a linear layer's codes.
    Offset,
}

/// A vector of a model under its name in a file.
type Named<'a> = (String, VectorKind, &'a mut Tensor<1>);

impl Vit {
    /// Every normalization's vectors, every bias behind the embedding, and scale and offset of the
    /// linear layers that keep them apart from the codes; always in the same order.
    ///
    /// The embedding's normalization is not among them.
    pub fn vectors_mut(&mut self) -> Vec<Named<'_>> {
        let mut vectors = Vec::new();
        for (index, block) in self.blocks.iter_mut().enumerate() {
            block.push_vectors(&format!("blocks.{index}."), &mut vectors);
        }
        let head = &mut self.head;
        for (name, norm) in [("norm", &mut head.norm), ("fc_norm", &mut head.fc_norm)] {
            if let Some(norm) = norm {
                norm.push_vectors(name, &mut vectors);
            }
        }
        for (name, linear) in [("head", &mut head.classifier), ("head_dist", &mut head.distilled)] {
            if let Some(linear) = linear {
                linear.push_vectors(name, &mut vectors);
            }
        }
        vectors
    }
}

impl Block {
    fn push_vectors<'a>(&'a mut self, prefix: &str, vectors: &mut Vec<Named<'a>>) {
        let (norms, linears) = self.parts_mut();
        for (name, norm) in norms {
            norm.push_vectors(&format!("{prefix}{name}"), vectors);
        }
        for (layer, linear) in BlockLinear::ALL.into_iter().zip(linears) {
            linear.push_vectors(&format!("{prefix}{}", layer.name()), vectors);
        }
    }
}

impl LayerNorm {
    /// Adds factor and summand.
    pub fn push_vectors<'a>(&'a mut self, name: &str, vectors: &mut Vec<Named<'a>>) {
        vectors.push((format!("{name}.weight"), VectorKind::Norm, &mut self.gamma));
        vectors.push((format!("{name}.bias"), VectorKind::Norm, &mut self.beta));
    }
}

impl Linear {
    fn push_vectors<'a>(&'a mut self, name: &str, vectors: &mut Vec<Named<'a>>) {
        if let Some(bias) = &mut self.bias {
            vectors.push((format!("{name}.bias"), VectorKind::Bias, bias));
        }
        if let Some(grid) = &mut self.grid {
            vectors.push((format!("{name}.weight.scale"), VectorKind::Scale, &mut grid.scale));
            vectors.push((format!("{name}.weight.offset"), VectorKind::Offset, &mut grid.offset));
        }
    }
}
