//! How much the model's answers change when one layer alone is quantized.
//!
//! The loss is the Kullback-Leibler divergence of the class probabilities from the float model's,
//! with one layer in codes and all others in float. Losses of single layers are small, so they add
//! up, and each is far above the noise of the few images that it takes. Exchanging one layer of a
//! model that is in codes throughout says less: there, any exchange throws the later layers off,
//! whose codes are fitted to the inputs they had, by more than most widths are worth.
//!
//! Layers are solved from the float model's inputs and measured on images that those statistics
//! have not seen. What lies before the layer is not computed again: a walk ([`Walk`]) goes through
//! the float model once, and each candidate only takes the rest of the way.

use fresnel_kernels::Width;
use fresnel_runtime::format::CodeWidth;
use fresnel_runtime::{Error, ErrorKind};

use crate::algorithm::method::{Layer, Method};
use crate::algorithm::transpose;
use crate::calibration::streams::{self, Gathering, Walk};
use crate::calibration::{CalibrationImages, Statistics, TokenWeights};
use crate::device::{Device, read};
use crate::import::FloatModel;
use crate::model_file::round_to_stored;
use crate::vit::{Block, BlockLinear, Linear, Vit};

/// One layer's losses.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerSensitivity {
    /// timm's name of the weight.
    pub name: String,
    /// Loss of the whole model with this layer at each width, in the order of the widths; empty for
    /// a layer that was not measured.
    pub losses: Vec<f64>,
}

/// What a measurement is made with.
#[derive(Debug, Clone, Copy)]
pub struct Measurement<'a> {
    /// The float model.
    pub model: &'a FloatModel,
    /// How codes are chosen.
    pub method: &'a Method,
    /// How much each token counts in the statistics.
    pub token_weights: TokenWeights,
    /// Images that the statistics are of.
    pub calibration: &'a CalibrationImages,
    /// Images that the losses are measured on.
    pub probes: &'a CalibrationImages,
    /// Where to compute.
    pub device: &'a Device,
}

impl Measurement<'_> {
    /// Number of progress steps that [`Measurement::run`] reports.
    pub fn steps(&self) -> usize {
        BlockLinear::ALL.len() * self.model.config.depth as usize
    }

    /// Measures the linear layers of the blocks at each of `widths`, those that `wanted` says no to
    /// (by timm's name of the weight) excepted. The result has all layers in their order.
    ///
    /// # Errors
    /// Fails when an image can't be used, when the device fails, and when the model's answers are
    /// not finite; layer errors name the layer.
    pub fn run(
        &self,
        widths: &[CodeWidth],
        wanted: impl Fn(&str) -> bool,
        mut progress: impl FnMut(usize),
    ) -> Result<Vec<LayerSensitivity>, Error> {
        let vit = Vit::load(self.device, self.model);
        let begin = |images| Walk::begin(self.device, &vit.embedding, images, |_| {});
        let mut walk = begin(self.calibration)?;
        let mut probe = begin(self.probes)?;
        let reference = probe
            .streams()
            .iter()
            .map(|stream| read(vit.logits(stream.clone())))
            .collect::<Result<Vec<_>, Error>>()?;
        let mut result = Vec::new();
        for (index, block) in vit.blocks.iter().enumerate() {
            for layer in BlockLinear::ALL {
                let name = format!("blocks.{index}.{}.weight", layer.name());
                let mut losses = Vec::new();
                if wanted(&name) {
                    let at = |error: Error| error.at_tensor(&name);
                    let solver = self.solver(&name, layer, (&walk, block)).map_err(at)?;
                    for &width in widths {
                        let mut exchanged = block.clone();
                        *exchanged.linear_mut(layer) =
                            solver.solve(self, width, block.linear(layer)).map_err(at)?;
                        let answers = answers(probe.clone(), (&exchanged, layer), &vit, index)?;
                        losses.push(self.loss(&reference, &answers).map_err(at)?);
                    }
                }
                result.push(LayerSensitivity { name, losses });
                walk.pass(block, layer);
                probe.pass(block, layer);
                progress(1);
            }
        }
        Ok(result)
    }

    /// Gathers the statistics of one layer.
    fn solver(
        &self,
        name: &str,
        layer: BlockLinear,
        walk: (&Walk, &Block),
    ) -> Result<LayerSolver, Error> {
        // The float model's inputs are the target's: there is nothing to correct.
        let options = Gathering {
            error_correction: 0.0,
            token_weights: self.token_weights,
            stream_difference: false,
        };
        let (statistics, _) =
            streams::gather((self.device, &self.model.config), walk, None, layer, options)?;
        let [inputs, outputs] = walk.1.linear(layer).weight.dims();
        let values = self.model.weights.get(name).map_or(&[][..], |tensor| &tensor.values);
        Ok(LayerSolver { weights: transpose(values, outputs, inputs), statistics })
    }

    /// Mean over the images of what `answers` differ from `reference`, batch by batch.
    fn loss(&self, reference: &[Vec<f32>], answers: &[Vec<f32>]) -> Result<f64, Error> {
        let outputs = self.model.config.output_features() as usize;
        let difference =
            if self.model.config.num_classes > 0 { divergence } else { relative_difference };
        let pairs = reference.iter().zip(answers).flat_map(|(reference, answers)| {
            reference.chunks_exact(outputs).zip(answers.chunks_exact(outputs))
        });
        let differences: Vec<f64> = pairs.map(|(p, q)| difference(p, q)).collect();
        let mean = differences.iter().sum::<f64>() / differences.len().max(1) as f64;
        if !mean.is_finite() {
            return Err(Error::new(
                ErrorKind::Invalid,
                "the model's answers are not finite with this layer quantized",
            ));
        }
        Ok(mean)
    }
}

