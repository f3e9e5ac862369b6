//! Recording dispatches and submitting them.
//!
//! Consecutive dispatches share one compute pass. Their parameters are immediates where the device has them. Elsewhere they are
//! written, one behind the other, to a uniform buffer that the recorder borrows from the device: the driver orders such a write
//! before the next submission and behind the last one, so that the buffer can be used again at once.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::mpsc::{SyncSender, sync_channel};

use bytemuck::Pod;
use wgpu::{BufferUsages, MapMode};

use super::capabilities::PARAMETER_BYTES;
use super::readback::Readback;
use super::timer::{Elapsed, Timestamps};
use super::{Arguments, Buffer, Gpu, GpuError};

/// Dispatches whose parameters fit in one uniform buffer.
const BLOCK_DISPATCHES: u64 = 256;

/// A uniform buffer for the parameters of dispatches.
#[derive(Debug)]
pub(super) struct ParameterBlock {
    buffer: wgpu::Buffer,
    group: wgpu::BindGroup,
    /// Parameters that wait to be written.
    bytes: Vec<u8>,
}

/// Commands in the making.
#[derive(Debug)]
pub struct Recorder {
    gpu: Gpu,
    name: String,
    encoder: wgpu::CommandEncoder,
    pass: Option<wgpu::ComputePass<'static>>,
    parameters: Option<ParameterBlock>,
    timestamps: Option<Timestamps>,
    /// What of [`Recorder::spend`] was spent since the last submission.
    work: u64,
    /// The first error, which [`Recorder::submit`] returns.
    failed: Option<GpuError>,
    /// Maps the buffers of readbacks once they are submitted.
    mappings: Vec<(wgpu::Buffer, SyncSender<bool>)>,
}

