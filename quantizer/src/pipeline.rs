//! Quantizing a whole model: edges first, then the blocks' linear layers one after the other, each
//! from the inputs that the layers before it produce.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fresnel_kernels::Width;
use fresnel_runtime::format::{CodeWidth, TensorData};
use fresnel_runtime::model::config::{Role, TensorSpec, VitConfig};
use fresnel_runtime::{Error, ErrorKind};

use crate::algorithm::method::{Answer, CalibrateOn, Layer, Method, StatisticsOptions};
use crate::algorithm::{QuantizedLinear, rtn, transpose};
use crate::calibration::streams::{self, Gathering, Walk};
use crate::calibration::{Cache, Calibration, CalibrationImages, Statistics, StreamDifference};
use crate::device::Device;
use crate::import::FloatModel;
use crate::model_file::{code_tensors, float_tensor, round_to_stored};
use crate::vit::{Block, BlockLinear, Embedding};
use crate::widths::{LayerWidths, StoredWidth};

/// One layer in codes.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedLayer {
    /// timm's name of the weight.
    pub name: String,
    /// The weight's shape in the model.
    pub shape: Vec<u32>,
    /// Width of the codes.
    pub width: CodeWidth,
    /// Codes, scales and offsets as the file stores them.
    pub linear: QuantizedLinear,
    /// `||X_t W - X~ W^|| / ||X_t W||` on the calibration images after the initialization and after
    /// each sweep; empty for data-free methods.
    pub relative_errors: Vec<f64>,
    /// Number of channels that a data-aware method left to round to nearest.
    pub rounded_channels: usize,
}

/// A quantized model in memory.
#[derive(Debug, Clone, Default)]
pub struct QuantizedModel {
    /// Every layer in codes, in the order of quantization.
    pub layers: Vec<QuantizedLayer>,
    /// Float tensors that differ from the checkpoint's, by timm name.
    pub replaced: BTreeMap<String, Vec<f32>>,
    /// Time spent on forward passes and Gram matrices.
    pub statistics_time: Duration,
    /// Time spent on choosing codes.
    pub solver_time: Duration,
}

impl QuantizedModel {
    /// Every tensor of the file; float tensors in 16 bits where that costs no accuracy, edges that
    /// are not in codes in `edge`.
    ///
    /// # Errors
    /// Fails when a value is not finite, naming the tensor.
    pub fn tensors(
        &self,
        model: &FloatModel,
        edge: StoredWidth,
    ) -> Result<Vec<TensorData<'static>>, Error> {
        let mut tensors = Vec::new();
        for spec in model.config.tensors() {
            if let Some(layer) = self.layers.iter().find(|layer| layer.name == spec.name) {
                tensors.extend(code_tensors(&spec.name, &spec.shape, layer.width, &layer.linear)?);
                continue;
            }
            let full = spec.role == Role::Edge && edge == StoredWidth::Float32;
            let values = self.replaced.get(&spec.name).map_or(values(model, &spec), Vec::as_slice);
            tensors.push(float_tensor(&spec.name, &spec.shape, values, full)?);
        }
        Ok(tensors)
    }

    /// Rounds the grid to what the file stores, and takes the layer in.
    fn store(
        &mut self,
        spec: &TensorSpec,
        width: CodeWidth,
        answer: Answer,
    ) -> Result<&QuantizedLinear, Error> {
        let Answer { mut linear, relative_errors, rounded_channels } = answer;
        round_to_stored(&mut linear).map_err(|error| error.at_tensor(&spec.name))?;
        let (name, shape) = (spec.name.clone(), spec.shape.clone());
        self.layers.push(QuantizedLayer {
            name,
            shape,
            width,
            linear,
            relative_errors,
            rounded_channels,
        });
        Ok(&self.layers[self.layers.len() - 1].linear)
    }
}

