//! How far each linear layer's output is from the float model's.
//!
//! The errors that solvers report are those of their own objectives: centred, weighted, corrected or
//! not. To compare methods, the finished model is run beside the float model, and the outputs of each
//! linear layer are compared as they are, with all that earlier layers have added.

use burn::tensor::Tensor;
use fresnel_runtime::Error;
use fresnel_runtime::exec::reference;
use fresnel_runtime::format::Container;
use fresnel_runtime::model::config::VitConfig;

use crate::calibration::CalibrationImages;
use crate::calibration::images::BATCH;
use crate::device::{Device, read};
use crate::import::Checkpoint;
use crate::import::checkpoint::FloatTensor;
use crate::vit::{Block, BlockLinear, Embedding};

/// Images that are looked at: their tokens are plenty for a mean.
pub const IMAGES: usize = 2 * BATCH;

/// A model's layers on a device, from the pixels to the last block.
#[derive(Debug, Clone)]
pub struct Network {
    embedding: Embedding,
    blocks: Vec<Block>,
}

impl Network {
    /// Uploads the layers of a float model.
    pub fn load(device: &Device, weights: &Checkpoint, config: &VitConfig) -> Self {
        Self {
            embedding: Embedding::load(device, weights, config),
            blocks: (0..config.depth as usize)
                .map(|index| Block::load(device, weights, config, index))
                .collect(),
        }
    }

    /// Uploads the layers of a file, codes expanded.
    ///
    /// # Errors
    /// Never for a container that has passed its checks.
    pub fn from_container(device: &Device, container: &Container) -> Result<Self, Error> {
        let config = &container.manifest().config;
        let mut tensors = reference::tensors(container)?;
        let weights: Checkpoint = config
            .tensors()
            .into_iter()
            .filter_map(|spec| {
                let values = tensors.remove(&spec.name)?;
                let values = values.into_iter().map(|value| value as f32).collect();
                let shape = spec.shape.iter().map(|&extent| extent as usize).collect();
                Some((spec.name, FloatTensor { shape, values }))
            })
            .collect();
        Ok(Self::load(device, &weights, config))
    }
}

/// `||Y - Y^|| / ||Y||` over the tokens of the first [`IMAGES`] images, by layer name, first to last;
/// `Y` is a layer's output in `float` and `Y^` that in `quantized`.
///
/// # Errors
/// Fails when an image can't be used or the device fails.
pub fn output_errors(
    device: &Device,
    (float, quantized): (&Network, &Network),
    images: &CalibrationImages,
) -> Result<Vec<(String, f64)>, Error> {
    let layers = float.blocks.len() * BlockLinear::ALL.len();
    // Squares of the difference and of the float output.
    let mut sums = vec![[0.0_f64; 2]; layers];
    for batch in images.batches().take(IMAGES / BATCH) {
        let (pixels, count) = batch?;
        let mut exact = Walker::new(float.embedding.forward(device, pixels.clone(), count));
        let mut walker = Walker::new(quantized.embedding.forward(device, pixels, count));
        let blocks = float.blocks.iter().zip(&quantized.blocks);
        let steps = blocks.flat_map(|pair| BlockLinear::ALL.map(|layer| (pair, layer)));
        for (((float_block, block), layer), sums) in steps.zip(&mut sums) {
            let output = exact.step(float_block, layer);
            let difference = walker.step(block, layer) - output.clone();
            sums[0] += sum_of_squares(difference)?;
            sums[1] += sum_of_squares(output)?;
        }
    }
    let names = (0..float.blocks.len())
        .flat_map(|block| BlockLinear::ALL.map(|layer| format!("blocks.{block}.{}", layer.name())));
    let error =
        |[difference, output]: [f64; 2]| (difference / output.max(f64::MIN_POSITIVE)).sqrt();
    Ok(names.zip(sums.into_iter().map(error)).collect())
}

/// A batch on its way through the blocks.
struct Walker {
    stream: Tensor<2>,
    /// Outputs of the attention heads, between `attn.qkv` and `attn.proj`.
    heads: Option<Tensor<2>>,
}

impl Walker {
    fn new(stream: Tensor<2>) -> Self {
        Self { stream, heads: None }
    }

    /// The output of `layer`; moves on behind it.
    fn step(&mut self, block: &Block, layer: BlockLinear) -> Tensor<2> {
        let stream = self.stream.clone();
        let input = match layer {
            BlockLinear::Qkv => {
                self.heads = Some(block.projection_input(stream.clone()));
                block.qkv_input(stream)
            }
            BlockLinear::Projection => {
                let heads =
                    self.heads.take().unwrap_or_else(|| block.projection_input(stream.clone()));
                self.stream = block.after_attention(stream, heads.clone());
                heads
            }
            BlockLinear::Expansion => block.expansion_input(stream),
            BlockLinear::Contraction => {
                self.stream = block.after_mlp(stream.clone());
                block.contraction_input(stream)
            }
        };
        block.linear(layer).forward(input)
    }
}

/// Rows are summed on the device, their sums in `f64`.
fn sum_of_squares(tensor: Tensor<2>) -> Result<f64, Error> {
    Ok(read((tensor.clone() * tensor).sum_dim(1))?.into_iter().map(f64::from).sum())
}
