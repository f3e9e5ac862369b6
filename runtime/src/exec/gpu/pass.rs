//! Buffers and steps of one pass, made once and recorded any number of times.

use fresnel_kernels::Arithmetic;
use fresnel_kernels::gpu::{
    self, Autotuner, Buffer, GpuError, Readback, Recorder, Rows, row_stride,
};

use super::builder::Builder;
use super::head;
use crate::error::{Error, ErrorKind};
use crate::exec::patches::Sizes;
use crate::exec::profile::{Clock, Operation};
use crate::model::config::VitConfig;
use crate::model::weights::{Gpu, Weights};

/// Most bytes of a device's memory that the activations of a session take.
const MAX_ACTIVATION_BYTES: u64 = 2 << 30;

/// Records something for so many images.
pub(super) type Record = Box<dyn Fn(&mut Recorder, usize) -> Result<(), GpuError> + Send + Sync>;

/// One dispatch or a few that belong together.
pub(super) struct Step {
    pub(super) operation: Operation,
    /// Of one image.
    pub(super) multiply_accumulates: usize,
    pub(super) record: Record,
}

/// Everything that a forward pass over some images needs, made once.
pub(super) struct Pass {
    gpu: gpu::Gpu,
    arithmetic: Arithmetic,
    images: usize,
    pixels: Buffer,
    steps: Vec<Step>,
    kernels: Vec<String>,
    outputs: Rows,
}

impl Pass {
    /// A pass over at most `images` images, whose plans `tuner` chooses, or else the device and the shapes alone.
    pub(super) fn new(
        config: &VitConfig,
        weights: &Weights<Gpu>,
        arithmetic: Arithmetic,
        images: usize,
        tuner: &mut Option<Autotuner>,
    ) -> Result<Self, Error> {
        let mut builder = Builder::new(weights, Sizes::new(config), arithmetic, images, tuner)?;
        builder.embed()?;
        for block in &weights.blocks {
            builder.block(block)?;
        }
        let outputs = head::record(&mut builder, config)?;
        let Builder { gpu, pixels, steps, kernels, .. } = builder;
        Ok(Self { gpu, arithmetic, images, pixels, steps, kernels, outputs })
    }

    pub(super) fn gpu(&self) -> &gpu::Gpu {
        &self.gpu
    }

    pub(super) fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }

    /// Names of the kernels of the blocks' products, each once, in order of appearance.
    pub(super) fn kernels(&self) -> &[String] {
        &self.kernels
    }

    /// Images that there is room for.
    pub(super) fn images(&self) -> usize {
        self.images
    }

    /// Writes the pixels of the next pass; what was submitted before reads the old ones.
    pub(super) fn upload(&self, pixels: &[f32]) -> Result<(), Error> {
        Ok(self.gpu.upload(&self.pixels, 0, pixels)?)
    }

    /// Records the whole pass over the first `images` images.
    pub(super) fn record(&self, recorder: &mut Recorder, images: usize) -> Result<(), Error> {
        self.steps.iter().try_for_each(|step| Ok((step.record)(recorder, images)?))
    }

    /// Computes the pass step by step, waiting for each: what the clock is told includes the way to the device and back.
    pub(super) fn run_timed(&self, images: usize, clock: &mut Clock) -> Result<(), Error> {
        for step in &self.steps {
            let mut recorder = Recorder::new(&self.gpu, step.operation.name())?;
            (step.record)(&mut recorder, images)?;
            recorder.submit()?.wait()?;
            clock.lap(step.operation, step.multiply_accumulates * images);
        }
        Ok(())
    }

    /// The outputs of the first `images` images, in padded rows.
    pub(super) fn read_back(
        &self,
        recorder: &mut Recorder,
        images: usize,
    ) -> Result<Readback<f32>, Error> {
        let numbers = images * row_stride(self.outputs.columns());
        Ok(recorder.read_back(self.outputs.buffer(), 0..numbers)?)
    }
}

/// Numbers of the largest buffers of one image: pixels, stream and wide.
pub(super) fn numbers(sizes: &Sizes) -> [usize; 3] {
    let tokens = sizes.tokens();
    let patch = sizes.channels * sizes.patch_height * sizes.patch_width;
    let wide = row_stride(3 * sizes.dim).max(row_stride(sizes.hidden)) * tokens;
    let wide = wide.max(row_stride(patch) * sizes.patches);
    [sizes.image(), row_stride(sizes.dim) * tokens, wide]
}

/// Most images of a pass, by the device's limits and the memory that a session may take.
///
/// # Errors
/// [`ErrorKind::Limit`] when that is not even one.
pub(super) fn most_images(weights: &Weights<Gpu>, sizes: &Sizes) -> Result<usize, Error> {
    let limits = &weights.placement.device().capabilities().limits;
    let binding = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
    let bytes = |count: usize| (count as u64).saturating_mul(size_of::<f32>() as u64);
    let numbers = numbers(sizes);
    let largest = bytes(numbers.into_iter().max().unwrap_or(1)).max(1);
    // The stream twice, as itself and as `narrow`, and no more than as much again for the codes.
    let together = bytes(numbers.into_iter().sum()).saturating_mul(2).max(1);
    let groups = u64::from(limits.max_compute_workgroups_per_dimension);
    // Shaders count numbers in 32 bits.
    let counted = u64::from(u32::MAX) / (largest / 4).max(1);
    let most = (binding / largest).min(MAX_ACTIVATION_BYTES / together).min(groups).min(counted);
    if most == 0 {
        let message = format!(
            "one image of {} tokens needs buffers of {largest} bytes and {together} bytes in all, but the device has \
             buffers of {binding} bytes and a session may take {MAX_ACTIVATION_BYTES}",
            sizes.tokens()
        );
        return Err(Error::new(ErrorKind::Limit, message));
    }
    Ok(usize::try_from(most).unwrap_or(usize::MAX))
}
