//! How far each linear layer's output is from the float model's.
//!
//! The errors that solvers report are those of their own objectives: centred, weighted, corrected or
//! not. To compare methods, the finished model is run beside the float model, and the outputs of each
//! linear layer are compared as they are, with all that earlier layers have added.

use burn::tensor::Tensor;
use fresnel_runtime::Error;
use fresnel_runtime::exec::reference;
use fresnel_runtime::format::Container;

use crate::calibration::CalibrationImages;
use crate::calibration::images::BATCH;
use crate::calibration::streams::Walk;
use crate::device::{Device, read};
use crate::import::Checkpoint;
use crate::import::checkpoint::FloatTensor;
use crate::vit::{Block, BlockLinear, Vit};

/// Images that are looked at: their tokens are plenty for a mean.
pub const IMAGES: usize = 2 * BATCH;

/// Uploads the model of a file, codes expanded.
///
/// # Errors
/// Never for a container that has passed its checks.
pub fn expanded(device: &Device, container: &Container) -> Result<Vit, Error> {
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
    Ok(Vit::from_weights(device, &weights, config))
}

/// `||Y - Y^|| / ||Y||` over the tokens of the first [`IMAGES`] images, by layer name, first to last;
/// `Y` is a layer's output in `float` and `Y^` that in `quantized`.
///
/// # Errors
/// Fails when an image can't be used or the device fails.
pub fn output_errors(
    device: &Device,
    (float, quantized): (&Vit, &Vit),
    images: &CalibrationImages,
) -> Result<Vec<(String, f64)>, Error> {
    let images = images.part(0..IMAGES.min(images.len()));
    let embeddings = [&float.embedding, &quantized.embedding];
    let [mut exact, mut walk] = Walk::begin(device, embeddings, &images, |_| {})?;
    let mut errors = Vec::new();
    for (index, (float_block, block)) in float.blocks.iter().zip(&quantized.blocks).enumerate() {
        for layer in BlockLinear::ALL {
            // Squares of the difference and of the float output.
            let mut sums = [0.0_f64; 2];
            for batch in 0..walk.batches() {
                let output = |walk: &Walk, block: &Block| {
                    block.linear(layer).forward(walk.input(block, layer, batch))
                };
                let expected = output(&exact, float_block);
                let difference = output(&walk, block) - expected.clone();
                sums[0] += sum_of_squares(difference)?;
                sums[1] += sum_of_squares(expected)?;
            }
            let error = (sums[0] / sums[1].max(f64::MIN_POSITIVE)).sqrt();
            errors.push((format!("blocks.{index}.{}", layer.name()), error));
            exact.pass(device, float_block, layer);
            walk.pass(device, block, layer);
        }
    }
    Ok(errors)
}

/// Rows are summed on the device, their sums in `f64`.
fn sum_of_squares(tensor: Tensor<2>) -> Result<f64, Error> {
    Ok(read((tensor.clone() * tensor).sum_dim(1))?.into_iter().map(f64::from).sum())
}
