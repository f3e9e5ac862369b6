//! Sessions: a model together with what one thread of inference needs.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fresnel_kernels::Arithmetic;

use crate::cancel::CancelFlag;
use crate::device::{Device, DeviceChoice};
use crate::error::{Error, ErrorKind};
use crate::exec::profile::Profile;
use crate::exec::{Executor, Sizes};
use crate::model::Model;

/// Default of [`SessionOptions::int8_agreement`], in percent.
pub const DEFAULT_INT8_AGREEMENT: f64 = 95.0;

/// Name of the measured value that tells how often `int8` and `f32` agree in their first class, in
/// percent of the calibration images.
pub const INT8_AGREEMENT: &str = "int8_agreement";

/// The same for `half` and `f32`; only in files that were made on a machine that runs `half`.
pub const HALF_AGREEMENT: &str = "half_agreement";

/// Arithmetic of the activations. Weights keep their width in every mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Compute {
    /// The fastest on this machine of `f32` and those which the file records to agree with it
    #[default]
    Auto,
    /// Float activations: the reference
    F32,
    /// Activations in half precision, sums in float: bfloat16 on the CPU, where float layers stay in float, else f16
    Half,
    /// Activations quantised to 8 bit per token, integer products; float layers stay in float
    Int8,
}

impl Compute {
    /// `auto`, `f32`, `half` or `int8`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Half => "half",
            Self::Int8 => "int8",
        }
    }
}

impl From<Arithmetic> for Compute {
    fn from(arithmetic: Arithmetic) -> Self {
        match arithmetic {
            Arithmetic::F32 => Self::F32,
            Arithmetic::Half => Self::Half,
            Arithmetic::Int8 => Self::Int8,
        }
    }
}

impl fmt::Display for Compute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Compute {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        [Self::Auto, Self::F32, Self::Half, Self::Int8]
            .into_iter()
            .find(|compute| compute.name() == text)
            .ok_or_else(|| {
                let message = format!("expected compute auto, f32, half or int8, found {text:?}");
                Error::new(ErrorKind::Input, message)
            })
    }
}

/// How a [`Session`] computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SessionOptions {
    /// Threads of the host; 0 = one per core, or one in a build without the feature `threads`. Results do not depend on it.
    /// On a GPU they only prepare images.
    pub threads: usize,
    /// Arithmetic of the activations.
    pub compute: Compute,
    /// [`Compute::Auto`] considers `half` and `int8` when the file records at least this agreement, in percent.
    pub int8_agreement: f64,
    /// Whether a GPU's kernels are the fastest of those that the device has, timed when the first batch of a size runs (for 0.3 s at
    /// most), or follow from the device and the shape alone. `None`: as the environment variable `FRESNEL_GPU_AUTOTUNE` says (`1` or
    /// `0`), or else timed unless the device is a software renderer. Timed kernels may differ from run to run, and with them the last
    /// bits of `f32` and `half`; integer sums are exact in any.
    pub gpu_autotune: Option<bool>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            threads: 0,
            compute: Compute::Auto,
            int8_agreement: DEFAULT_INT8_AGREEMENT,
            gpu_autotune: None,
        }
    }
}

/// Runs a [`Model`]: its threads and its buffers, which are allocated by the first run and reused by
/// the following ones. For parallel callers, one session each; the model is shared.
pub struct Session {
    model: Arc<Model>,
    executor: Executor,
    arithmetic: Arithmetic,
    timings: Vec<DeviceTiming>,
}

/// What [`DeviceChoice::Auto`] measured of a device.
#[derive(Clone, Debug)]
pub struct DeviceTiming {
    /// The device.
    pub device: Device,
    /// Time for one image.
    pub time: Duration,
}

