//! Residual streams of the calibration images, walked through a block from one linear layer to the
//! next.
//!
//! A walk holds one residual stream per batch and, inside a block, the heads' outputs; nothing else
//! is kept, and the input of each linear layer is made when it is asked for. The wide input of
//! `mlp.fc2` is made twice rather than stored. Memory is therefore two token matrices of width D
//! per image, whatever the depth.

use burn::tensor::Tensor;
use fresnel_runtime::Error;
use fresnel_runtime::model::config::VitConfig;

use super::images::BATCH;
use super::{
    Accumulator, Batch, CalibrationImages, DifferenceProducts, LayerWeights, Statistics,
    StreamDifference,
};
use crate::device::Device;
use crate::vit::{Block, BlockLinear, Embedding};

/// One model's residual streams.
#[derive(Debug, Clone)]
pub struct Walk {
    streams: Vec<Tensor<2>>,
    heads: Vec<Tensor<2>>,
}

impl Walk {
    /// Embeds all calibration images with each of `embeddings`, a walk for each; the images, whose
    /// decoding costs most, are prepared once.
    ///
    /// `progress` is told the number of images done.
    ///
    /// # Errors
    /// Fails with the path of an image that can't be used.
    pub fn begin<const N: usize>(
        device: &Device,
        embeddings: [&Embedding; N],
        images: &CalibrationImages,
        mut progress: impl FnMut(usize),
    ) -> Result<[Self; N], Error> {
        let mut walks = [(); N].map(|()| Self { streams: Vec::new(), heads: Vec::new() });
        for batch in images.batches() {
            let (pixels, count) = batch?;
            for (walk, embedding) in walks.iter_mut().zip(embeddings) {
                walk.streams.push(embedding.forward(device, pixels.clone(), count));
            }
            progress(count);
        }
        Ok(walks)
    }

    /// Number of batches.
    pub fn batches(&self) -> usize {
        self.streams.len()
    }

    /// The residual streams, one per batch: `[images * tokens, D]`.
    pub fn streams(&self) -> &[Tensor<2>] {
        &self.streams
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
    pub fn pass(&mut self, device: &Device, block: &Block, layer: BlockLinear) {
        let batches = 0..self.streams.len();
        let streams = &self.streams;
        match layer {
            BlockLinear::Qkv => {
                self.heads =
                    device.map(batches, |batch| block.projection_input(streams[batch].clone()));
            }
            BlockLinear::Projection => {
                let heads = std::mem::take(&mut self.heads);
                self.streams = device.map(batches, |batch| {
                    block.after_attention(streams[batch].clone(), heads[batch].clone())
                });
            }
            BlockLinear::Expansion => {}
            BlockLinear::Contraction => {
                self.streams = device.map(batches, |batch| block.after_mlp(streams[batch].clone()));
            }
        }
    }
}

/// What is gathered of a layer's inputs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gathering<'a> {
    /// Strength A of error correction: `X_t = X~ + A (X - X~)`.
    pub error_correction: f64,
    /// How much each token counts.
    pub token_weights: LayerWeights<'a>,
    /// Whether the difference of the residual streams is gathered in the layers that write to it.
    pub stream_difference: bool,
}

/// Gathers the statistics of `layer` over all batches.
///
/// `float` is a walk through the float model; without it `X_t = X~` and no stream difference is
/// gathered.
///
/// # Errors
/// Fails when the device fails.
pub fn gather(
    (device, config): (&Device, &VitConfig),
    (walk, block): (&Walk, &Block),
    float: Option<(&Walk, &Block)>,
    layer: BlockLinear,
    options: Gathering<'_>,
) -> Result<(Statistics, Option<StreamDifference>), Error> {
    let [inputs, channels] = block.linear(layer).weight.dims();
    let corrected = options.error_correction > 0.0;
    let mut sums = Accumulator::new(inputs, corrected && float.is_some());
    let mut difference = (options.stream_difference && layer.writes_to_stream() && float.is_some())
        .then(|| StreamDifference::new(inputs, channels));
    let with_difference = difference.is_some();
    let tokens = config.tokens() as usize;
    let products = |batch: usize| -> Result<_, Error> {
        let rows = walk.input(block, layer, batch);
        let count = rows.dims()[0];
        let weights = options.token_weights.rows(device, batch * BATCH * tokens, count);
        let mut target = None;
        let mut lacking = None;
        if let Some((float_walk, float_block)) = float {
            if corrected {
                let float_rows = float_walk.input(float_block, layer, batch);
                target =
                    Some(rows.clone() + (float_rows - rows.clone()) * options.error_correction);
            }
            if with_difference {
                let difference = float_walk.streams[batch].clone() - walk.streams[batch].clone();
                let products = DifferenceProducts::new(rows.clone(), difference, weights.clone());
                lacking = Some(products?);
            }
        }
        Ok((Batch { inputs: rows, target, weights }.products()?, lacking))
    };
    // As many batches at a time as there are threads: memory stays bounded, and adding them up in
    // order makes the sums the same for any number of threads.
    for first in (0..walk.batches()).step_by(device.lanes()) {
        let last = (first + device.lanes()).min(walk.batches());
        for result in device.map(first..last, products) {
            let (batch, lacking) = result?;
            sums.add(&batch);
            if let (Some(difference), Some(lacking)) = (&mut difference, &lacking) {
                difference.add(lacking);
            }
        }
    }
    Ok((sums.finish(), difference))
}