impl Recorder {
    /// Begins to record; `name` is for messages.
    ///
    /// # Errors
    /// [`GpuError::Lost`].
    pub fn new(gpu: &Gpu, name: &str) -> Result<Recorder, GpuError> {
        Ok(Recorder {
            encoder: encoder(gpu, name)?,
            gpu: gpu.clone(),
            name: name.to_owned(),
            pass: None,
            parameters: None,
            timestamps: None,
            work: 0,
            failed: None,
            mappings: Vec::new(),
        })
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Runs a kernel on `workgroups` workgroups, behind all that was recorded before: it sees what that wrote. Nothing happens
    /// when one of the three numbers is zero.
    ///
    /// `parameters` has to be as long as the kernel's parameters. Errors are kept for [`Recorder::submit`].
    pub fn dispatch<P: Pod>(
        &mut self,
        arguments: &Arguments,
        parameters: &P,
        workgroups: [u32; 3],
    ) {
        let parameters = bytemuck::bytes_of(parameters);
        if let Err(error) = self.try_dispatch(arguments, parameters, workgroups) {
            self.failed.get_or_insert(error);
        }
    }

    fn try_dispatch(
        &mut self,
        arguments: &Arguments,
        parameters: &[u8],
        [x, y, z]: [u32; 3],
    ) -> Result<(), GpuError> {
        let kernel = &arguments.kernel;
        let expected = kernel.parameter_bytes();
        if parameters.len() != expected as usize {
            return Err(GpuError::Length {
                what: "bytes of parameters",
                expected: u64::from(expected),
                found: parameters.len() as u64,
            });
        }
        let most = self.gpu.capabilities().limits.max_compute_workgroups_per_dimension;
        let needed = x.max(y).max(z);
        if needed > most {
            return Err(GpuError::Limit {
                what: "workgroups along one dimension of a dispatch",
                needed: u64::from(needed),
                available: u64::from(most),
            });
        }
        if x.min(y).min(z) == 0 || self.failed.is_some() {
            return Ok(());
        }
        let uniform = !parameters.is_empty() && !self.gpu.capabilities().immediates;
        let offset = if uniform { self.push_parameters(parameters)? } else { 0 };
        let pass = self.pass.get_or_insert_with(|| {
            let timestamp_writes = self.timestamps.as_mut().map(Timestamps::writes);
            let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
            self.encoder.begin_compute_pass(&descriptor).forget_lifetime()
        });
        pass.set_pipeline(kernel.pipeline());
        pass.set_bind_group(0, &arguments.group, &[]);
        match &self.parameters {
            Some(block) if uniform => pass.set_bind_group(1, &block.group, &[offset]),
            _ if parameters.is_empty() => {}
            _ => pass.set_immediates(0, parameters),
        }
        pass.dispatch_workgroups(x, y, z);
        Ok(())
    }

    /// Puts parameters into the uniform buffer; their place in it.
    fn push_parameters(&mut self, parameters: &[u8]) -> Result<u32, GpuError> {
        let full = |block: &ParameterBlock| block.bytes.len() as u64 == block.buffer.size();
        if self.parameters.as_ref().is_some_and(full) {
            self.flush()?;
        }
        let block = match self.parameters.take() {
            Some(block) => block,
            None => parameter_block(&self.gpu)?,
        };
        let block = self.parameters.insert(block);
        let offset = block.bytes.len();
        block.bytes.extend(parameters);
        let stride = parameter_stride(&self.gpu) as usize;
        block.bytes.resize(offset + stride, 0);
        Ok(offset as u32)
    }

    /// Says that the dispatches to come do `work` multiply-adds or the like. Where much has come together, what was recorded so
    /// far is submitted first: a device that is busy for seconds with one submission is reset by some systems.
    pub fn spend(&mut self, work: u64) {
        if self.work > 0
            && self.work.saturating_add(work) > self.gpu.capabilities().work_per_dispatch()
            && let Err(error) = self.flush()
        {
            self.failed.get_or_insert(error);
        }
        self.work = self.work.saturating_add(work);
    }

    /// Has the device take the time of the dispatches to come.
    ///
    /// # Errors
    /// [`GpuError::Refused`] where its [`timestamps`](super::Capabilities::timestamps) do not exist, [`GpuError::Lost`].
    pub fn start_timer(&mut self) -> Result<(), GpuError> {
        self.pass = None;
        self.timestamps = Some(Timestamps::new(&self.gpu)?);
        Ok(())
    }

    /// The time of the dispatches since [`Recorder::start_timer`], of which there must be one, once this is submitted and computed.
    ///
    /// # Errors
    /// [`GpuError::Refused`] where no timer was started; [`GpuError::OutOfMemory`] or [`GpuError::Lost`].
    pub fn stop_timer(&mut self) -> Result<Elapsed, GpuError> {
        self.pass = None;
        let timestamps = self.timestamps.take().ok_or_else(|| GpuError::Refused {
            what: self.name.clone(),
            reason: "no timer was started".to_owned(),
        })?;
        let ticks = timestamps.resolve(&self.gpu, &mut self.encoder)?;
        let period = self.gpu.queue().get_timestamp_period();
        Ok(Elapsed { ticks: self.read_back(&ticks, 0..2)?, period })
    }

    /// Copies `bytes` bytes (a multiple of four, as are the offsets) from one buffer to another.
    pub fn copy(
        &mut self,
        from: &Buffer,
        from_offset: u64,
        to: &Buffer,
        to_offset: u64,
        bytes: u64,
    ) {
        self.pass = None;
        self.encoder.copy_buffer_to_buffer(from.raw(), from_offset, to.raw(), to_offset, bytes);
    }

    /// Fills a buffer with zeros.
    pub fn clear(&mut self, buffer: &Buffer) {
        self.pass = None;
        self.encoder.clear_buffer(buffer.raw(), 0, None);
    }

    /// Copies `range` of a buffer, counted in elements of `T`, to where the host can read it once this is submitted and computed.
    ///
    /// # Errors
    /// [`GpuError::Length`] when the range is not in the buffer; [`GpuError::OutOfMemory`] or [`GpuError::Lost`].
    pub fn read_back<T: Pod>(
        &mut self,
        buffer: &Buffer,
        range: Range<usize>,
    ) -> Result<Readback<T>, GpuError> {
        let bytes = (range.start * size_of::<T>()) as u64..(range.end * size_of::<T>()) as u64;
        if bytes.end > buffer.bytes() || range.start > range.end {
            return Err(GpuError::Length {
                what: "bytes at most to read",
                expected: buffer.bytes(),
                found: bytes.end,
            });
        }
        // Copies begin and end at words; buffers are rounded up to more than that.
        let start = bytes.start / 4 * 4;
        let size = (bytes.end - start).max(1).next_multiple_of(4);
        let staging = self.gpu.guarded("reading back", || {
            self.gpu.device().create_buffer(&wgpu::BufferDescriptor {
                label: Some("readback"),
                size,
                usage: BufferUsages::COPY_DST | BufferUsages::MAP_READ,
                mapped_at_creation: false,
            })
        })?;
        self.pass = None;
        self.encoder.copy_buffer_to_buffer(buffer.raw(), start, &staging, 0, size);
        let (told, mapped) = sync_channel(1);
        self.mappings.push((staging.clone(), told));
        Ok(Readback {
            gpu: self.gpu.clone(),
            staging,
            skip: (bytes.start - start) as usize,
            count: range.len(),
            mapped,
            elements: PhantomData,
        })
    }

    /// Submits what was recorded so far and goes on recording.
    fn flush(&mut self) -> Result<wgpu::SubmissionIndex, GpuError> {
        self.pass = None;
        let next = encoder(&self.gpu, &self.name)?;
        let encoder = std::mem::replace(&mut self.encoder, next);
        let parameters = self.parameters.take();
        self.work = 0;
        let index = self.gpu.guarded(&self.name, || {
            if let Some(block) = &parameters {
                self.gpu.queue().write_buffer(&block.buffer, 0, &block.bytes);
            }
            self.gpu.queue().submit([encoder.finish()])
        })?;
        if let Some(mut block) = parameters {
            block.bytes.clear();
            self.gpu.parameter_blocks().push(block);
        }
        Ok(index)
    }

    /// Has the device begin with what was recorded; does not wait for it.
    ///
    /// # Errors
    /// The first error of the recording; [`GpuError::Lost`].
    pub fn submit(mut self) -> Result<Submission, GpuError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let index = self.flush()?;
        for (buffer, told) in self.mappings.drain(..) {
            self.gpu.guarded("reading back", || {
                buffer.map_async(MapMode::Read, .., move |result| {
                    // Nobody may want to know any more.
                    let _ = told.send(result.is_ok());
                });
            })?;
        }
        Ok(Submission { gpu: self.gpu.clone(), index })
    }
}

