//! Matrices from rows that arrive piece by piece, so that a file need not be in memory beside what is made of it.

use bytemuck::Pod;
use half::f16;

use super::{Matrix, Storage, check_length, check_shape, lanes};
use crate::arch::Token;
use crate::memory::Lines;
use crate::pack::{self, panel};
use crate::{Isa, MatrixError, Width};

/// Input features that are transposed at a time: what they take in a panel stays in the nearest cache.
const BLOCK: usize = 32;

/// A [`Matrix`] in the making, to which rows are added in their order.
///
/// Its memory is reserved at the beginning, but not touched before the rows come.
///
/// ```
/// use fresnel_kernels::{Isa, Matrix, MatrixBuilder, Width};
///
/// // Three output channels of four input features: a byte each.
/// let mut builder = MatrixBuilder::codes(Isa::best(), Width::Two, 3, 4)?;
/// builder.push(&[0b11_10_01_00])?;
/// builder.push(&[0b00_00_00_01, 0b01_01_01_01])?;
/// let matrix: Matrix = builder.finish(&[0.5; 3], &[-1.0; 3])?;
/// assert_eq!(matrix.out_features(), 3);
/// # Ok::<(), fresnel_kernels::MatrixError>(())
/// ```
#[derive(Debug)]
pub struct MatrixBuilder {
    token: Token,
    out_features: usize,
    in_features: usize,
    /// Output channels of a panel.
    lanes: usize,
    /// Panels up to the one of the last row.
    storage: Storage,
    code_sums: Lines,
    /// Rows that have come.
    rows: usize,
}

impl MatrixBuilder {
    /// A matrix of codes with `n` output and `k` input features.
    ///
    /// # Errors
    /// When the instruction set is not available, the matrix is empty or too large, or there is no memory for it.
    pub fn codes(isa: Isa, width: Width, n: usize, k: usize) -> Result<MatrixBuilder, MatrixError> {
        let elements = |lanes| n.div_ceil(lanes) * panel::panel_words(width, k, lanes);
        let mut builder =
            MatrixBuilder::new::<u32>(isa, n, k, elements, |words| Storage::Codes(width, words))?;
        builder.code_sums = Lines::zeroed::<i32>(n.next_multiple_of(builder.lanes));
        Ok(builder)
    }

    /// A matrix of floats, `[n, k]`.
    ///
    /// # Errors
    /// As [`MatrixBuilder::codes`].
    pub fn f32(isa: Isa, n: usize, k: usize) -> Result<MatrixBuilder, MatrixError> {
        let elements = |lanes| n.next_multiple_of(lanes) * k;
        MatrixBuilder::new::<f32>(isa, n, k, elements, Storage::F32)
    }

    /// A matrix of half-precision floats, `[n, k]`.
    ///
    /// # Errors
    /// As [`MatrixBuilder::codes`].
    pub fn f16(isa: Isa, n: usize, k: usize) -> Result<MatrixBuilder, MatrixError> {
        let elements = |lanes| n.next_multiple_of(lanes) * k;
        MatrixBuilder::new::<f16>(isa, n, k, elements, Storage::F16)
    }

    /// A matrix whose panels have, with so many lanes, as many elements as `elements` says.
    fn new<T: Pod>(
        isa: Isa,
        n: usize,
        k: usize,
        elements: impl FnOnce(usize) -> usize,
        storage: impl FnOnce(Lines) -> Storage,
    ) -> Result<MatrixBuilder, MatrixError> {
        let token = isa.require()?;
        check_shape(n, k)?;
        let lanes = lanes(token);
        let memory = Lines::with_room::<T>(elements(lanes))
            .map_err(|_| MatrixError::Memory { out_features: n, in_features: k })?;
        Ok(MatrixBuilder {
            token,
            out_features: n,
            in_features: k,
            lanes,
            storage: storage(memory),
            code_sums: Lines::default(),
            rows: 0,
        })
    }

    /// Bytes of one row, as [`push`](Self::push) takes them.
    pub fn row_bytes(&self) -> usize {
        match self.storage {
            Storage::Codes(width, _) => width.row_bytes(self.in_features),
            Storage::F32(_) => self.in_features * size_of::<f32>(),
            Storage::F16(_) => self.in_features * size_of::<f16>(),
        }
    }

