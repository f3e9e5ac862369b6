//! Fisher information of the tokens: how much the float model's answer depends on each of them.
//!
//! For the output `y_t` of a linear layer at token t it is the expectation of
//! `||d log p(label|image) / d y_t||^2` with labels drawn from the model's own prediction, so none
//! are needed. Each output gets a probe added, a tensor of zeros whose gradient is the gradient of
//! the output; weights are constants, so nothing is computed for them. A model without classifier
//! counts as the mean of a Gaussian of unit variance around its features.

use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Tensor, TensorData};
use fresnel_runtime::Error;
use fresnel_runtime::model::config::VitConfig;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::CalibrationImages;
use super::streams::Walk;
use crate::device::{Device, read};
use crate::import::FloatModel;
use crate::vit::{BlockLinear, Embedding, Vit};

/// Labels drawn for each image.
const SAMPLES: usize = 2;

/// Draws the labels.
const SEED: u64 = 0;

/// The information of every token of every image, for each linear layer of the blocks in the order
/// of quantization.
#[derive(Debug, Clone, PartialEq)]
pub struct Information {
    /// One value per token row, image after image, for each layer.
    pub layers: Vec<Vec<f32>>,
}

impl Information {
    /// That of the first `images` images of `tokens` tokens.
    pub fn first(&self, images: usize, tokens: usize) -> Self {
        let first = |layer: &Vec<f32>| layer.iter().copied().take(images * tokens).collect();
        Self { layers: self.layers.iter().map(first).collect() }
    }
}

/// The information that `images` hold.
///
/// `progress` is told the number of images done.
///
/// # Errors
/// Fails with the path of an image that can't be used, and when the device fails.
pub fn information(
    model: &FloatModel,
    images: &CalibrationImages,
    device: &Device,
    mut progress: impl FnMut(usize),
) -> Result<Information, Error> {
    let config = &model.config;
    let embedding = Embedding::load(device, &model.weights, config);
    let [walk] = Walk::begin(device, [&embedding], images, |_| {})?;
    let tokens = config.tokens() as usize;
    let device = device.autodiff();
    let vit = Vit::load(&device, model);
    let mut layers = vec![Vec::new(); config.depth as usize * BlockLinear::ALL.len()];
    // One image in each backward pass, which keeps the activations of all blocks.
    let mut places = Vec::with_capacity(images.len());
    for (batch, stream) in walk.streams().iter().enumerate() {
        places.extend((0..stream.dims()[0] / tokens).map(|image| (batch, image * tokens)));
    }
    for start in (0..places.len()).step_by(device.lanes()) {
        let end = (start + device.lanes()).min(places.len());
        let results = device.map(start..end, |index| {
            let (batch, first) = places[index];
            let stream = walk.streams()[batch].clone().narrow(0, first, tokens);
            let random = ChaCha8Rng::seed_from_u64(SEED + index as u64);
            of_image(&device, &vit, config, stream, random)
        });
        for information in results {
            layers.iter_mut().zip(information?).for_each(|(layer, more)| layer.extend(more));
            progress(1);
        }
    }
    Ok(Information { layers })
}

/// The information of one image's tokens, layer by layer.
fn of_image(
    device: &Device,
    vit: &Vit,
    config: &VitConfig,
    stream: Tensor<2>,
    mut random: ChaCha8Rng,
) -> Result<Vec<Vec<f32>>, Error> {
    let rows = stream.dims()[0];
    let mut probes = Vec::new();
    let mut probed = vit.clone();
    for block in &mut probed.blocks {
        for layer in BlockLinear::ALL {
            let linear = block.linear_mut(layer);
            let outputs = linear.weight.dims()[1];
            let probe = Tensor::<2>::zeros([rows * SAMPLES, outputs], device.burn()).require_grad();
            linear.probe = Some(probe.clone());
            probes.push(probe);
        }
    }
    let copies = Tensor::cat(vec![stream; SAMPLES], 0).autodiff();
    let output = probed.logits(copies);
    let [images, features] = output.dims();
    let log_likelihood = if config.num_classes > 0 {
        let probabilities = read(softmax(output.clone().inner(), 1))?;
        let mut chosen = vec![0.0; images * features];
        for (row, chosen) in
            probabilities.chunks_exact(features).zip(chosen.chunks_exact_mut(features))
        {
            chosen[draw(row, &mut random)] = 1.0;
        }
        log_softmax(output, 1) * mask(device, chosen, [images, features])
    } else {
        let noise = (0..images * features).map(|_| normal(&mut random)).collect();
        output * mask(device, noise, [images, features])
    };
    let gradients = log_likelihood.sum().backward();
    probes
        .iter()
        .map(|probe| {
            let Some(gradient) = probe.grad(&gradients) else {
                // The output takes no part in the answer.
                return Ok(vec![0.0; rows]);
            };
            let squares = read((gradient.clone() * gradient).sum_dim(1))?;
            let mut sum = vec![0.0; rows];
            for sample in squares.chunks_exact(rows) {
                sum.iter_mut().zip(sample).for_each(|(sum, square)| *sum += square);
            }
            Ok(sum)
        })
        .collect()
}

fn mask(device: &Device, values: Vec<f32>, shape: [usize; 2]) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, shape), device.burn())
}

/// Draws an index by its probability.
fn draw(probabilities: &[f32], random: &mut impl Rng) -> usize {
    let mut left = random.random::<f32>() * probabilities.iter().sum::<f32>();
    for (index, probability) in probabilities.iter().enumerate() {
        left -= probability;
        if left <= 0.0 {
            return index;
        }
    }
    probabilities.len() - 1
}

/// A draw from the normal distribution, by the transform of Box and Muller.
fn normal(random: &mut impl Rng) -> f32 {
    let (radius, angle) = (1.0 - random.random::<f32>(), random.random::<f32>());
    (-2.0 * radius.ln()).sqrt() * (std::f32::consts::TAU * angle).cos()
}