impl Session {
    /// Opens the device that is asked for, loads a `.fresnel` file onto it and returns a session on that model.
    ///
    /// [`DeviceChoice::Auto`] loads it onto both the CPU and the best GPU, runs one image a few times on each, and keeps the
    /// faster ([`Session::timings`] tells). A GPU that can't be used takes no part.
    ///
    /// # Errors
    /// As [`Device::gpu`], [`Model::open_on`] and [`Session::new`].
    pub fn open(
        path: impl AsRef<Path>,
        device: &DeviceChoice,
        options: SessionOptions,
    ) -> Result<Self, Error> {
        let path = path.as_ref();
        let on = |device: &Device| {
            let session = Model::open_on(path, device).and_then(|model| Self::new(&model, options));
            session
                .map_err(|error| if error.path().is_none() { error.at_path(path) } else { error })
        };
        match device {
            DeviceChoice::Cpu => on(&Device::Cpu),
            DeviceChoice::Gpu(adapter) => on(&Device::gpu(adapter.as_deref())?),
            DeviceChoice::Auto => {
                let mut cpu = on(&Device::Cpu)?;
                let card = Device::card().and_then(|card| on(&card));
                let timed = |mut gpu: Self| Ok::<_, Error>((gpu.time()?, gpu));
                let Ok((gpu_time, mut gpu)) = card.and_then(timed) else { return Ok(cpu) };
                let cpu_time = cpu.time()?;
                let timings = [(&cpu, cpu_time), (&gpu, gpu_time)]
                    .map(|(session, time)| DeviceTiming { device: session.model.device(), time });
                let faster = if gpu_time < cpu_time { &mut gpu } else { &mut cpu };
                faster.timings = timings.into();
                Ok(if gpu_time < cpu_time { gpu } else { cpu })
            }
        }
    }

    /// The least time of a few runs of one image; the first, which warms up, does not count unless it takes long.
    fn time(&mut self) -> Result<Duration, Error> {
        const ROUNDS: usize = 5;
        const PATIENCE: Duration = Duration::from_secs(1);
        let pixels = vec![0.5; Sizes::new(self.model.config()).image()];
        let begin = Instant::now();
        let mut least = Duration::MAX;
        for round in 0..=ROUNDS {
            let start = Instant::now();
            self.run(&pixels, 1)?;
            if round > 0 || begin.elapsed() > PATIENCE {
                least = least.min(start.elapsed());
            }
            if begin.elapsed() > PATIENCE {
                break;
            }
        }
        Ok(least)
    }

    /// A session on `model`.
    ///
    /// [`Compute::Auto`] is resolved here; where the file permits another mode than `f32`, the first session of a
    /// model with a given number of threads times one block in each mode (about a tenth of a second for a
    /// large model), later ones reuse the outcome.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for [`Compute::Half`] where no layer has a kernel for it,
    /// [`ErrorKind::Device`] when the threads cannot be started, [`ErrorKind::Limit`] when one image needs more memory than a session may use.
    pub fn new(model: &Arc<Model>, options: SessionOptions) -> Result<Self, Error> {
        let mut executor = Executor::new(model, options.threads, options.gpu_autotune)?;
        let arithmetic = match options.compute {
            Compute::F32 => Arithmetic::F32,
            Compute::Int8 => Arithmetic::Int8,
            Compute::Half if model.supports(Arithmetic::Half) => Arithmetic::Half,
            Compute::Half => return Err(no_half(model)),
            Compute::Auto => resolve_auto(model, &mut executor, options.int8_agreement)?,
        };
        Ok(Self { model: Arc::clone(model), executor, arithmetic, timings: Vec::new() })
    }

    /// Runs `batch` images and returns `[batch, outputs]`: logits, or features of a model without
    /// classes. `pixels` is `[batch, channels, height, width]`, preprocessed. Large batches run in
    /// passes of a few images, so that memory does not grow with the batch; each image's result is
    /// the same in any batch. The result is finite unless the model's own weights overflow `f32`.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] when the number of pixels is not that of `batch` images, or a pixel is not
    /// a finite number (the message names its index); [`ErrorKind::Limit`] when memory cannot be had;
    /// [`ErrorKind::Cancelled`] when the [`cancel_flag`](Self::cancel_flag) is up;
    /// [`ErrorKind::Device`] when a GPU was lost, as all its sessions are then: load the model onto another device,
    /// or the same one opened again.
    pub fn run(&mut self, pixels: &[f32], batch: usize) -> Result<Vec<f32>, Error> {
        self.run_with_progress(pixels, batch, |_| ())
    }

