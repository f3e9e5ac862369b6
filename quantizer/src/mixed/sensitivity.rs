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
use crate::calibration::{Calibration, CalibrationImages, LayerWeights, Statistics, TokenWeights};
use crate::device::{Device, read};
use crate::divergence;
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
    /// What the statistics are of.
    pub calibration: Calibration<'a>,
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
        let begin = |images| Walk::begin(self.device, [&vit.embedding], images, |_| {});
        let [mut walk] = begin(self.calibration.images)?;
        let weights = self.token_weights.table(&self.model.config, self.calibration.information)?;
        let [mut probe] = begin(self.probes)?;
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
                    let weights = weights.layer(index, layer);
                    let solver = self.solver(&name, layer, weights, (&walk, block)).map_err(at)?;
                    for &width in widths {
                        let mut exchanged = block.clone();
                        *exchanged.linear_mut(layer) =
                            solver.solve(self, width, block.linear(layer)).map_err(at)?;
                        let answers =
                            self.answers(probe.clone(), (&exchanged, layer), &vit, index)?;
                        losses.push(self.loss(&reference, &answers).map_err(at)?);
                    }
                }
                result.push(LayerSensitivity { name, losses });
                walk.pass(self.device, block, layer);
                probe.pass(self.device, block, layer);
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
        token_weights: LayerWeights,
        walk: (&Walk, &Block),
    ) -> Result<LayerSolver, Error> {
        // The float model's inputs are the target's: there is nothing to correct.
        let options = Gathering { error_correction: 0.0, token_weights, stream_difference: false };
        let (statistics, _) =
            streams::gather((self.device, &self.model.config), walk, None, layer, options)?;
        let [inputs, outputs] = walk.1.linear(layer).weight.dims();
        let values = self.model.weights.get(name).map_or(&[][..], |tensor| &tensor.values);
        Ok(LayerSolver { weights: transpose(values, outputs, inputs), statistics })
    }

    /// The answers of `model` with block `index` exchanged for `block`, from just before `layer` on.
    fn answers(
        &self,
        mut walk: Walk,
        (block, layer): (&Block, BlockLinear),
        model: &Vit,
        index: usize,
    ) -> Result<Vec<Vec<f32>>, Error> {
        for layer in BlockLinear::ALL.into_iter().skip_while(|&earlier| earlier != layer) {
            walk.pass(self.device, block, layer);
        }
        let streams = walk.streams();
        let answer = |batch: usize| read(model.logits_from(index + 1, streams[batch].clone()));
        self.device.map(0..streams.len(), answer).into_iter().collect()
    }

    /// Mean over the images of what `answers` differ from `reference`, batch by batch.
    fn loss(&self, reference: &[Vec<f32>], answers: &[Vec<f32>]) -> Result<f64, Error> {
        let outputs = self.model.config.output_features() as usize;
        let difference = divergence::of_outputs(self.model.config.num_classes > 0);
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
        Ok(Linear { weight: linear.on_device(device), bias, grid: None, probe: None })
    }
}
