//! An open device: errors caught, waits bounded.
//!
//! wgpu reports errors to scopes and callbacks, and panics where neither takes them. Every operation here therefore runs in
//! scopes of its own ([`Gpu::guarded`]) and returns what they caught; the callbacks of a device only take notes. Waiting is
//! always for a limited time.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use wgpu::{DeviceType, ErrorFilter, PollError, PollType};

use super::adapters::{self, AdapterSummary, Selector};
use super::autotune::Timing;
use super::capabilities::{Capabilities, OPTIONAL};
use super::recorder::ParameterBlock;
use super::shader::ParameterSpace;
use super::{GpuError, Kernel};

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
    /// Held by operations, and alone by the one that gives the device up.
    in_use: RwLock<()>,
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
            in_use: RwLock::default(),
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

    /// The device, for sharing. Not for [`wgpu::Device::destroy`] while other threads use it, see [`Gpu::destroy`].
    pub fn device(&self) -> &wgpu::Device {
        &self.0.device
    }

    /// Its queue, for sharing.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.0.queue
    }

    /// Gives the device up: every later operation, of all clones, fails with [`GpuError::Lost`]. Waits for those under way,
    /// because a thread that finds a device destroyed when it waits for it, and one that writes to a buffer at that moment, can
    /// wait for each other for ever (wgpu issue 5737).
    pub fn destroy(&self) {
        let _alone = self.0.in_use.write().unwrap_or_else(PoisonError::into_inner);
        let _ = self.0.lost.set("it was given up".to_owned());
        self.0.device.destroy();
        // Frees its memory; whether that was possible changes nothing for anyone.
        let _ = self.poll_device(PollType::Poll);
    }

    /// Begins an operation.
    fn enter(&self) -> Result<RwLockReadGuard<'_, ()>, GpuError> {
        let entered = self.0.in_use.read().unwrap_or_else(PoisonError::into_inner);
        self.check().map(|()| entered)
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
        let (value, error) = self.attempt(work)?;
        self.check()?;
        match error {
            None => Ok(value),
            Some(error) => Err(self.cause(what, error)),
        }
    }

    /// What `work` makes, and the first error that it meets.
    ///
    /// # Errors
    /// [`GpuError::Lost`] when that is known before.
    fn attempt<T>(&self, work: impl FnOnce() -> T) -> Result<(T, Option<wgpu::Error>), GpuError> {
        let _entered = self.enter()?;
        let scopes = [ErrorFilter::Internal, ErrorFilter::OutOfMemory, ErrorFilter::Validation]
            .map(|filter| self.0.device.push_error_scope(filter));
        let value = work();
        // The innermost first; natively the answer is there at once.
        let error = scopes.into_iter().rev().fold(None, |first, scope| {
            let error = pollster::block_on(scope.pop());
            first.or(error)
        });
        Ok((value, error))
    }

    /// Why an operation met an error.
    fn cause(&self, what: &str, error: wgpu::Error) -> GpuError {
        if let Err(lost) = self.probe() {
            return lost;
        }
        let what = what.to_owned();
        match error {
            wgpu::Error::OutOfMemory { .. } => GpuError::OutOfMemory { what },
            wgpu::Error::Validation { description: reason, .. }
            | wgpu::Error::Internal { description: reason, .. } => {
                GpuError::Refused { what, reason }
            }
        }
    }

    /// Finds out whether the device still works, for an operation that failed: a loss shows in errors of any kind, and its
    /// callback comes late, to any thread that waits, or to the owner of a device that was wrapped.
    ///
    /// # Errors
    /// [`GpuError::Lost`] when it does not.
    pub(super) fn probe(&self) -> Result<(), GpuError> {
        // The callback may know a reason.
        self.poll(PollType::Poll)?;
        let ((), error) = self.attempt(|| {
            // On a lost device a buffer is made without an error, and cannot be used.
            let buffer = self.0.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("probe"),
                size: 4,
                usage: wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            self.0.queue.write_buffer(&buffer, 0, &[0; 4]);
        })?;
        match error {
            Some(wgpu::Error::Validation { .. }) => Err(self.lose("it does nothing any more")),
            _ => self.check(),
        }
    }

    /// Waits until a submission, or else everything submitted, has been computed.
    ///
    /// # Errors
    /// [`GpuError::Lost`], or [`GpuError::Timeout`] after a minute (half an hour where the host's cores compute).
    pub(super) fn wait(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<(), GpuError> {
        let timeout = Some(self.0.patience);
        self.poll(PollType::Wait { submission_index: submission, timeout })
    }

    /// Lets callbacks run.
    fn poll(&self, how: PollType) -> Result<(), GpuError> {
        let entered = self.enter()?;
        let polled = self.poll_device(how);
        drop(entered);
        self.check()?;
        match polled {
            Some(Ok(_)) => Ok(()),
            Some(Err(PollError::Timeout)) => Err(GpuError::Timeout { after: self.0.patience }),
            Some(Err(error)) => Err(GpuError::Refused {
                what: "waiting for the device".to_owned(),
                reason: error.to_string(),
            }),
            None => Err(self.lose("the driver failed while it was waited for")),
        }
    }

    /// [`wgpu::Device::poll`], and `None` where it panics: wgpu has no error for a driver that says while it is waited for that
    /// the device is lost, but calls the callback and panics. Nothing can be known before, and a hook that keeps the message of
    /// that panic from standard error would be the whole process's. A device that is destroyed, and a loss that shows in any
    /// other call, cause none.
    fn poll_device(&self, how: PollType) -> Option<Result<wgpu::PollStatus, PollError>> {
        std::panic::catch_unwind(AssertUnwindSafe(|| self.0.device.poll(how))).ok()
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