fn encoder(gpu: &Gpu, name: &str) -> Result<wgpu::CommandEncoder, GpuError> {
    gpu.guarded(name, || {
        gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some(name) })
    })
}

/// Distance of the parameters of one dispatch from those of the next.
fn parameter_stride(gpu: &Gpu) -> u64 {
    let alignment = gpu.capabilities().limits.min_uniform_buffer_offset_alignment;
    u64::from(PARAMETER_BYTES.next_multiple_of(alignment))
}

/// A uniform buffer that no other recorder holds.
fn parameter_block(gpu: &Gpu) -> Result<ParameterBlock, GpuError> {
    let kept = gpu.parameter_blocks().pop();
    if let Some(block) = kept {
        return Ok(block);
    }
    let device = gpu.device();
    gpu.guarded("parameters", || {
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("parameters"),
            size: parameter_stride(gpu) * BLOCK_DISPATCHES,
            usage: BufferUsages::UNIFORM | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("parameters"),
            entries: &[wgpu::BindGroupLayoutEntry {
                binding: 0,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Uniform,
                    has_dynamic_offset: true,
                    min_binding_size: None,
                },
                count: None,
            }],
        });
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("parameters"),
            layout: &layout,
            entries: &[wgpu::BindGroupEntry {
                binding: 0,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &buffer,
                    offset: 0,
                    size: wgpu::BufferSize::new(u64::from(PARAMETER_BYTES)),
                }),
            }],
        });
        ParameterBlock { buffer, group, bytes: Vec::new() }
    })
}

/// Commands that the device works on.
#[derive(Debug)]
pub struct Submission {
    gpu: Gpu,
    index: wgpu::SubmissionIndex,
}

impl Submission {
    /// Waits until they are computed.
    ///
    /// # Errors
    /// [`GpuError::Lost`], or [`GpuError::Timeout`] after a minute (half an hour where the host's cores compute).
    pub fn wait(self) -> Result<(), GpuError> {
        self.gpu.wait(Some(self.index))
    }
}
