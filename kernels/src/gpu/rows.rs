//! Rows of numbers in the memory of a device, and of their codes.
//!
//! Every row begins at a multiple of eight numbers and is filled up with zeros ([`row_stride`]), so that shaders read and write four
//! numbers at a time whatever the number of columns.

use half::f16;

use super::shader::Element;
use super::{Buffer, Gpu, GpuError};

/// Numbers that a row of `columns` takes.
pub const fn row_stride(columns: usize) -> usize {
    columns.next_multiple_of(8)
}

impl Element {
    /// Bytes of a number.
    pub const fn bytes(self) -> usize {
        match self {
            Element::F32 => size_of::<f32>(),
            Element::F16 => size_of::<f16>(),
        }
    }
}

/// Rows of numbers in the memory of a device.
#[derive(Clone, Debug)]
pub struct Rows {
    pub(super) buffer: Buffer,
    pub(super) element: Element,
    rows: usize,
    columns: usize,
}

impl Rows {
    /// Room for `rows` rows of `columns` numbers, zero at first.
    ///
    /// # Errors
    /// As [`Gpu::buffer`].
    pub fn new(
        gpu: &Gpu,
        name: &str,
        element: Element,
        rows: usize,
        columns: usize,
    ) -> Result<Rows, GpuError> {
        let bytes = (rows as u64)
            .saturating_mul(row_stride(columns) as u64)
            .saturating_mul(element.bytes() as u64);
        Ok(Rows { buffer: gpu.buffer(name, bytes)?, element, rows, columns })
    }

    /// Rows that hold `values`, `[rows, columns]` row-major, rounded to `element`.
    ///
    /// # Errors
    /// As [`Gpu::buffer`], and [`GpuError::Length`] when the values are not made of whole rows.
    pub fn of(
        gpu: &Gpu,
        name: &str,
        element: Element,
        values: &[f32],
        columns: usize,
    ) -> Result<Rows, GpuError> {
        let rows = Rows::new(gpu, name, element, values.len() / columns.max(1), columns)?;
        rows.write(gpu, values)?;
        Ok(rows)
    }

    /// Replaces the first rows.
    ///
    /// # Errors
    /// [`GpuError::Length`] when the values are not made of whole rows, or too many; [`GpuError::Lost`].
    pub fn write(&self, gpu: &Gpu, values: &[f32]) -> Result<(), GpuError> {
        let columns = self.columns.max(1);
        let count = (values.len() / columns).min(self.rows);
        if count * columns != values.len() {
            return Err(GpuError::Length {
                what: "numbers in whole rows",
                expected: (count * columns) as u64,
                found: values.len() as u64,
            });
        }
        let stride = row_stride(self.columns);
        let mut padded = vec![0.0; count * stride];
        for (to, from) in padded.chunks_mut(stride.max(1)).zip(values.chunks(columns)) {
            to[..from.len()].copy_from_slice(from);
        }
        match self.element {
            Element::F32 => gpu.upload(&self.buffer, 0, &padded),
            Element::F16 => {
                let halves: Vec<f16> = padded.into_iter().map(f16::from_f32).collect();
                gpu.upload(&self.buffer, 0, &halves)
            }
        }
    }

    /// Waits for everything submitted and reads the first `count` rows, `[count, columns]` row-major.
    ///
    /// # Errors
    /// [`GpuError::Length`] when there are fewer; [`GpuError::Lost`] or [`GpuError::Timeout`].
    pub fn read(&self, gpu: &Gpu, count: usize) -> Result<Vec<f32>, GpuError> {
        let stride = row_stride(self.columns);
        let padded = match self.element {
            Element::F32 => gpu.download::<f32>(&self.buffer, 0..count * stride)?,
            Element::F16 => gpu
                .download::<f16>(&self.buffer, 0..count * stride)?
                .into_iter()
                .map(f16::to_f32)
                .collect(),
        };
        Ok(padded.chunks(stride.max(1)).flat_map(|row| &row[..self.columns]).copied().collect())
    }

    /// The memory.
    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// How numbers lie in it.
    pub fn element(&self) -> Element {
        self.element
    }

    /// Rows that there is room for.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The same memory as rows of another length: for buffers that hold one thing after another.
    ///
    /// # Errors
    /// [`GpuError::Length`] when there is not enough of it.
    pub fn reshaped(&self, rows: usize, columns: usize) -> Result<Rows, GpuError> {
        self.recast(self.element, rows, columns)
    }

    /// The same memory as rows of another length and another element.
    ///
    /// # Errors
    /// [`GpuError::Length`] when there is not enough of it.
    pub fn recast(&self, element: Element, rows: usize, columns: usize) -> Result<Rows, GpuError> {
        let bytes = (rows as u64)
            .saturating_mul(row_stride(columns) as u64)
            .saturating_mul(element.bytes() as u64);
        if bytes > self.buffer.bytes() {
            return Err(GpuError::Length {
                what: "bytes of rows at most",
                expected: self.buffer.bytes(),
                found: bytes,
            });
        }
        Ok(Rows { buffer: self.buffer.clone(), element, rows, columns })
    }
}

/// Rows of activations as signed bytes, each row on a grid of its own: the rule is that of
/// [`Activations`](crate::Activations), and so are the codes, to the last bit.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// Words of four codes; rows are padded with codes 0 to 16.
    pub(super) codes: Buffer,
    /// Scale (f32), zero (i32), sum of codes (i32) and nothing, for each row.
    pub(super) grids: Buffer,
    rows: usize,
    columns: usize,
}

impl Quantized {
    /// Room for `rows` rows of `columns` codes.
    ///
    /// # Errors
    /// As [`Gpu::buffer`].
    pub fn new(gpu: &Gpu, rows: usize, columns: usize) -> Result<Quantized, GpuError> {
        let bytes = (rows as u64).saturating_mul(columns.next_multiple_of(16) as u64);
        Ok(Quantized {
            codes: gpu.buffer("codes of activations", bytes)?,
            grids: gpu.buffer("grids of activations", (rows as u64).saturating_mul(16))?,
            rows,
            columns,
        })
    }

    /// Rows that there is room for.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Codes of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Waits for everything submitted and reads the first `count` rows.
    ///
    /// # Errors
    /// [`GpuError::Length`] when there are fewer; [`GpuError::Lost`] or [`GpuError::Timeout`].
    pub fn read(&self, gpu: &Gpu, count: usize) -> Result<QuantizedRows, GpuError> {
        let stride = self.columns.next_multiple_of(16);
        let padded = gpu.download::<i8>(&self.codes, 0..count * stride)?;
        let grids = gpu.download::<[u32; 4]>(&self.grids, 0..count)?;
        let rows = padded.chunks(stride.max(1));
        Ok(QuantizedRows {
            codes: rows.flat_map(|row| &row[..self.columns]).copied().collect(),
            scales: grids.iter().map(|grid| f32::from_bits(grid[0])).collect(),
            zeros: grids.iter().map(|grid| grid[1] as i32).collect(),
        })
    }
}

/// Codes of activations on the host.
#[derive(Clone, Debug)]
pub struct QuantizedRows {
    /// `[rows, columns]`, row-major.
    pub codes: Vec<i8>,
    /// Step between the codes of each row.
    pub scales: Vec<f32>,
    /// Code that stands for zero in each row.
    pub zeros: Vec<i32>,
}

/// Whether there is room for so many rows.
pub(super) fn check_rows(count: usize, room: usize) -> Result<(), GpuError> {
    if count <= room {
        return Ok(());
    }
    Err(GpuError::Length { what: "rows at most", expected: room as u64, found: count as u64 })
}
