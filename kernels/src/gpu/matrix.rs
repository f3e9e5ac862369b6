//! Weight matrices in the memory of a device.
//!
//! Codes lie there as in the panels of the CPU with one lane ([`panel`](crate::pack::panel)): a row of 32-bit words for each output
//! channel, whose bytes, shifted and masked, are four neighbouring input features. That is what an integer dot product takes, and
//! what is widened to numbers without a shuffle. Rows are padded with zeros to 64 input features.

use bytemuck::Pod;
use half::f16;

use super::shader::{Element, WeightKind};
use super::{Buffer, Gpu, GpuError};
use crate::matrix::{check_length, check_shape};
use crate::pack::{self, panel};
use crate::{MatrixError, Width};

/// What the input dimension is padded to: the widest step of a kernel.
const DEPTH_STEP: usize = 64;

/// Bytes of rows that are laid out before they are written to the device.
const PIECE: usize = 4 << 20;

/// A weight matrix `[out_features, in_features]` in the memory of a device.
///
/// Codes stay packed (1.58-bit codes at 2 bits) and are expanded inside the products.
#[derive(Clone, Debug)]
pub struct Matrix {
    pub(super) kind: WeightKind,
    pub(super) out_features: u32,
    pub(super) in_features: u32,
    pub(super) weights: Buffer,
    /// Scales, offsets of centred codes and sums of codes, each padded to whole quads; none for floats.
    pub(super) channels: Option<Buffer>,
    /// Elements of the shader's array that a row takes.
    pub(super) stride: u32,
}

impl Matrix {
    /// A matrix of codes from their canonical layout ([`pack`](crate::pack)).
    ///
    /// `n` output and `k` input features; `scale` and `offset` have `n` elements: `w[n][k] = scale[n] * code + offset[n]`.
    ///
    /// # Errors
    /// [`GpuError::Matrix`] when the matrix is empty or too large, a slice has the wrong length, or the packed bytes are not valid
    /// codes; [`GpuError::Limit`], [`GpuError::OutOfMemory`] or [`GpuError::Lost`].
    pub fn from_codes(
        gpu: &Gpu,
        width: Width,
        (n, k): (usize, usize),
        packed: &[u8],
        scale: &[f32],
        offset: &[f32],
    ) -> Result<Matrix, GpuError> {
        let mut builder = MatrixBuilder::new(gpu, WeightKind::Codes(width), n, k)?;
        builder.push(packed)?;
        builder.finish(scale, offset)
    }

    /// A matrix of floats, `w` row-major `[n, k]`.
    ///
    /// # Errors
    /// As [`Matrix::from_codes`].
    pub fn from_f32(gpu: &Gpu, (n, k): (usize, usize), w: &[f32]) -> Result<Matrix, GpuError> {
        let mut builder = MatrixBuilder::new(gpu, WeightKind::Floats(Element::F32), n, k)?;
        check_length("weights", n * k, w.len())?;
        builder.place(w)?;
        builder.finish(&[], &[])
    }

    /// A matrix of half-precision floats, `w` row-major `[n, k]`.
    ///
    /// # Errors
    /// As [`Matrix::from_codes`].
    pub fn from_f16(gpu: &Gpu, (n, k): (usize, usize), w: &[f16]) -> Result<Matrix, GpuError> {
        let mut builder = MatrixBuilder::new(gpu, WeightKind::Floats(Element::F16), n, k)?;
        check_length("weights", n * k, w.len())?;
        builder.place(w)?;
        builder.finish(&[], &[])
    }

    /// Number of output features, `N`.
    pub fn out_features(&self) -> usize {
        self.out_features as usize
    }

    /// Number of input features, `K`.
    pub fn in_features(&self) -> usize {
        self.in_features as usize
    }

    /// Whether it can be multiplied by codes: whether it is codes, of so few input features that the sums are exact.
    pub fn has_integer_products(&self) -> bool {
        match self.kind {
            WeightKind::Codes(width) => self.in_features() <= width.largest_integer_depth(),
            WeightKind::Floats(_) => false,
        }
    }

    /// What the weights are.
    pub fn kind(&self) -> WeightKind {
        self.kind
    }

    /// Bytes of device memory that the matrix holds.
    pub fn resident_bytes(&self) -> u64 {
        let channels = self.channels.as_ref().map_or(0, Buffer::resident_bytes);
        self.weights.resident_bytes() + channels
    }
}

/// A [`Matrix`] in the making, to which rows are added in their order, so that a file need not be in memory beside it.
#[derive(Debug)]
pub struct MatrixBuilder {
    gpu: Gpu,
    kind: WeightKind,
    out_features: usize,
    in_features: usize,
    weights: Buffer,
    code_sums: Vec<i32>,
    /// Rows that have come.
    rows: usize,
}

impl MatrixBuilder {
    /// A matrix of `n` output and `k` input features.
    ///
    /// # Errors
    /// [`GpuError::Matrix`] when it is empty or too large; [`GpuError::Limit`], [`GpuError::OutOfMemory`] or [`GpuError::Lost`].
    pub fn new(gpu: &Gpu, kind: WeightKind, n: usize, k: usize) -> Result<MatrixBuilder, GpuError> {
        check_shape(n, k)?;
        let bytes = (n as u64).saturating_mul(resident_row_bytes(kind, k) as u64);
        Ok(MatrixBuilder {
            weights: gpu.buffer("weights", bytes)?,
            gpu: gpu.clone(),
            kind,
            out_features: n,
            in_features: k,
            code_sums: Vec::new(),
            rows: 0,
        })
    }

