//! Memory of a device.

use std::ops::Range;

use bytemuck::Pod;
use wgpu::BufferUsages;

use super::{Gpu, GpuError, Recorder};

/// Bytes that are written at a time, so that the copy which the driver keeps until it is done stays small.
const PIECE: usize = 16 << 20;

/// What lengths are rounded up to, so that the last elements can be read four at a time.
const ROUNDING: u64 = 16;

/// Memory of a device that shaders read and write. Zero at first.
#[derive(Clone, Debug)]
pub struct Buffer {
    buffer: wgpu::Buffer,
    /// Bytes asked for.
    bytes: u64,
}

impl Buffer {
    /// Bytes that were asked for.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that it takes on the device.
    pub fn resident_bytes(&self) -> u64 {
        self.buffer.size()
    }

    /// The buffer as wgpu has it.
    pub fn raw(&self) -> &wgpu::Buffer {
        &self.buffer
    }

    /// All of it, as an argument of a kernel.
    pub fn whole(&self) -> Binding<'_> {
        Binding { buffer: &self.buffer, range: 0..self.buffer.size() }
    }

    /// A part of it, in bytes, as an argument of a kernel. It has to begin at a multiple of the device's
    /// `min_storage_buffer_offset_alignment` (256 or less).
    pub fn part(&self, range: Range<u64>) -> Binding<'_> {
        Binding { buffer: &self.buffer, range }
    }
}

/// A part of a buffer, as an argument of a kernel.
#[derive(Clone, Debug)]
pub struct Binding<'a> {
    pub(super) buffer: &'a wgpu::Buffer,
    pub(super) range: Range<u64>,
}

impl Gpu {
    /// Memory for `bytes` bytes, named in messages.
    ///
    /// # Errors
    /// [`GpuError::Limit`] when the device has no buffers of this size, or shaders could not reach all of it;
    /// [`GpuError::OutOfMemory`].
    pub fn buffer(&self, name: &str, bytes: u64) -> Result<Buffer, GpuError> {
        self.buffer_for(name, bytes, BufferUsages::STORAGE | BufferUsages::COPY_DST)
    }

    /// As [`Gpu::buffer`], for these uses and copying from it.
    pub(super) fn buffer_for(
        &self,
        name: &str,
        bytes: u64,
        usage: BufferUsages,
    ) -> Result<Buffer, GpuError> {
        let limits = &self.capabilities().limits;
        for (what, available) in [
            ("bytes of a buffer", limits.max_buffer_size),
            ("bytes of a buffer that a shader reads", limits.max_storage_buffer_binding_size),
        ] {
            if bytes > available / ROUNDING * ROUNDING {
                return Err(GpuError::Limit { what, needed: bytes, available });
            }
        }
        let buffer = self.guarded(name, || {
            self.device().create_buffer(&wgpu::BufferDescriptor {
                label: Some(name),
                size: bytes.max(1).next_multiple_of(ROUNDING),
                usage: usage | BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            })
        })?;
        Ok(Buffer { buffer, bytes })
    }

    /// Memory that holds `values`.
    ///
    /// # Errors
    /// As [`Gpu::buffer`].
    pub fn buffer_of<T: Pod>(&self, name: &str, values: &[T]) -> Result<Buffer, GpuError> {
        let buffer = self.buffer(name, size_of_val(values) as u64)?;
        self.upload(&buffer, 0, values)?;
        Ok(buffer)
    }

    /// Writes `values` at byte `offset`, a multiple of four. What is submitted before reads the old contents, what is submitted
    /// later the new ones; the call does not wait.
    ///
    /// # Errors
    /// [`GpuError::Length`] when they do not fit; [`GpuError::Lost`].
    pub fn upload<T: Pod>(
        &self,
        buffer: &Buffer,
        offset: u64,
        values: &[T],
    ) -> Result<(), GpuError> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let end = offset + bytes.len() as u64;
        if end > buffer.bytes {
            return Err(GpuError::Length {
                what: "bytes at most to write",
                expected: buffer.bytes - offset.min(buffer.bytes),
                found: bytes.len() as u64,
            });
        }
        for (index, piece) in bytes.chunks(PIECE).enumerate() {
            self.guarded("writing to a buffer", || {
                let (whole, rest) = piece.split_at(piece.len() / 4 * 4);
                let at = offset + (index * PIECE) as u64;
                self.queue().write_buffer(&buffer.buffer, at, whole);
                if !rest.is_empty() {
                    let mut word = [0; 4];
                    word[..rest.len()].copy_from_slice(rest);
                    self.queue().write_buffer(&buffer.buffer, at + whole.len() as u64, &word);
                }
                if bytes.len() > PIECE {
                    self.queue().submit([]);
                }
            })?;
        }
        Ok(())
    }

    /// Waits for everything submitted and copies `range` of a buffer, counted in elements of `T`, to the host.
    ///
    /// # Errors
    /// [`GpuError::Length`] when the range is not in the buffer; [`GpuError::Lost`] or [`GpuError::Timeout`].
    pub fn download<T: Pod>(
        &self,
        buffer: &Buffer,
        range: Range<usize>,
    ) -> Result<Vec<T>, GpuError> {
        let mut recorder = Recorder::new(self, "download")?;
        let readback = recorder.read_back::<T>(buffer, range)?;
        recorder.submit()?;
        readback.wait()
    }
}
