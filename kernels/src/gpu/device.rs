//! An open device: errors caught, waits bounded.
//!
//! wgpu reports errors to scopes and callbacks, and panics where neither takes them. Every operation here therefore runs in
//! scopes of its own ([`Gpu::guarded`]) and returns what they caught; the callbacks of a device only take notes. Waiting is
//! always for a limited time.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use wgpu::{DeviceType, ErrorFilter, PollError, PollType};

use super::adapters::{self, AdapterSummary, Selector};
use super::autotune::Timing;
use super::capabilities::{Capabilities, OPTIONAL};
use super::recorder::ParameterBlock;
use super::shader::ParameterSpace;
use super::{GpuError, Kernel};

/// Time that other work on a device has to end when an operation failed, to tell whether the device was lost.
const SETTLING: Duration = Duration::from_secs(10);

/// An open device and its queue. Clones are the same device.
#[derive(Clone, Debug)]
pub struct Gpu(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    device: wgpu::Device,
    queue: wgpu::Queue,
    summary: AdapterSummary,
    /// Why the device was lost, once it is.
    lost: Arc<OnceLock<String>>,
    patience: Duration,
    kernels: Mutex<HashMap<String, Kernel>>,
    parameter_blocks: Mutex<Vec<ParameterBlock>>,
    timings: Mutex<Vec<Timing>>,
}

