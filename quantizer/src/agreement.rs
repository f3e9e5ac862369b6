//! How often the integer compute mode gives the float mode's first class, on calibration images:
//! the figure that lets a runtime choose the faster mode by itself.

use std::sync::Arc;

use fresnel_runtime::{Compute, Error, Model, Session, SessionOptions};

use crate::calibration::CalibrationImages;

/// Images are enough to tell 95 % from 98 %, and cost a fraction of the calibration.
const IMAGES: usize = 64;

/// Percentage of the first 64 calibration images on which `int8` and `f32` activations
/// give `model` the same first class.
///
/// # Errors
/// Fails when an image can't be used or a session can't run.
pub fn int8_agreement(
    model: &Arc<Model>,
    images: &CalibrationImages,
    threads: usize,
) -> Result<f64, Error> {
    let session = |compute| {
        Session::new(model, SessionOptions { threads, compute, ..SessionOptions::default() })
    };
    let (mut float, mut integer) = (session(Compute::F32)?, session(Compute::Int8)?);
    let outputs = model.config().output_features() as usize;
    let (mut agreed, mut seen) = (0_usize, 0_usize);
    for batch in images.batches() {
        let (pixels, count) = batch?;
        let (float, integer) = (float.run(&pixels, count)?, integer.run(&pixels, count)?);
        agreed += float
            .chunks_exact(outputs)
            .zip(integer.chunks_exact(outputs))
            .filter(|(float, integer)| first_class(float) == first_class(integer))
            .count();
        seen += count;
        if seen >= IMAGES {
            break;
        }
    }
    Ok(100.0 * agreed as f64 / seen.max(1) as f64)
}

/// Index of the largest logit, the first among equals; `None` of no logits.
pub fn first_class(logits: &[f32]) -> Option<usize> {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a)))
}
