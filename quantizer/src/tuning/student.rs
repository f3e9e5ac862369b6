//! The quantized model with its tuned vectors in the place of constants.

use burn::tensor::Tensor;

use super::Tuned;
use super::parameters::{Parameter, middle};
use crate::device::{Device, read};
use crate::import::FloatModel;
use crate::pipeline::QuantizedModel;
use crate::vit::{Embedding, Grid, LayerNorm, VectorKind, Vit};
use fresnel_runtime::Error;

/// A quantized model on a device.
#[derive(Debug, Clone)]
pub(super) struct Student {
    vit: Vit,
    /// `norm_pre`, taken out of the embedding: everything before it is constant.
    first_norm: Option<LayerNorm>,
    tuned: Tuned,
}

impl Student {
    /// Uploads `quantized` as its file would be read.
    pub(super) fn new(
        device: &Device,
        model: &FloatModel,
        quantized: &QuantizedModel,
        tuned: Tuned,
    ) -> Self {
        let mut model = model.clone();
        for layer in &quantized.layers {
            model.weights.replace(&layer.name, layer.linear.dequantize());
        }
        for (name, values) in &quantized.replaced {
            model.weights.replace(name, values.clone());
        }
        let mut vit = Vit::load(device, &model);
        if tuned == Tuned::All {
            for layer in &quantized.layers {
                let Some(linear) = vit.block_linear_mut(&layer.name) else { continue };
                let (middle, grid) = (middle(layer), &layer.linear);
                let codes = grid.codes.iter().map(|&code| f32::from(code) - middle).collect();
                let offset = grid.offset.iter().zip(&grid.scale).map(|(d, c)| d + c * middle);
                linear.weight = device.matrix(codes, grid.outputs, grid.inputs).transpose();
                linear.grid = Some(Grid {
                    scale: device.vector(grid.scale.clone()),
                    offset: device.vector(offset.collect()),
                });
            }
        }
        Self { first_norm: vit.embedding.take_norm(), vit, tuned }
    }

    /// The constant part in front: pixels to what [`Student::outputs`] takes.
    pub(super) fn embedding(&self) -> &Embedding {
        &self.vit.embedding
    }

    /// Values of the tuned vectors.
    ///
    /// # Errors
    /// Fails when the device fails.
    pub(super) fn parameters(&mut self) -> Result<Vec<Parameter>, Error> {
        self.vectors_mut()
            .into_iter()
            .map(|(name, kind, vector)| {
                Ok(Parameter { name, kind, values: read(vector.clone())?, rates: Vec::new() })
            })
            .collect()
    }

    /// Logits or features of embedded images, with `vectors` for the tuned ones, and the residual
    /// stream after each block.
    pub(super) fn outputs(
        &self,
        vectors: &[Tensor<1>],
        stream: Tensor<2>,
    ) -> (Vec<Tensor<2>>, Tensor<2>) {
        let mut student = self.clone();
        for ((_, _, place), vector) in student.vectors_mut().into_iter().zip(vectors) {
            *place = vector.clone();
        }
        let stream = match &student.first_norm {
            Some(norm) => norm.forward(stream),
            None => stream,
        };
        student.vit.streams_and_logits(stream)
    }

    fn vectors_mut(&mut self) -> Vec<(String, VectorKind, &mut Tensor<1>)> {
        let mut vectors = self.vit.vectors_mut();
        if let Some(norm) = &mut self.first_norm {
            norm.push_vectors("norm_pre", &mut vectors);
        }
        vectors.retain(|(_, kind, _)| self.tuned == Tuned::All || *kind == VectorKind::Norm);
        vectors
    }
}
