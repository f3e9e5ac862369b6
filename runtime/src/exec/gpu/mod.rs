//! The forward pass on a GPU.
//!
//! A pass over some images is recorded whole and submitted at once: `pass` holds it, `builder` and `head` put its steps
//! together. Work that would keep a small device busy for long is submitted in parts. Batches are cut into passes. While one is
//! computed, the pixels of the next are written and the results of the one before are read.
//!
//! Which kernel and tile computes a product is measured when the first pass of a batch class (up to a power of two images) is put
//! together, where sessions are to ([`Autotuner`]); else it follows from the device and the shape alone.
//!
//! An image's result does not depend on the batch or the pass that it falls into, but for the last bits of half-precision and
//! float sums where the device takes other kernels for fewer rows, or measuring finds others to be faster. Integer sums are exact
//! in any.

mod builder;
mod head;
mod pass;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fresnel_kernels::Arithmetic;
use fresnel_kernels::gpu::{self, Autotuner, Readback, Recorder, Submission};

use super::patches::Sizes;
use super::profile::{Clock, Profile};
use crate::cancel::CancelFlag;
use crate::error::Error;
use crate::model::config::VitConfig;
use crate::model::weights::{Gpu, Weights};
use pass::Pass;

/// Token rows of a pass: enough to occupy a large card, while a batch of several passes still overlaps with its copies.
const ROWS_PER_PASS: usize = 1 << 14;

/// Timed runs of each arithmetic when the fastest is looked for, and the time after which no further one begins.
const ROUNDS: usize = 3;
const PATIENCE: Duration = Duration::from_millis(500);

/// Time that a session spends on measuring plans for each batch class: first results are not to wait for long.
const TUNING: Duration = Duration::from_millis(300);

/// A model on a GPU with the buffers of one session.
pub(crate) struct Executor {
    config: VitConfig,
    weights: Arc<Weights<Gpu>>,
    threads: usize,
    sizes: Sizes,
    /// Buffers and steps for the arithmetic and the largest batch so far.
    pass: Option<Pass>,
    /// Whether plans are measured, and the time left for it by batch class.
    autotune: bool,
    tuning: HashMap<usize, Duration>,
    /// Looked at before each pass.
    pub(crate) cancel: CancelFlag,
    clock: Clock,
}