/// Quantizes the linear layers of all blocks to their `widths` with `method`, and the patch
/// embedding and the head to `edge` with round to nearest.
///
/// `progress` is told of every finished step: one per calibration image embedded and one per layer.
///
/// # Errors
/// Fails when a data-aware method is given no images, when an image can't be used, and when the
/// device fails; layer errors name the layer.
pub fn quantize(
    model: &FloatModel,
    (method, statistics): (&Method, &StatisticsOptions),
    (widths, edge): (&LayerWidths, StoredWidth),
    calibration: Option<Calibration>,
    device: &Device,
    mut progress: impl FnMut(usize),
) -> Result<QuantizedModel, Error> {
    let mut result = QuantizedModel::default();
    let specs = model.config.tensors();
    if let StoredWidth::Codes(edge) = edge {
        for spec in specs.iter().filter(|spec| spec.role == Role::Edge) {
            let linear = rtn::quantize(&columns(model, spec), outputs(spec), levels(edge), false);
            result.store(spec, edge, Answer::data_free(linear))?;
        }
    }
    if let Method::Rtn { symmetric } = method {
        let solved = Instant::now();
        for spec in specs.iter().filter(|spec| spec.role == Role::Linear) {
            let width = widths.of(&spec.name);
            let linear =
                rtn::quantize(&columns(model, spec), outputs(spec), levels(width), *symmetric);
            result.store(spec, width, Answer::data_free(linear))?;
            progress(1);
        }
        result.solver_time = solved.elapsed();
        return Ok(result);
    }
    let calibration = calibration.ok_or_else(|| {
        Error::new(
            ErrorKind::Input,
            format!(
                "{} needs calibration images: give a folder or a csv with --calib",
                method.name()
            ),
        )
    })?;
    let sequential = Sequential { model, specs: &specs, widths, method, statistics, device };
    sequential.run(calibration, &mut result, &mut progress)?;
    Ok(result)
}

/// Number of linear layers of all blocks.
pub fn layers(config: &VitConfig) -> usize {
    BlockLinear::ALL.len() * config.depth as usize
}

/// Number of progress steps that [`quantize`] reports.
pub fn steps(
    config: &VitConfig,
    method: &Method,
    calibration: Option<&CalibrationImages>,
) -> usize {
    let layers = layers(config);
    if method.needs_calibration() {
        layers + calibration.map_or(0, CalibrationImages::len)
    } else {
        layers
    }
}

/// Layer after layer through the blocks, the residual streams walking along.
struct Sequential<'a> {
    model: &'a FloatModel,
    specs: &'a [TensorSpec],
    widths: &'a LayerWidths,
    method: &'a Method,
    statistics: &'a StatisticsOptions,
    device: &'a Device,
}

