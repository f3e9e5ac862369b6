//! Quantizing a whole model: edges first, then the blocks' linear layers one after the other, each
//! from the inputs that the layers before it produce.

use std::time::{Duration, Instant};

use fresnel_kernels::Width;
use fresnel_runtime::format::{CodeWidth, TensorData};
use fresnel_runtime::model::config::{Role, TensorSpec, VitConfig};
use fresnel_runtime::{Error, ErrorKind};

use crate::algorithm::{QuantizedLinear, beacon, rtn, transpose};
use crate::calibration::CalibrationImages;
use crate::calibration::streams::{self, Walk};
use crate::device::Device;
use crate::import::FloatModel;
use crate::model_file::{code_tensors, float_tensor, round_to_stored};
use crate::vit::{Block, BlockLinear, Embedding};
use crate::widths::StoredWidth;

/// How the linear layers of the blocks are quantized.
#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    /// Round to nearest on the min-max grid; needs no images.
    Rtn {
        /// Symmetric grid instead of the asymmetric one.
        symmetric: bool,
    },
    /// The paper's method.
    Beacon {
        /// The paper's parameters.
        options: beacon::Options,
        /// Whose inputs the statistics are of.
        calibrate_on: CalibrateOn,
        /// Strength A of error correction: 0 is none, 1 the paper's.
        error_correction: f64,
    },
}

/// Whose inputs the statistics of a layer are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum CalibrateOn {
    /// The float model's: layers do not see each other's errors
    Float,
    /// The model whose earlier layers are quantized already
    #[default]
    Quantized,
}

impl Method {
    /// The method's name on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Rtn { .. } => "rtn",
            Self::Beacon { .. } => "beacon",
        }
    }
}

/// What happened to one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerReport {
    /// timm's name of the weight.
    pub name: String,
    /// Stored width.
    pub width: StoredWidth,
    /// `||X_t W - X~ W^|| / ||X_t W||` on the calibration images after the initialization and after
    /// each sweep; empty for data-free methods.
    pub relative_errors: Vec<f64>,
}

/// A quantized model, ready to be written.
#[derive(Debug)]
pub struct QuantizedModel {
    /// Every tensor of the file.
    pub tensors: Vec<TensorData<'static>>,
    /// One entry per quantized layer, in the order of quantization.
    pub layers: Vec<LayerReport>,
    /// Time spent on forward passes and Gram matrices.
    pub statistics_time: Duration,
    /// Time spent on choosing codes.
    pub solver_time: Duration,
}

/// Quantizes the linear layers of all blocks to `width` with `method`, and the patch embedding and
/// the head to `edge` with round to nearest.
///
/// `progress` is told of every finished step: one per calibration image embedded and one per layer.
///
/// # Errors
/// Fails when a data-aware method is given no images, when an image can't be used, and when the
/// device fails; layer errors name the layer.
pub fn quantize(
    model: &FloatModel,
    method: &Method,
    (width, edge): (CodeWidth, StoredWidth),
    calibration: Option<&CalibrationImages>,
    device: &Device,
    mut progress: impl FnMut(usize),
) -> Result<QuantizedModel, Error> {
    let mut result = QuantizedModel {
        tensors: Vec::new(),
        layers: Vec::new(),
        statistics_time: Duration::ZERO,
        solver_time: Duration::ZERO,
    };
    let mut patch_embedding = None;
    for spec in model.config.tensors() {
        match (spec.role, edge) {
            (Role::Linear, _) => {}
            (Role::Edge, StoredWidth::Codes(edge_width)) => {
                let mut linear = edge_codes(model, &spec, edge_width);
                round_to_stored(&mut linear).map_err(|error| error.at_tensor(&spec.name))?;
                result.tensors.extend(code_tensors(&spec.name, &spec.shape, edge_width, &linear)?);
                result.layers.push(report(&spec.name, edge, Vec::new()));
                if spec.name.starts_with("patch_embed") {
                    patch_embedding = Some(linear);
                }
            }
            (Role::Edge | Role::Other, _) => {
                let full = spec.role == Role::Edge && edge == StoredWidth::Float32;
                result.tensors.push(float_tensor(
                    &spec.name,
                    &spec.shape,
                    values(model, &spec),
                    full,
                )?);
            }
        }
    }
    match method {
        Method::Rtn { symmetric } => {
            for spec in model.config.tensors().iter().filter(|spec| spec.role == Role::Linear) {
                let linear =
                    rtn::quantize(&columns(model, spec), outputs(spec), levels(width), *symmetric);
                store(&mut result, spec, width, linear, Vec::new())?;
                progress(1);
            }
        }
        Method::Beacon { options, calibrate_on, error_correction } => {
            let images = calibration.ok_or_else(|| {
                Error::new(
                    ErrorKind::Input,
                    "beacon needs calibration images: give a folder or a csv with --calib"
                        .to_owned(),
                )
            })?;
            let sequential = Sequential {
                model,
                width,
                options,
                on_quantized: *calibrate_on == CalibrateOn::Quantized,
                error_correction: *error_correction,
                device,
            };
            sequential.run(images, patch_embedding.as_ref(), &mut result, &mut progress)?;
        }
    }
    Ok(result)
}

