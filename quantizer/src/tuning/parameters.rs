//! The vectors that are tuned: their values, how fast each may move, and how the file keeps them.

use fresnel_kernels::Width;
use fresnel_runtime::Error;

use super::TuningOptions;
use crate::model_file::{round_to_stored, stored_values};
use crate::pipeline::{QuantizedLayer, QuantizedModel};
use crate::vit::VectorKind;

/// One tuned vector.
#[derive(Debug, Clone)]
pub(super) struct Parameter {
    /// Its name in a file.
    pub(super) name: String,
    pub(super) kind: VectorKind,
    /// For [`VectorKind::Offset`] the weight at the middle of the alphabet, `d + c (levels - 1) / 2`.
    pub(super) values: Vec<f32>,
    /// Learning rate of each value before the decay.
    pub(super) rates: Vec<f32>,
}

impl Parameter {
    pub(super) fn is_finite(&self) -> bool {
        self.values.iter().all(|value| value.is_finite())
    }
}

/// Middle of a layer's alphabet.
///
/// Tuned codes are counted from here: the scale then widens the grid about its middle and the
/// offset moves it, two directions that a step of Adam can take apart.
pub(super) fn middle(layer: &QuantizedLayer) -> f32 {
    (Width::from(layer.width).levels() - 1) as f32 / 2.0
}

/// The layer to which a scale or an offset belongs.
fn layer_of<'a>(quantized: &'a mut QuantizedModel, name: &str) -> Option<&'a mut QuantizedLayer> {
    let (layer, _) = name.rsplit_once('.')?;
    quantized.layers.iter_mut().find(|candidate| candidate.name == layer)
}

/// Sets the learning rates: absolute for normalizations and biases, relative to the step of the
/// grid for scales and offsets.
pub(super) fn set_rates(parameters: &mut [Parameter], options: &TuningOptions) {
    let rates = &options.learning_rates;
    let mut scales = Vec::new();
    for parameter in parameters {
        parameter.rates = match parameter.kind {
            VectorKind::Norm => vec![rates.norms; parameter.values.len()],
            VectorKind::Bias => vec![rates.biases; parameter.values.len()],
            VectorKind::Scale => {
                scales.clone_from(&parameter.values);
                parameter.values.iter().map(|scale| rates.scales * scale).collect()
            }
            // The offset follows its scale.
            VectorKind::Offset => scales.iter().map(|scale| rates.offsets * scale).collect(),
        };
    }
}

/// Puts the parameters into `quantized`, rounded as the file keeps them.
///
/// # Errors
/// Fails when a value is not finite.
pub(super) fn store(parameters: &[Parameter], quantized: &mut QuantizedModel) -> Result<(), Error> {
    for parameter in parameters {
        let mut values = parameter.values.clone();
        let located = |error: Error| error.at_tensor(&parameter.name);
        match parameter.kind {
            VectorKind::Norm | VectorKind::Bias => {
                stored_values(&mut values).map_err(located)?;
                quantized.replaced.insert(parameter.name.clone(), values);
            }
            VectorKind::Scale => {
                if let Some(layer) = layer_of(quantized, &parameter.name) {
                    // A negative scale would turn the alphabet round; none is what it comes to.
                    layer.linear.scale = values.iter().map(|scale| scale.max(0.0)).collect();
                    round_to_stored(&mut layer.linear).map_err(located)?;
                }
            }
            VectorKind::Offset => {
                if let Some(layer) = layer_of(quantized, &parameter.name) {
                    let middle = middle(layer);
                    let grid = values.iter().zip(&layer.linear.scale);
                    layer.linear.offset =
                        grid.map(|(value, scale)| value - scale * middle).collect();
                    round_to_stored(&mut layer.linear).map_err(located)?;
                }
            }
        }
    }
    Ok(())
}
