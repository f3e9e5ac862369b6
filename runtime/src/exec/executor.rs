//! The forward pass on the device that holds a model's weights.

use fresnel_kernels::Arithmetic;

use super::profile::Profile;
use super::{auto, cpu};
use crate::cancel::CancelFlag;
use crate::error::Error;
use crate::model::weights::cpu_kernel;
use crate::model::{Model, Placed};

/// Runs one session's forward passes.
pub(crate) enum Executor {
    /// On the host's cores.
    Cpu(Box<cpu::Executor>),
    /// On a GPU.
    #[cfg(feature = "gpu")]
    Gpu(Box<super::gpu::Executor>),
}

impl Executor {
    /// An executor on the device of `model`; `threads` threads (0: one per core) on the host. Whether a GPU's kernels are measured,
    /// `gpu_autotune` says, or else the device.
    ///
    /// # Errors
    /// Those of the device's executor.
    #[cfg_attr(not(feature = "gpu"), expect(unused_variables))]
    pub(crate) fn new(
        model: &Model,
        threads: usize,
        gpu_autotune: Option<bool>,
    ) -> Result<Self, Error> {
        match model.placed() {
            Placed::Cpu(weights) => {
                cpu::Executor::new(model.config(), weights, threads).map(Box::new).map(Self::Cpu)
            }
            #[cfg(feature = "gpu")]
            Placed::Gpu(weights) => {
                super::gpu::Executor::new(model.config(), weights, threads, gpu_autotune)
                    .map(Box::new)
                    .map(Self::Gpu)
            }
        }
    }

    /// Threads of the host in use.
    pub(crate) fn threads(&self) -> usize {
        match self {
            Self::Cpu(executor) => executor.threads(),
            #[cfg(feature = "gpu")]
            Self::Gpu(executor) => executor.threads(),
        }
    }

    /// Appends the logits (or features) of `pixels` `[batch, C, H, W]` to `out`; `progress` is told of the
    /// images of each pass that is done.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) when memory for the buffers cannot be had,
    /// [`ErrorKind::Device`](crate::ErrorKind::Device) when the device was lost,
    /// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled) when a stop was asked for.
    pub(crate) fn forward(
        &mut self,
        arithmetic: Arithmetic,
        pixels: &[f32],
        out: &mut Vec<f32>,
        progress: impl FnMut(usize) + Send,
    ) -> Result<(), Error> {
        match self {
            Self::Cpu(executor) => executor.forward(arithmetic, pixels, out, progress),
            #[cfg(feature = "gpu")]
            Self::Gpu(executor) => executor.forward(arithmetic, pixels, out, progress),
        }
    }

    /// The flag that stops a forward pass.
    pub(crate) fn cancel_flag(&self) -> CancelFlag {
        match self {
            Self::Cpu(executor) => executor.cancel.clone(),
            #[cfg(feature = "gpu")]
            Self::Gpu(executor) => executor.cancel.clone(),
        }
    }

    /// The fastest of float arithmetic and `others`, timed.
    ///
    /// # Errors
    /// As [`Executor::forward`].
    pub(crate) fn fastest(&mut self, others: &[Arithmetic]) -> Result<Arithmetic, Error> {
        match self {
            Self::Cpu(executor) => auto::fastest(executor, others),
            #[cfg(feature = "gpu")]
            Self::Gpu(executor) => executor.fastest(others),
        }
    }

    /// Names of the kernels that the blocks run on in `arithmetic`, each once, joined by `+`.
    pub(crate) fn kernels(&self, arithmetic: Arithmetic) -> String {
        match self {
            Self::Cpu(executor) => {
                executor.weights.kernels(|weight| cpu_kernel(weight, arithmetic))
            }
            #[cfg(feature = "gpu")]
            Self::Gpu(executor) => executor.kernels(arithmetic),
        }
    }

    /// Begins to measure where time goes.
    pub(crate) fn start_profile(&mut self) {
        match self {
            Self::Cpu(executor) => executor.clock.start(),
            #[cfg(feature = "gpu")]
            Self::Gpu(executor) => executor.start_profile(),
        }
    }

    /// Where time went since the start.
    pub(crate) fn stop_profile(&mut self) -> Profile {
        match self {
            Self::Cpu(executor) => executor.clock.stop().unwrap_or_default(),
            #[cfg(feature = "gpu")]
            Self::Gpu(executor) => executor.stop_profile(),
        }
    }
}