    /// Adds whole rows: codes in their canonical layout ([`pack`]), floats in little-endian bytes.
    ///
    /// # Errors
    /// When `rows` is not a number of whole rows, or more than are missing, or the packed bytes are not valid codes. Nothing
    /// has been added then.
    pub fn push(&mut self, rows: &[u8]) -> Result<(), MatrixError> {
        let row_bytes = self.row_bytes();
        let count = (rows.len() / row_bytes).min(self.out_features - self.rows);
        check_length("bytes in whole rows", count * row_bytes, rows.len())?;
        match self.storage {
            Storage::Codes(width, _) => {
                pack::validate(width, count, self.in_features, rows)
                    .map_err(|error| error.behind(self.rows))?;
                self.place_codes(width, rows);
            }
            Storage::F32(_) => self.place_floats(rows.as_chunks().0, f32::from_le_bytes),
            Storage::F16(_) => self.place_floats(rows.as_chunks().0, f16::from_le_bytes),
        }
        Ok(())
    }

    /// Adds whole rows of valid codes, no more than are missing.
    pub(super) fn place_codes(&mut self, width: Width, rows: &[u8]) {
        let lanes = self.lanes;
        let panel_words = panel::panel_words(width, self.in_features, lanes);
        let memory = self.storage.memory();
        for bytes in rows.chunks_exact(width.row_bytes(self.in_features)) {
            let panel = self.rows / lanes;
            memory.grow::<u32>((panel + 1) * panel_words);
            let words = &mut memory.of_mut()[panel * panel_words..][..panel_words];
            self.code_sums.of_mut()[self.rows] =
                pack::lane::fill(width, bytes, words, lanes, self.rows % lanes);
            self.rows += 1;
        }
    }

    /// Adds whole rows of floats, no more than are missing; `read` turns them into what the storage holds.
    pub(super) fn place_floats<V: Copy, T: Pod>(&mut self, mut rows: &[V], read: impl Fn(V) -> T) {
        let (lanes, depth) = (self.lanes, self.in_features);
        let panel_length = depth * lanes;
        let memory = self.storage.memory();
        while !rows.is_empty() {
            // As many as belong to the panel of the first.
            let (panel, first) = (self.rows / lanes, self.rows % lanes);
            let count = (lanes - first).min(rows.len() / depth);
            let (now, later) = rows.split_at(count * depth);
            memory.grow::<T>((panel + 1) * panel_length);
            let panel = &mut memory.of_mut::<T>()[panel * panel_length..][..panel_length];
            for (block, panel) in panel.chunks_mut(BLOCK * lanes).enumerate() {
                for (row, lane) in now.chunks_exact(depth).zip(first..) {
                    let row = &row[block * BLOCK..];
                    for (value, weights) in row.iter().zip(panel.chunks_exact_mut(lanes)) {
                        weights[lane] = read(*value);
                    }
                }
            }
            self.rows += count;
            rows = later;
        }
    }

    /// The matrix, once all rows have come. `scale` and `offset` have `n` elements each, `w[n][k] = scale[n] * code +
    /// offset[n]`; they are empty for floats.
    ///
    /// # Errors
    /// When rows are missing, or a slice has the wrong length.
    pub fn finish(self, scale: &[f32], offset: &[f32]) -> Result<Matrix, MatrixError> {
        check_length("rows", self.out_features, self.rows)?;
        let (channels, middle) = match self.storage {
            Storage::Codes(width, _) => (self.out_features, width.middle() as f32),
            Storage::F32(_) | Storage::F16(_) => (0, 0.0),
        };
        check_length("scales", channels, scale.len())?;
        check_length("offsets", channels, offset.len())?;

        let padded = channels.next_multiple_of(self.lanes);
        let mut padded_scale = Lines::zeroed::<f32>(padded);
        padded_scale.of_mut::<f32>()[..channels].copy_from_slice(scale);
        let mut centred_offset = Lines::zeroed::<f32>(padded);
        for ((centred, &scale), &offset) in
            centred_offset.of_mut::<f32>().iter_mut().zip(scale).zip(offset)
        {
            *centred = offset + scale * middle;
        }
        Ok(Matrix {
            token: self.token,
            out_features: self.out_features,
            in_features: self.in_features,
            storage: self.storage,
            scale: padded_scale,
            centred_offset,
            code_sums: self.code_sums,
        })
    }
}

impl Storage {
    fn memory(&mut self) -> &mut Lines {
        match self {
            Storage::Codes(_, lines) | Storage::F32(lines) | Storage::F16(lines) => lines,
        }
    }
}