    /// Bytes of one row, as [`push`](Self::push) takes them.
    pub fn row_bytes(&self) -> usize {
        match self.kind {
            WeightKind::Codes(width) => width.row_bytes(self.in_features),
            WeightKind::Floats(Element::F32) => self.in_features * size_of::<f32>(),
            WeightKind::Floats(Element::F16) => self.in_features * size_of::<f16>(),
        }
    }

    /// Adds whole rows: codes in their canonical layout, floats in little-endian bytes.
    ///
    /// # Errors
    /// [`GpuError::Matrix`] when `rows` is not a number of whole rows, or more than are missing, or the packed bytes are not valid
    /// codes; [`GpuError::Lost`]. Nothing has been added then.
    pub fn push(&mut self, rows: &[u8]) -> Result<(), GpuError> {
        let row_bytes = self.row_bytes();
        let count = (rows.len() / row_bytes).min(self.out_features - self.rows);
        check_length("bytes in whole rows", count * row_bytes, rows.len())?;
        match self.kind {
            WeightKind::Codes(width) => {
                pack::validate(width, count, self.in_features, rows)
                    .map_err(|error| MatrixError::from(error.behind(self.rows)))?;
                self.place_codes(width, rows)
            }
            WeightKind::Floats(_) => self.place(rows),
        }
    }

    /// Adds rows of valid codes.
    fn place_codes(&mut self, width: Width, rows: &[u8]) -> Result<(), GpuError> {
        let row_words = resident_row_bytes(self.kind, self.in_features) / size_of::<u32>();
        let row_bytes = self.row_bytes();
        let at_a_time = (PIECE / (row_words * size_of::<u32>())).max(1);
        for piece in rows.chunks(at_a_time * row_bytes) {
            let mut words = vec![0_u32; piece.len() / row_bytes * row_words];
            for (bytes, words) in piece.chunks(row_bytes).zip(words.chunks_mut(row_words)) {
                self.code_sums.push(pack::lane::fill(width, bytes, words, 1, 0));
            }
            self.write(&words, row_words * size_of::<u32>())?;
        }
        Ok(())
    }

    /// Adds rows of numbers, or of their bytes.
    fn place<T: Pod>(&mut self, rows: &[T]) -> Result<(), GpuError> {
        let row = self.row_bytes() / size_of::<T>();
        let padded = resident_row_bytes(self.kind, self.in_features) / size_of::<T>();
        for piece in rows.chunks((PIECE / (padded * size_of::<T>())).max(1) * row) {
            let mut numbers = vec![T::zeroed(); piece.len() / row * padded];
            for (from, to) in piece.chunks(row).zip(numbers.chunks_mut(padded)) {
                to[..row].copy_from_slice(from);
            }
            self.write(&numbers, padded * size_of::<T>())?;
        }
        Ok(())
    }

    /// Writes padded rows behind those that have come.
    fn write<T: Pod>(&mut self, padded: &[T], row_bytes: usize) -> Result<(), GpuError> {
        self.gpu.upload(&self.weights, (self.rows * row_bytes) as u64, padded)?;
        self.rows += size_of_val(padded) / row_bytes;
        Ok(())
    }

    /// The matrix, once all rows have come. `scale` and `offset` have `n` elements each, `w[n][k] = scale[n] * code +
    /// offset[n]`; they are empty for floats.
    ///
    /// # Errors
    /// [`GpuError::Matrix`] when rows are missing, or a slice has the wrong length; [`GpuError::OutOfMemory`] or [`GpuError::Lost`].
    pub fn finish(self, scale: &[f32], offset: &[f32]) -> Result<Matrix, GpuError> {
        check_length("rows", self.out_features, self.rows)?;
        let (count, middle) = match self.kind {
            WeightKind::Codes(width) => (self.out_features, width.middle() as f32),
            WeightKind::Floats(_) => (0, 0.0),
        };
        check_length("scales", count, scale.len())?;
        check_length("offsets", count, offset.len())?;
        let channels = match self.kind {
            WeightKind::Codes(_) => {
                let padded = count.next_multiple_of(4);
                let mut words = vec![0_u32; 3 * padded];
                for channel in 0..count {
                    let (scale, offset) = (scale[channel], offset[channel]);
                    words[channel] = scale.to_bits();
                    words[padded + channel] = (offset + scale * middle).to_bits();
                    words[2 * padded + channel] = self.code_sums[channel] as u32;
                }
                Some(self.gpu.buffer_of("channels", &words)?)
            }
            WeightKind::Floats(_) => None,
        };
        let row_bytes = resident_row_bytes(self.kind, self.in_features);
        let element = match self.kind {
            WeightKind::Codes(_) => size_of::<u32>(),
            WeightKind::Floats(Element::F32) => 4 * size_of::<f32>(),
            WeightKind::Floats(Element::F16) => 4 * size_of::<f16>(),
        };
        // The device has a buffer of this size, so that these fit.
        Ok(Matrix {
            kind: self.kind,
            out_features: self.out_features as u32,
            in_features: self.in_features as u32,
            weights: self.weights,
            channels,
            stride: (row_bytes / element) as u32,
        })
    }
}

/// Bytes of a row in the memory of the device.
fn resident_row_bytes(kind: WeightKind, in_features: usize) -> usize {
    let padded = in_features.next_multiple_of(DEPTH_STEP);
    match kind {
        WeightKind::Codes(width) => panel::panel_words(width, padded, 1) * size_of::<u32>(),
        WeightKind::Floats(Element::F32) => padded * size_of::<f32>(),
        WeightKind::Floats(Element::F16) => padded * size_of::<f16>(),
    }
}
