//! Residual streams of the calibration images, walked through a block from one linear layer to the
//! next.
//!
//! A walk holds one residual stream per batch and, inside a block, the heads' outputs; nothing else
//! is kept, and the input of each linear layer is made when it is asked for. The wide input of
//! `mlp.fc2` is made twice rather than stored. Memory is therefore two token matrices of width D
//! per image, whatever the depth.

use burn::tensor::Tensor;
use fresnel_runtime::Error;

use super::{CalibrationImages, Statistics, statistics::Accumulator};
use crate::device::Device;
use crate::vit::{Block, BlockLinear, Embedding};

/// One model's residual streams.
#[derive(Debug, Clone)]
pub struct Walk {
    streams: Vec<Tensor<2>>,
    heads: Vec<Tensor<2>>,
}

impl Walk {
    /// Embeds all calibration images.
    ///
    /// # Errors
    /// Fails with the path of an image that can't be used.
    pub fn begin(
        device: &Device,
        embedding: &Embedding,
        images: &CalibrationImages,
        mut progress: impl FnMut(usize),
    ) -> Result<Self, Error> {
        let mut streams = Vec::new();
        for batch in images.batches() {
            let (pixels, count) = batch?;
            streams.push(embedding.forward(device, pixels, count));
            progress(count);
        }
        Ok(Self { streams, heads: Vec::new() })
    }

    /// Number of batches.
    pub fn batches(&self) -> usize {
        self.streams.len()
    }

    /// Input of `layer` for one batch, in the block that the walk is in.
    pub fn input(&self, block: &Block, layer: BlockLinear, batch: usize) -> Tensor<2> {
        let stream = || self.streams[batch].clone();
        match layer {
            BlockLinear::Qkv => block.qkv_input(stream()),
            BlockLinear::Projection => self.heads[batch].clone(),
            BlockLinear::Expansion => block.expansion_input(stream()),
            BlockLinear::Contraction => block.contraction_input(stream()),
        }
    }

    /// Moves on past `layer`, whose weight in `block` is final now.
    pub fn pass(&mut self, block: &Block, layer: BlockLinear) {
        match layer {
            BlockLinear::Qkv => {
                self.heads = self
                    .streams
                    .iter()
                    .map(|stream| block.projection_input(stream.clone()))
                    .collect();
            }
            BlockLinear::Projection => {
                let heads = std::mem::take(&mut self.heads);
                for (stream, heads) in self.streams.iter_mut().zip(heads) {
                    *stream = block.after_attention(stream.clone(), heads);
                }
            }
            BlockLinear::Expansion => {}
            BlockLinear::Contraction => {
                for stream in &mut self.streams {
                    *stream = block.after_mlp(stream.clone());
                }
            }
        }
    }
}

/// Gathers the statistics of `layer` over all batches of `inputs`.
///
/// With `target`, a walk through the float model, `X_t = X~ + A (X - X~)` for
/// `A = error_correction`; without it `X_t = X~`.
///
/// # Errors
/// Fails when the device fails.
pub fn statistics(
    inputs: (&Walk, &Block),
    target: Option<(&Walk, &Block)>,
    layer: BlockLinear,
    error_correction: f64,
) -> Result<Statistics, Error> {
    let (walk, block) = inputs;
    let [width, _] = block.linear(layer).weight.dims();
    let mut sums = Accumulator::new(width, target.is_some());
    for batch in 0..walk.batches() {
        let quantized = walk.input(block, layer, batch);
        let target = target.map(|(walk, block)| {
            let float = walk.input(block, layer, batch);
            quantized.clone() + (float - quantized.clone()) * error_correction
        });
        sums.add(quantized, target)?;
    }
    Ok(sums.finish())
}