/// Number of progress steps that [`quantize`] reports.
pub fn steps(
    config: &VitConfig,
    method: &Method,
    calibration: Option<&CalibrationImages>,
) -> usize {
    let layers = BlockLinear::ALL.len() * config.depth as usize;
    match method {
        Method::Rtn { .. } => layers,
        Method::Beacon { .. } => layers + calibration.map_or(0, CalibrationImages::len),
    }
}

/// Layer after layer through the blocks, the residual streams walking along.
struct Sequential<'a> {
    model: &'a FloatModel,
    width: CodeWidth,
    options: &'a beacon::Options,
    on_quantized: bool,
    error_correction: f64,
    device: &'a Device,
}

impl Sequential<'_> {
    fn run(
        &self,
        images: &CalibrationImages,
        patch_embedding: Option<&QuantizedLinear>,
        result: &mut QuantizedModel,
        progress: &mut impl FnMut(usize),
    ) -> Result<(), Error> {
        let (config, weights) = (&self.model.config, &self.model.weights);
        let embedded = Instant::now();
        let float_embedding = Embedding::load(self.device, weights, config);
        let mut embedding = float_embedding.clone();
        if let (true, Some(linear)) = (self.on_quantized, patch_embedding) {
            embedding.set_patch_weight(self.upload(linear));
        }
        let mut walk = Walk::begin(self.device, &embedding, images, &mut *progress)?;
        let mut float_walk = if self.error_correction > 0.0 {
            Some(Walk::begin(self.device, &float_embedding, images, |_| {})?)
        } else {
            None
        };
        result.statistics_time += embedded.elapsed();
        for index in 0..config.depth as usize {
            let float_block = Block::load(self.device, weights, config, index);
            let mut block = float_block.clone();
            for layer in BlockLinear::ALL {
                let name = format!("blocks.{index}.{}.weight", layer.name());
                let gathered = Instant::now();
                let statistics = streams::statistics(
                    (&walk, &block),
                    float_walk.as_ref().map(|walk| (walk, &float_block)),
                    layer,
                    self.error_correction,
                )
                .map_err(|error| error.at_tensor(&name))?;
                result.statistics_time += gathered.elapsed();

                let spec = self.spec(&name)?;
                let solved = Instant::now();
                let solution = beacon::solve(
                    self.device,
                    &statistics,
                    &columns(self.model, &spec),
                    levels(self.width),
                    self.options,
                )
                .map_err(|error| error.at_tensor(&name))?;
                let errors = solution.relative_errors();
                let mut linear = solution.into_linear();
                round_to_stored(&mut linear).map_err(|error| error.at_tensor(&name))?;
                result.solver_time += solved.elapsed();

                let walked = Instant::now();
                if self.on_quantized {
                    block.set_weight(layer, self.upload(&linear));
                }
                walk.pass(&block, layer);
                if let Some(walk) = &mut float_walk {
                    walk.pass(&float_block, layer);
                }
                result.statistics_time += walked.elapsed();
                store(result, &spec, self.width, linear, errors)?;
                progress(1);
            }
        }
        Ok(())
    }

    /// The dequantized weight on the device, N x C.
    fn upload(&self, linear: &QuantizedLinear) -> burn::tensor::Tensor<2> {
        self.device.matrix(linear.dequantize(), linear.outputs, linear.inputs).transpose()
    }

    fn spec(&self, name: &str) -> Result<TensorSpec, Error> {
        self.model.config.tensors().into_iter().find(|spec| spec.name == name).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "the configuration lacks this tensor".to_owned())
                .at_tensor(name)
        })
    }
}

fn store(
    result: &mut QuantizedModel,
    spec: &TensorSpec,
    width: CodeWidth,
    mut linear: QuantizedLinear,
    errors: Vec<f64>,
) -> Result<(), Error> {
    round_to_stored(&mut linear).map_err(|error| error.at_tensor(&spec.name))?;
    result.tensors.extend(code_tensors(&spec.name, &spec.shape, width, &linear)?);
    result.layers.push(report(&spec.name, StoredWidth::Codes(width), errors));
    Ok(())
}

fn report(name: &str, width: StoredWidth, relative_errors: Vec<f64>) -> LayerReport {
    LayerReport { name: name.to_owned(), width, relative_errors }
}

fn edge_codes(model: &FloatModel, spec: &TensorSpec, width: CodeWidth) -> QuantizedLinear {
    rtn::quantize(&columns(model, spec), outputs(spec), levels(width), false)
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
