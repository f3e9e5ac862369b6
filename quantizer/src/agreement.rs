//! How often the faster compute modes give the float mode's first class, on calibration images: the
//! figures that let a runtime choose a faster mode by itself.
//!
//! A mode is measured where the machine runs it, so a file made without bfloat16 products lacks
//! [`HALF_AGREEMENT`], and a runtime does not choose `half` for it. Results of each mode have the same
//! bits on all machines that run it, hence so have the figures.

use std::sync::Arc;

use fresnel_kernels::{Arithmetic, Isa};
use fresnel_runtime::session::{HALF_AGREEMENT, INT8_AGREEMENT};
use fresnel_runtime::{Compute, Error, Model, Session, SessionOptions};

use crate::calibration::CalibrationImages;

/// Images are enough to tell 95 % from 98 %, and cost a fraction of the calibration.
const IMAGES: usize = 64;

/// The modes of a quantized model that are compared with `f32` on `isa`, and what the file calls the
/// figure of each.
pub fn compared_modes(isa: Isa) -> Vec<(Compute, &'static str)> {
    let mut modes = vec![(Compute::Int8, INT8_AGREEMENT)];
    if isa.supports(Arithmetic::Half) {
        modes.push((Compute::Half, HALF_AGREEMENT));
    }
    modes
}

/// Number of progress steps that [`agreements`] reports.
pub fn steps(images: &CalibrationImages) -> usize {
    IMAGES.min(images.len())
}

/// For each of [`compared_modes`] of the quantized `model`'s instruction set, the percentage of the
/// first 64 calibration images on which that mode and `f32` give the same first class. `progress` is told
/// of every few images that are done, of [`steps`] in all.
///
/// # Errors
/// Fails when an image can't be used or a session can't run.
pub fn agreements(
    model: &Arc<Model>,
    images: &CalibrationImages,
    threads: usize,
    mut progress: impl FnMut(usize),
) -> Result<Vec<(String, f64)>, Error> {
    let session = |compute| {
        Session::new(model, SessionOptions { threads, compute, ..SessionOptions::default() })
    };
    let mut float = session(Compute::F32)?;
    let mut others = Vec::new();
    for (compute, name) in model.isa().map(compared_modes).unwrap_or_default() {
        others.push((session(compute)?, name, 0_usize));
    }
    let outputs = model.config().output_features() as usize;
    let mut seen = 0_usize;
    for batch in images.batches() {
        let (pixels, count) = batch?;
        let float = float.run(&pixels, count)?;
        for (other, _, agreed) in &mut others {
            let other = other.run(&pixels, count)?;
            *agreed += float
                .chunks_exact(outputs)
                .zip(other.chunks_exact(outputs))
                .filter(|(float, other)| first_class(float) == first_class(other))
                .count();
        }
        seen += count;
        progress(count);
        if seen >= IMAGES {
            break;
        }
    }
    let percentage = |agreed: usize| 100.0 * agreed as f64 / seen.max(1) as f64;
    Ok(others.into_iter().map(|(_, name, agreed)| (name.to_owned(), percentage(agreed))).collect())
}

/// Index of the largest logit, the first among equals; `None` of no logits.
pub fn first_class(logits: &[f32]) -> Option<usize> {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a)))
}