impl Executor {
    /// An executor for a model; `threads` threads of the host (0: one per core) prepare its images. Plans are measured if `autotune`
    /// says so, or it says nothing and [`Autotuner::is_worthwhile`].
    ///
    /// # Errors
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) when the device's limits are too small for one image.
    pub(crate) fn new(
        config: &VitConfig,
        weights: &Arc<Weights<Gpu>>,
        threads: usize,
        autotune: Option<bool>,
    ) -> Result<Self, Error> {
        let sizes = Sizes::new(config);
        let gpu = weights.placement.device();
        gpu.check()?;
        pass::most_images(weights, &sizes)?;
        let cores = || std::thread::available_parallelism().map_or(1, NonZero::get);
        Ok(Self {
            config: config.clone(),
            weights: Arc::clone(weights),
            threads: if threads == 0 { cores() } else { threads },
            sizes,
            pass: None,
            autotune: autotune.unwrap_or_else(|| Autotuner::is_worthwhile(gpu.capabilities())),
            tuning: HashMap::new(),
            cancel: CancelFlag::default(),
            clock: Clock::default(),
        })
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Names of the kernels that the blocks run on; before the first run, but for their tiles.
    pub(crate) fn kernels(&self, arithmetic: Arithmetic) -> String {
        match self.pass.as_ref().filter(|pass| pass.arithmetic() == arithmetic) {
            Some(pass) => pass.kernels().join("+"),
            None => {
                let placement = &self.weights.placement;
                self.weights.kernels(|weight| placement.kernel(weight, arithmetic))
            }
        }
    }

    pub(crate) fn start_profile(&mut self) {
        self.clock.start();
    }

    pub(crate) fn stop_profile(&mut self) -> Profile {
        self.clock.stop().unwrap_or_default()
    }

    /// Appends the logits (or features) of `pixels` `[batch, C, H, W]` to `out`. `progress` is told of the images of each pass
    /// that is done.
    ///
    /// # Errors
    /// [`ErrorKind::Device`](crate::ErrorKind::Device) when the device was lost, is out of memory or does not answer,
    /// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled) when a stop was asked for.
    pub(crate) fn forward(
        &mut self,
        arithmetic: Arithmetic,
        pixels: &[f32],
        out: &mut Vec<f32>,
        progress: impl FnMut(usize),
    ) -> Result<(), Error> {
        self.forward_tuned(1, arithmetic, pixels, out, progress)
    }

    /// As [`Executor::forward`]; one `part`-th of the time left may be spent on measuring plans.
    fn forward_tuned(
        &mut self,
        part: usize,
        arithmetic: Arithmetic,
        pixels: &[f32],
        out: &mut Vec<f32>,
        progress: impl FnMut(usize),
    ) -> Result<(), Error> {
        if pixels.is_empty() {
            return Ok(());
        }
        let image = self.sizes.image();
        let most =
            pass::most_images(&self.weights, &self.sizes)?.min(ROWS_PER_PASS / self.sizes.tokens());
        let images = (pixels.len() / image).min(most.max(1));
        let fits = |pass: &Pass| pass.arithmetic() == arithmetic && pass.images() >= images;
        let pass = match self.pass.take().filter(fits) {
            Some(pass) => pass,
            // The old buffers are given back before new ones are taken.
            None => {
                let left = self.tuning.entry(images.next_power_of_two()).or_insert(TUNING);
                let budget = *left / part as u32;
                let gpu = self.weights.placement.device();
                let mut tuner = self.autotune.then(|| Autotuner::new(gpu, budget));
                let pass = Pass::new(&self.config, &self.weights, arithmetic, images, &mut tuner)?;
                if let Some(tuner) = tuner {
                    *left = left.saturating_sub(budget - tuner.left());
                }
                pass
            }
        };
        let result = run(&pass, &self.sizes, &self.cancel, &mut self.clock, pixels, out, progress);
        self.pass = Some(pass);
        result
    }

    /// The fastest of float arithmetic and `others` for one image.
    ///
    /// # Errors
    /// As [`Executor::forward`].
    pub(crate) fn fastest(&mut self, others: &[Arithmetic]) -> Result<Arithmetic, Error> {
        let pixels = vec![0.5; self.sizes.image()];
        let mut best = (Duration::MAX, Arithmetic::F32);
        for (index, &arithmetic) in [Arithmetic::F32].iter().chain(others).enumerate() {
            let part = others.len() + 1 - index;
            let mut time = || {
                let start = Instant::now();
                self.forward_tuned(part, arithmetic, &pixels, &mut Vec::new(), |_| ())?;
                Ok::<_, Error>(start.elapsed())
            };
            // The first run compiles kernels and is not counted.
            time()?;
            let begin = Instant::now();
            let mut elapsed = time()?;
            for _ in 1..ROUNDS {
                if begin.elapsed() < PATIENCE {
                    elapsed = elapsed.min(time()?);
                }
            }
            if elapsed < best.0 {
                best = (elapsed, arithmetic);
            }
        }
        Ok(best.1)
    }
}

/// Results on their way.
struct Pending {
    submission: Submission,
    outputs: Readback<f32>,
}

fn run(
    pass: &Pass,
    sizes: &Sizes,
    cancel: &CancelFlag,
    clock: &mut Clock,
    pixels: &[f32],
    out: &mut Vec<f32>,
    mut progress: impl FnMut(usize),
) -> Result<(), Error> {
    let mut pending: Option<Pending> = None;
    for images in pixels.chunks(pass.images() * sizes.image()) {
        cancel.check()?;
        let count = images.len() / sizes.image();
        pass.upload(images)?;
        if clock.is_running() {
            pass.run_timed(count, clock)?;
        }
        let mut recorder = Recorder::new(pass.gpu(), "forward pass")?;
        if !clock.is_running() {
            pass.record(&mut recorder, count)?;
        }
        let outputs = pass.read_back(&mut recorder, count)?;
        let submission = recorder.submit()?;
        if let Some(before) = pending.replace(Pending { submission, outputs }) {
            progress(take(before, sizes, out)?);
        }
    }
    if let Some(last) = pending {
        progress(take(last, sizes, out)?);
    }
    Ok(())
}

/// Waits for a pass and appends its results; how many images they are of.
fn take(pending: Pending, sizes: &Sizes, out: &mut Vec<f32>) -> Result<usize, Error> {
    pending.submission.wait()?;
    let padded = pending.outputs.wait()?;
    let rows = padded.chunks_exact(gpu::row_stride(sizes.outputs));
    let images = rows.len();
    for row in rows {
        out.extend_from_slice(&row[..sizes.outputs]);
    }
    Ok(images)
}
