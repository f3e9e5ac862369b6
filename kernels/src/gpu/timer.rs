//! How long a device takes for some dispatches, by its own clock.

use std::time::Duration;

use super::{Buffer, Gpu, GpuError, Readback, wgpu};

/// Times at which passes begin and end.
#[derive(Debug)]
pub(super) struct Timestamps {
    queries: wgpu::QuerySet,
    /// Whether a pass has begun since.
    begun: bool,
}

impl Timestamps {
    pub(super) fn new(gpu: &Gpu) -> Result<Timestamps, GpuError> {
        let queries = gpu.guarded("timing", || {
            gpu.device().create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timing"),
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            })
        })?;
        Ok(Timestamps { queries, begun: false })
    }

    /// What the next pass writes. There are several where work is submitted in parts: the first begins, each may be the last.
    pub(super) fn writes(&mut self) -> wgpu::ComputePassTimestampWrites<'_> {
        let first = !std::mem::replace(&mut self.begun, true);
        wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: first.then_some(0),
            end_of_pass_write_index: Some(1),
        }
    }

    /// Has the two times written to memory.
    pub(super) fn resolve(
        &self,
        gpu: &Gpu,
        encoder: &mut wgpu::CommandEncoder,
    ) -> Result<Buffer, GpuError> {
        let bytes = 2 * u64::from(wgpu::QUERY_SIZE);
        let ticks = gpu.buffer_for("timing", bytes, wgpu::BufferUsages::QUERY_RESOLVE)?;
        encoder.resolve_query_set(&self.queries, 0..2, ticks.raw(), 0);
        Ok(ticks)
    }
}

/// A time that the device is taking.
#[derive(Debug)]
pub struct Elapsed {
    /// Begin and end.
    pub(super) ticks: Readback<u64>,
    /// Length of a tick in nanoseconds.
    pub(super) period: f32,
}

impl Elapsed {
    /// Waits for the device; `None` where its clock is too coarse to tell, or began anew.
    ///
    /// # Errors
    /// As [`Readback::wait`].
    pub fn wait(self) -> Result<Option<Duration>, GpuError> {
        let ticks = self.ticks.wait()?;
        let passed = match ticks[..] {
            [begin, end] => end.checked_sub(begin).filter(|&ticks| ticks > 0),
            _ => None,
        };
        Ok(passed.map(|ticks| Duration::from_nanos((ticks as f64 * f64::from(self.period)) as u64)))
    }
}
