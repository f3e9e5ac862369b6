//! Results on their way to the host.

use std::marker::PhantomData;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use bytemuck::Pod;

use super::{Gpu, GpuError};

/// Time that another thread has to pass on what it learned of a buffer while it waited for the device.
const HANDING_OVER: Duration = Duration::from_secs(10);

/// Results on their way to the host.
#[derive(Debug)]
pub struct Readback<T> {
    pub(super) gpu: Gpu,
    pub(super) staging: wgpu::Buffer,
    /// Bytes before the first element.
    pub(super) skip: usize,
    pub(super) count: usize,
    /// Says whether the buffer could be mapped, once that is known.
    pub(super) mapped: Receiver<bool>,
    pub(super) elements: PhantomData<fn() -> T>,
}

impl<T: Pod> Readback<T> {
    /// Waits for them.
    ///
    /// # Errors
    /// [`GpuError::Lost`], or [`GpuError::Timeout`] after a minute (half an hour where the host's cores compute);
    /// [`GpuError::Refused`] when the recorder was not submitted.
    pub fn wait(self) -> Result<Vec<T>, GpuError> {
        let refused = |reason: &str| {
            let refused =
                || GpuError::Refused { what: "reading back".to_owned(), reason: reason.to_owned() };
            self.gpu.probe().err().unwrap_or_else(refused)
        };
        // Where several threads wait for a device, any of them runs the callbacks of all.
        let mapped = self.mapped.try_recv().or_else(|_| {
            self.gpu.wait(None)?;
            let mapped = self.mapped.recv_timeout(HANDING_OVER);
            mapped.map_err(|_| refused("the commands were never submitted"))
        })?;
        if !mapped {
            return Err(self.gpu.lose("results could not be read"));
        }
        let view = self.staging.get_mapped_range(..);
        let view = view.map_err(|error| refused(&error.to_string()))?;
        let bytes = &view[self.skip..][..self.count * size_of::<T>()];
        Ok(bytemuck::pod_collect_to_vec(bytes))
    }
}