/// One layer's statistics, from which it is solved at several widths.
struct LayerSolver {
    /// N x C row-major.
    weights: Vec<f32>,
    statistics: Statistics,
}

impl LayerSolver {
    /// The layer in codes of `width`, as the runtime will compute it.
    fn solve(
        &self,
        measurement: &Measurement,
        width: CodeWidth,
        float: &Linear,
    ) -> Result<Linear, Error> {
        let Measurement { method, device, .. } = *measurement;
        let problem = Layer {
            weights: &self.weights,
            statistics: &self.statistics,
            stream: None,
            has_bias: float.bias.is_some(),
            levels: Width::from(width).levels(),
        };
        let mut linear = method.solve(device, &problem)?.linear;
        round_to_stored(&mut linear)?;
        let dequantized = transpose(&linear.dequantize(), linear.outputs, linear.inputs);
        let change = method.bias_change(&problem, &dequantized);
        let bias = match (float.bias.clone(), change) {
            (Some(bias), Some(change)) => Some(bias + device.vector(change)),
            (bias, _) => bias,
        };
        Ok(Linear { weight: linear.on_device(device), bias })
    }
}

/// The answers of `model` with block `index` exchanged for `block`, from just before `layer` on.
fn answers(
    mut walk: Walk,
    (block, layer): (&Block, BlockLinear),
    model: &Vit,
    index: usize,
) -> Result<Vec<Vec<f32>>, Error> {
    for layer in BlockLinear::ALL.into_iter().skip_while(|&earlier| earlier != layer) {
        walk.pass(block, layer);
    }
    walk.streams().iter().map(|stream| read(model.logits_from(index + 1, stream.clone()))).collect()
}

/// Kullback-Leibler divergence of the probabilities of `logits` from those of `reference`.
fn divergence(reference: &[f32], logits: &[f32]) -> f64 {
    let (reference, logits) = (log_probabilities(reference), log_probabilities(logits));
    reference.iter().zip(&logits).map(|(p, q)| p.exp() * (p - q)).sum()
}

fn log_probabilities(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(f64::from(x)));
    let sum: f64 = logits.iter().map(|&x| (f64::from(x) - largest).exp()).sum();
    logits.iter().map(|&x| f64::from(x) - largest - sum.ln()).collect()
}

/// `||q - p||^2 / ||p||^2`, for models that answer with features.
fn relative_difference(reference: &[f32], features: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let energy: f64 = reference.iter().map(|&x| square(f64::from(x))).sum();
    let difference: f64 =
        reference.iter().zip(features).map(|(&p, &q)| square(f64::from(q) - f64::from(p))).sum();
    difference / energy.max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_is_that_of_the_probabilities() {
        let (p, q) = ([0.2_f64, 0.3, 0.5], [0.1_f64, 0.6, 0.3]);
        let expected: f64 = p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum();
        // Logits are probabilities' logarithms but for a constant.
        let logits = |p: [f64; 3], constant: f64| p.map(|p| (p.ln() + constant) as f32);
        let found = divergence(&logits(p, 3.0), &logits(q, -70.0));
        assert!((found - expected).abs() < 1e-5, "{found}, expected {expected}");
        assert!(divergence(&logits(p, 0.0), &logits(p, 9.0)).abs() < 1e-6);
        assert!(divergence(&[1e30, 0.0], &[0.0, 1e30]).is_finite());
    }

    #[test]
    fn features_are_compared_by_their_distance() {
        assert!((relative_difference(&[3.0, 4.0], &[3.0, 5.0]) - 0.04).abs() < 1e-12);
        assert!(relative_difference(&[0.0], &[0.0]).abs() < 1e-12);
    }
}