impl Sequential<'_> {
    fn run(
        &self,
        calibration: Calibration,
        result: &mut QuantizedModel,
        progress: &mut impl FnMut(usize),
    ) -> Result<(), Error> {
        let (config, weights) = (&self.model.config, &self.model.weights);
        let images = calibration.images;
        // Float inputs do not depend on the codes before them, so their statistics can be kept.
        let cache = calibration.cache.filter(|_| !self.statistics.depends_on_codes());
        if let Some(cache) = cache
            && self.run_from(cache, result, progress)?
        {
            return Ok(());
        }
        let on_quantized = self.statistics.calibrate_on == CalibrateOn::Quantized;
        let embedded = Instant::now();
        let float_embedding = Embedding::load(self.device, weights, config);
        let mut embedding = float_embedding.clone();
        let patch = result.layers.iter().find(|layer| layer.name.starts_with("patch_embed"));
        if let (true, Some(layer)) = (on_quantized, patch) {
            embedding.set_patch_weight(layer.linear.on_device(self.device));
        }
        let (mut walk, mut float_walk) = if self.statistics.needs_float_walk() {
            let embeddings = [&embedding, &float_embedding];
            let [walk, float_walk] = Walk::begin(self.device, embeddings, images, &mut *progress)?;
            (walk, Some(float_walk))
        } else {
            let [walk] = Walk::begin(self.device, [&embedding], images, &mut *progress)?;
            (walk, None)
        };
        let token_weights = self.statistics.token_weights.table(config, calibration.information)?;
        result.statistics_time += embedded.elapsed();
        for index in 0..config.depth as usize {
            let float_block = Block::load(self.device, weights, config, index);
            let mut block = float_block.clone();
            for layer in BlockLinear::ALL {
                let name = format!("blocks.{index}.{}", layer.name());
                let weights_here = token_weights.layer(index, layer);
                let float_walk_here = float_walk.as_ref().map(|walk| (walk, &float_block));
                let gathered = Instant::now();
                let options = Gathering {
                    error_correction: self.statistics.error_correction,
                    token_weights: weights_here,
                    stream_difference: self.statistics.stream_correction > 0.0,
                };
                let device = (self.device, config);
                let (statistics, difference) =
                    streams::gather(device, (&walk, &block), float_walk_here, layer, options)?;
                if let Some(cache) = cache {
                    cache.keep_statistics(&name, self.statistics.token_weights, &statistics)?;
                }
                result.statistics_time += gathered.elapsed();
                let change = self.layer(&name, &statistics, difference.as_ref(), result)?;
                let walked = Instant::now();
                if on_quantized {
                    let linear = block.linear_mut(layer);
                    linear.weight = change.linear.on_device(self.device);
                    if let (Some(bias), Some(change)) = (&mut linear.bias, &change.bias) {
                        *bias = bias.clone() + self.device.vector(change.clone());
                    }
                }
                walk.pass(self.device, &block, layer);
                if let Some(walk) = &mut float_walk {
                    walk.pass(self.device, &float_block, layer);
                }
                result.statistics_time += walked.elapsed();
                progress(1);
            }
        }
        Ok(())
    }

    /// Quantizes all layers from kept statistics; `false`, and `result` as before, where some are
    /// missing.
    fn run_from(
        &self,
        cache: &Cache,
        result: &mut QuantizedModel,
        progress: &mut impl FnMut(usize),
    ) -> Result<bool, Error> {
        let before = result.layers.len();
        for index in 0..self.model.config.depth as usize {
            for layer in BlockLinear::ALL {
                let name = format!("blocks.{index}.{}", layer.name());
                let read = Instant::now();
                let kept = cache.statistics(&name, self.statistics.token_weights);
                result.statistics_time += read.elapsed();
                let Some(statistics) = kept else {
                    result.layers.truncate(before);
                    result.replaced.clear();
                    return Ok(false);
                };
                self.layer(&name, &statistics, None, result)?;
            }
        }
        progress(result.layers.len() - before);
        Ok(true)
    }

    /// Quantizes one layer and puts it into `result`, a changed bias as well.
    fn layer(
        &self,
        name: &str,
        statistics: &Statistics,
        difference: Option<&StreamDifference>,
        result: &mut QuantizedModel,
    ) -> Result<Changed, Error> {
        let solved = Instant::now();
        let weight_name = format!("{name}.weight");
        let at_layer = |error: Error| error.at_tensor(&weight_name);
        let spec = self.specs.iter().find(|spec| spec.name == weight_name).ok_or_else(|| {
            at_layer(Error::new(ErrorKind::Invalid, "the configuration lacks this tensor"))
        })?;
        let weights = columns(self.model, spec);
        let width = self.widths.of(&weight_name);
        let bias_name = format!("{name}.bias");
        let bias = self.model.weights.get(&bias_name);
        let problem = Layer {
            weights: &weights,
            statistics,
            stream: difference.map(|difference| (difference, self.statistics.stream_correction)),
            has_bias: bias.is_some(),
            levels: levels(width),
        };
        let answer = self.method.solve(self.device, &problem).map_err(at_layer)?;
        let linear = result.store(spec, width, answer)?.clone();
        let dequantized = transpose(&linear.dequantize(), linear.outputs, linear.inputs);
        let change = self.method.bias_change(&problem, &dequantized);
        if let (Some(bias), Some(change)) = (bias, &change) {
            let bias = bias.values.iter().zip(change).map(|(a, b)| a + b).collect();
            result.replaced.insert(bias_name, bias);
        }
        result.solver_time += solved.elapsed();
        Ok(Changed { linear, bias: change })
    }
}

/// A quantized layer, and what is added to its bias.
struct Changed {
    linear: QuantizedLinear,
    bias: Option<Vec<f32>>,
}

fn levels(width: CodeWidth) -> u32 {
    Width::from(width).levels()
}

fn outputs(spec: &TensorSpec) -> usize {
    spec.shape.first().map_or(0, |&outputs| outputs as usize)
}

fn values<'a>(model: &'a FloatModel, spec: &TensorSpec) -> &'a [f32] {
    model.weights.get(&spec.name).map_or(&[], |tensor| &tensor.values)
}

/// A weight as N x C, one output channel per column.
fn columns(model: &FloatModel, spec: &TensorSpec) -> Vec<f32> {
    let values = values(model, spec);
    let outputs = outputs(spec);
    transpose(values, outputs, values.len() / outputs.max(1))
}