    /// As [`Session::run`]; after each pass, `progress` is told how many more images are done.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_with_progress(
        &mut self,
        pixels: &[f32],
        batch: usize,
        progress: impl FnMut(usize) + Send,
    ) -> Result<Vec<f32>, Error> {
        let config = self.model.config();
        let [height, width] = config.image_size;
        let shape = format!("[{batch}, {}, {height}, {width}]", config.in_channels);
        let expected = Sizes::new(config).image().checked_mul(batch);
        if expected != Some(pixels.len()) {
            return Err(Error::new(
                ErrorKind::Input,
                format!("expected pixels of shape {shape}, found {} numbers", pixels.len()),
            ));
        }
        if let Some(index) = first_non_finite(pixels) {
            return Err(Error::new(
                ErrorKind::Input,
                format!("pixel {index} of {shape} is {}, expected a finite number", pixels[index]),
            ));
        }
        let mut out = Vec::new();
        self.executor.forward(self.arithmetic, pixels, &mut out, progress)?;
        Ok(out)
    }

    /// As [`Session::run`], and tells where the time went. Reading the clock costs a few microseconds; on a GPU every
    /// operation is waited for, which costs some tens of microseconds each.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_profiled(
        &mut self,
        pixels: &[f32],
        batch: usize,
    ) -> Result<(Vec<f32>, Profile), Error> {
        self.executor.start_profile();
        let result = self.run(pixels, batch);
        let profile = self.executor.stop_profile();
        Ok((result?, profile))
    }

    /// The flag that stops this session's runs, to be kept where the request may come from.
    pub fn cancel_flag(&self) -> CancelFlag {
        self.executor.cancel_flag()
    }

    /// What was measured to choose between devices; empty where nothing was.
    pub fn timings(&self) -> &[DeviceTiming] {
        &self.timings
    }

    /// The model that the session runs.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The arithmetic in use; never [`Compute::Auto`].
    pub fn compute(&self) -> Compute {
        self.arithmetic.into()
    }

    /// Names of the kernels that the blocks run on, each once, separated by `+`. On a GPU the tiles are part of the names once
    /// something has run, as they depend on the batch.
    pub fn kernel(&self) -> String {
        self.executor.kernels(self.arithmetic)
    }

    /// Threads in use.
    pub fn threads(&self) -> usize {
        self.executor.threads()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("architecture", &self.model.config().architecture)
            .field("compute", &self.compute())
            .field("threads", &self.threads())
            .finish_non_exhaustive()
    }
}

/// Index of the first number that is not finite. Whole blocks are looked at without a branch per number,
/// which is several times as fast.
fn first_non_finite(pixels: &[f32]) -> Option<usize> {
    const BLOCK: usize = 4096;
    let block = pixels.chunks(BLOCK).position(|block| {
        // Infinity and NaN have the largest bit patterns once the sign is gone.
        let largest = block.iter().fold(0, |max, pixel| (pixel.to_bits() & 0x7fff_ffff).max(max));
        largest >= f32::INFINITY.to_bits()
    })?;
    let start = block * BLOCK;
    pixels[start..].iter().position(|pixel| !pixel.is_finite()).map(|index| start + index)
}

/// Why a model cannot run in half precision.
fn no_half(model: &Model) -> Error {
    let needed = match model.isa() {
        Some(isa) => format!(
            "quantized layers and an instruction set that multiplies bfloat16 (amx), but the model runs on {isa}"
        ),
        None => format!("a GPU with half precision, which {} is not", model.device()),
    };
    Error::new(
        ErrorKind::Unsupported,
        format!("compute half needs {needed}: use f32, int8 or auto"),
    )
}

fn resolve_auto(
    model: &Model,
    executor: &mut Executor,
    threshold: f64,
) -> Result<Arithmetic, Error> {
    let permitted = |(arithmetic, name)| {
        let agrees = |name| model.measured(name).is_some_and(|agreement| agreement >= threshold);
        // A GPU's half precision is finer than the bytes whose agreement every file records.
        let finer = arithmetic == Arithmetic::Half && model.isa().is_none();
        let agrees = agrees(name) || finer && agrees(INT8_AGREEMENT);
        (agrees && model.supports(arithmetic)).then_some(arithmetic)
    };
    let others: Vec<Arithmetic> =
        [(Arithmetic::Half, HALF_AGREEMENT), (Arithmetic::Int8, INT8_AGREEMENT)]
            .into_iter()
            .filter_map(permitted)
            .collect();
    if others.is_empty() {
        return Ok(Arithmetic::F32);
    }
    model.fastest(executor.threads(), &others, || executor.fastest(&others))
}

#[cfg(test)]
mod tests;
