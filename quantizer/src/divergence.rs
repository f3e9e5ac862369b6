//! How far a quantized model's answers are from the float model's: the figure by which constants,
//! widths and tuning are chosen, on calibration images that took no part in them.

use std::sync::Arc;

use fresnel_runtime::format::{ManifestParts, TensorData, encode};
use fresnel_runtime::{Compute, Error, Model, Session, SessionOptions};

use crate::calibration::CalibrationImages;
use crate::import::FloatModel;
use crate::model_file::float_tensors;
use crate::widths::StoredWidth;

/// The float model's answers on some images.
#[derive(Debug)]
pub struct Reference<'a> {
    images: &'a CalibrationImages,
    outputs: Vec<f32>,
    features: usize,
    classes: bool,
    parts: ManifestParts,
}

impl<'a> Reference<'a> {
    /// Runs the float model on `images`.
    ///
    /// # Errors
    /// Fails with the path of an image that can't be used, and when a session can't run.
    pub fn new(model: &FloatModel, images: &'a CalibrationImages) -> Result<Self, Error> {
        let parts = ManifestParts {
            config: model.config.clone(),
            preprocessing: model.preprocessing.clone(),
            class_names: Vec::new(),
            recipe: Vec::new(),
            provenance: Vec::new(),
            measured: Vec::new(),
            metadata: Vec::new(),
        };
        let tensors = float_tensors(model, StoredWidth::Float32, StoredWidth::Float32)?;
        Ok(Self {
            outputs: outputs(&parts, &tensors, images)?,
            images,
            features: model.config.output_features() as usize,
            classes: model.config.num_classes > 0,
            parts,
        })
    }

    /// Mean over the images of the Kullback-Leibler divergence of a model's prediction from the
    /// float model's, in nats; of models without classifier the mean relative squared difference of
    /// the features.
    ///
    /// # Errors
    /// Fails when the tensors do not make up the model, or a session can't run.
    pub fn divergence(&self, tensors: &[TensorData]) -> Result<f64, Error> {
        let found = outputs(&self.parts, tensors, self.images)?;
        let distance = of_outputs(self.classes);
        let rows = self.outputs.chunks_exact(self.features).zip(found.chunks_exact(self.features));
        let total: f64 = rows.map(|(expected, found)| distance(expected, found)).sum();
        Ok(total / self.images.len().max(1) as f64)
    }
}

/// The outputs of the model that `tensors` make up, in float arithmetic.
fn outputs(
    parts: &ManifestParts,
    tensors: &[TensorData],
    images: &CalibrationImages,
) -> Result<Vec<f32>, Error> {
    let model: Arc<Model> = Model::from_bytes(encode(parts, tensors)?)?;
    let options = SessionOptions { compute: Compute::F32, ..SessionOptions::default() };
    let mut session = Session::new(&model, options)?;
    let mut outputs = Vec::new();
    for batch in images.batches() {
        let (pixels, count) = batch?;
        outputs.extend(session.run(&pixels, count)?);
    }
    Ok(outputs)
}

/// How one image's outputs are compared: classes by their probabilities, features by distance.
pub fn of_outputs(classes: bool) -> fn(&[f32], &[f32]) -> f64 {
    if classes { kullback_leibler } else { relative_difference }
}

/// `sum p log(p / q)` of the softmax of both rows, in nats.
pub fn kullback_leibler(expected: &[f32], found: &[f32]) -> f64 {
    let (expected, found) = (log_softmax(expected), log_softmax(found));
    expected.iter().zip(&found).map(|(p, q)| p.exp() * (p - q)).sum()
}

/// Natural logarithms of the softmax of one row, in `f64`.
pub fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shifted = || logits.iter().map(|&logit| f64::from(logit) - f64::from(largest));
    let total = shifted().map(f64::exp).sum::<f64>().ln();
    shifted().map(|logit| logit - total).collect()
}

/// `||q - p||^2 / ||p||^2`, for models that answer with features.
pub fn relative_difference(expected: &[f32], found: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let energy: f64 = expected.iter().map(|&p| square(f64::from(p))).sum();
    let pairs = expected.iter().zip(found);
    let difference: f64 = pairs.map(|(&p, &q)| square(f64::from(q) - f64::from(p))).sum();
    difference / energy.max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::{kullback_leibler, relative_difference};

    #[test]
    fn divergence_is_that_of_the_probabilities() {
        // p = (1/2, 1/4, 1/4), q = (1/4, 1/2, 1/4): KL = 1/2 ln 2 - 1/4 ln 2.
        let logits = |p: [f32; 3]| p.map(|p| p.ln() + 7.0);
        let (p, q) = (logits([0.5, 0.25, 0.25]), logits([0.25, 0.5, 0.25]));
        assert!((kullback_leibler(&p, &q) - 0.25 * 2.0_f64.ln()).abs() < 1e-6);
        assert!(kullback_leibler(&p, &p).abs() < 1e-12);
        assert!(kullback_leibler(&[1000.0, -1000.0], &[-1000.0, 1000.0]).is_finite());
    }

    #[test]
    fn features_are_compared_by_their_distance() {
        assert!((relative_difference(&[3.0, 4.0], &[3.0, 5.0]) - 0.04).abs() < 1e-12);
        assert!(relative_difference(&[0.0], &[0.0]).abs() < 1e-12);
    }
}