impl Gpu {
    /// Opens an adapter, with all its limits and those optional features that kernels make use of.
    ///
    /// # Errors
    /// [`GpuError::NoAdapter`] when there is none such, [`GpuError::Open`] when its driver fails.
    pub fn open(selector: &Selector) -> Result<Gpu, GpuError> {
        let (adapter, summary) = adapters::choose(selector)?;
        let required_features = adapter.features() & OPTIONAL;
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("fresnel"),
            required_features,
            required_limits: adapter.limits(),
            experimental_features: experimental_features(),
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            trace: wgpu::Trace::Off,
        };
        let opened = pollster::block_on(adapter.request_device(&descriptor));
        let (device, queue) = opened.map_err(|error| GpuError::Open {
            adapter: summary.to_string(),
            reason: error.to_string(),
        })?;
        // Operations outside a scope are none of ours; a panic there would help nobody.
        device.on_uncaptured_error(Arc::new(|_| ()));
        let gpu = Gpu::new(device, queue, summary);
        let lost = Arc::clone(&gpu.0.lost);
        gpu.0.device.set_device_lost_callback(move |reason, message| {
            // Only the first reason counts.
            let _ = lost.set(format!("{reason:?}: {message}"));
        });
        Ok(gpu)
    }

    /// A device that someone else opened and goes on using. Its callbacks stay theirs, so that a loss is noticed only by the
    /// operations that fail for it.
    ///
    /// `matrices` are what [`wgpu::Adapter::cooperative_matrix_properties`] says of its adapter; without them cooperative
    /// matrices are not used.
    pub fn wrap(
        device: wgpu::Device,
        queue: wgpu::Queue,
        matrices: &[wgpu::CooperativeMatrixProperties],
    ) -> Gpu {
        let info = device.adapter_info();
        let capabilities = Capabilities::new(&info, device.features(), device.limits(), matrices);
        Gpu::new(device, queue, AdapterSummary::new(&info, capabilities))
    }

    fn new(device: wgpu::Device, queue: wgpu::Queue, summary: AdapterSummary) -> Gpu {
        let patience = match summary.device_type {
            DeviceType::Cpu => Duration::from_secs(1800),
            _ => Duration::from_secs(60),
        };
        Gpu(Arc::new(Inner {
            device,
            queue,
            summary,
            lost: Arc::default(),
            patience,
            kernels: Mutex::default(),
            parameter_blocks: Mutex::default(),
            timings: Mutex::default(),
        }))
    }

    /// The adapter that was opened.
    pub fn summary(&self) -> &AdapterSummary {
        &self.0.summary
    }

    /// What the device offers.
    pub fn capabilities(&self) -> &Capabilities {
        &self.0.summary.capabilities
    }

    /// Where its shaders find their parameters.
    pub fn parameter_space(&self) -> ParameterSpace {
        match self.capabilities().immediates {
            true => ParameterSpace::Immediate,
            false => ParameterSpace::Uniform,
        }
    }

    /// The same device, taken for another.
    #[cfg(test)]
    pub(super) fn with(&self, change: impl FnOnce(&mut Capabilities)) -> Gpu {
        let mut summary = self.summary().clone();
        change(&mut summary.capabilities);
        Gpu::new(self.device().clone(), self.queue().clone(), summary)
    }

    /// The device, for sharing.
    pub fn device(&self) -> &wgpu::Device {
        &self.0.device
    }

    /// Its queue, for sharing.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.0.queue
    }

    /// Gives the device up: every later operation, of all clones, fails with [`GpuError::Lost`].
    pub fn destroy(&self) {
        let _ = self.0.lost.set("it was given up".to_owned());
        self.0.device.destroy();
    }

    /// Whether the device still works, as far as is known.
    ///
    /// # Errors
    /// [`GpuError::Lost`] when it does not.
    pub fn check(&self) -> Result<(), GpuError> {
        match self.0.lost.get() {
            Some(reason) => Err(GpuError::Lost { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Does something with the device and returns the first error that this meets; `what` names it in messages.
    ///
    /// # Errors
    /// [`GpuError::Lost`], [`GpuError::OutOfMemory`] or [`GpuError::Refused`].
    pub fn guarded<T>(&self, what: &str, work: impl FnOnce() -> T) -> Result<T, GpuError> {
        self.check()?;
        let device = &self.0.device;
        let scopes = [ErrorFilter::Internal, ErrorFilter::OutOfMemory, ErrorFilter::Validation]
            .map(|filter| device.push_error_scope(filter));
        let value = work();
        // The innermost first; natively the answer is there at once.
        let caught = scopes.into_iter().rev().fold(None, |caught, scope| {
            let error = pollster::block_on(scope.pop());
            caught.or(error)
        });
        if caught.is_some() {
            // A loss shows in errors of any kind; the callback that tells of it runs when nothing is left to compute.
            let timeout = Some(self.0.patience.min(SETTLING));
            match self.poll(PollType::Wait { submission_index: None, timeout }) {
                Err(GpuError::Timeout { .. }) | Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        self.check()?;
        match caught {
            None => Ok(value),
            Some(wgpu::Error::OutOfMemory { .. }) => {
                Err(GpuError::OutOfMemory { what: what.to_owned() })
            }
            Some(
                wgpu::Error::Validation { description, .. }
                | wgpu::Error::Internal { description, .. },
            ) => Err(GpuError::Refused { what: what.to_owned(), reason: description }),
        }
    }

    /// Waits until a submission, or else everything submitted, has been computed.
    ///
    /// # Errors
    /// [`GpuError::Lost`], or [`GpuError::Timeout`] after a minute (half an hour where the host's cores compute).
    pub(super) fn wait(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<(), GpuError> {
        let timeout = Some(self.0.patience);
        self.poll(PollType::Wait { submission_index: submission, timeout }).map(|_| ())
    }

    /// Lets callbacks run; whether nothing is left to compute.
    pub(super) fn poll(&self, how: PollType) -> Result<bool, GpuError> {
        self.check()?;
        // wgpu has no error for a driver that says while it is waited for that the device is lost: it calls the callback and panics
        // (`Device::poll` of wgpu 30). Nothing can be known before, and a hook that keeps the message of that panic from standard
        // error would be the whole process's. A device that is destroyed, and a loss that shows in any other call, cause none.
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| self.0.device.poll(how)));
        self.check()?;
        match polled {
            Ok(Ok(status)) => Ok(status.is_queue_empty()),
            Ok(Err(PollError::Timeout)) => Err(GpuError::Timeout { after: self.0.patience }),
            Ok(Err(error)) => Err(GpuError::Refused {
                what: "waiting for the device".to_owned(),
                reason: error.to_string(),
            }),
            Err(_) => Err(self.lose("the driver failed while it was waited for")),
        }
    }

    /// Notes that the device is lost, and returns the error for it.
    pub(super) fn lose(&self, reason: &str) -> GpuError {
        GpuError::Lost { reason: self.0.lost.get_or_init(|| reason.to_owned()).clone() }
    }

    /// The kernels made so far, by their texts.
    pub(super) fn kernels(&self) -> MutexGuard<'_, HashMap<String, Kernel>> {
        self.0.kernels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was measured of products so far.
    pub(super) fn timings_lock(&self) -> MutexGuard<'_, Vec<Timing>> {
        self.0.timings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Buffers of parameters that no recorder holds.
    pub(super) fn parameter_blocks(&self) -> MutexGuard<'_, Vec<ParameterBlock>> {
        self.0.parameter_blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[allow(unsafe_code)]
fn experimental_features() -> wgpu::ExperimentalFeatures {
    // SAFETY: the one such feature asked for is cooperative matrices. What is undefined there, loads and stores outside
    // their arrays or in divergent control flow, the shader rules out: every offset is a constant or a multiple of the tile
    // within the workgroup's own arrays, and the tile loop has the same bounds for the whole workgroup.
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}
