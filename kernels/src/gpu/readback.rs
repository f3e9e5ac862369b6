//! Results on their way to the host.

use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use bytemuck::Pod;
use wgpu::PollType;

use super::{Gpu, GpuError};

/// Whether a buffer could be mapped, once that is known.
pub(super) type Mapped = OnceLock<bool>;

/// Results on their way to the host.
#[derive(Debug)]
pub struct Readback<T> {
    pub(super) gpu: Gpu,
    pub(super) staging: wgpu::Buffer,
    /// Bytes before the first element.
    pub(super) skip: usize,
    pub(super) count: usize,
    pub(super) mapped: Arc<Mapped>,
    pub(super) elements: PhantomData<fn() -> T>,
}

impl<T: Pod> Readback<T> {
    /// Whether they are there, so that [`Readback::wait`] returns at once. Never, before the recorder is submitted.
    ///
    /// # Errors
    /// [`GpuError::Lost`].
    pub fn is_ready(&self) -> Result<bool, GpuError> {
        self.gpu.poll(PollType::Poll)?;
        Ok(self.mapped.get().is_some())
    }

    /// Waits for them.
    ///
    /// # Errors
    /// [`GpuError::Lost`], or [`GpuError::Timeout`] after a minute (half an hour where the host's cores compute);
    /// [`GpuError::Refused`] when the recorder was not submitted.
    pub fn wait(self) -> Result<Vec<T>, GpuError> {
        if self.mapped.get().is_none() {
            self.gpu.wait(None)?;
        }
        match self.mapped.get() {
            Some(true) => {}
            Some(false) => return Err(self.gpu.lose("results could not be read")),
            None => {
                return Err(GpuError::Refused {
                    what: "reading back".to_owned(),
                    reason: "the commands were never submitted".to_owned(),
                });
            }
        }
        let view = self.staging.get_mapped_range(..).map_err(|error| GpuError::Refused {
            what: "reading back".to_owned(),
            reason: error.to_string(),
        })?;
        let bytes = &view[self.skip..][..self.count * size_of::<T>()];
        Ok(bytemuck::pod_collect_to_vec(bytes))
    }
}
