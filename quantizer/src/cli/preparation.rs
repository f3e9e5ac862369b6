//! What commands do alike before they quantize.

use std::path::Path;

use fresnel_kernels::Pool;
use fresnel_runtime::Error;
use fresnel_runtime::cli::{Failure, Output, Progress, ReportArgs};

use crate::calibration::{CalibrationImages, Prepared};
use crate::device::Device;
use crate::import::FloatModel;

/// Gives quantization `threads` threads; 0 leaves it one per core.
///
/// # Errors
/// A usage error for more threads than a pool takes.
pub(super) fn use_threads(threads: usize) -> Result<(), Failure> {
    if threads > Pool::MAX_THREADS {
        return Err(Failure::usage(format!(
            "--threads {threads}: expected at most {}",
            Pool::MAX_THREADS
        )));
    }
    if threads > 0 {
        // Fails only where the pool runs already, and then it keeps its threads.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    }
    Ok(())
}

/// Says how many files of a calibration folder are left out, and why the first of them.
pub(super) fn report_unusable(output: &Output, images: Option<&CalibrationImages>) {
    let unusable = images.map(CalibrationImages::unusable).unwrap_or_default();
    if let Some(first) = unusable.first() {
        output.message(format_args!(
            "{} calibration images can't be used and are left out (--strict makes that an error), first: {first}",
            unusable.len(),
        ));
    }
}

/// Prepares `images` for calibration, with the tokens' Fisher information if `with_information`, and
/// shows how far it is.
///
/// # Errors
/// As [`Prepared::new`].
pub(super) fn prepare(
    model: &FloatModel,
    images: CalibrationImages,
    with_information: bool,
    device: &Device,
    cache: Option<&Path>,
    report: ReportArgs,
) -> Result<Prepared, Error> {
    let steps = if with_information { images.len() } else { 0 };
    let mut progress = Progress::new("weighing tokens", steps, report);
    Prepared::new(model, images, with_information, device, cache, |done| progress.advance(done))
}
