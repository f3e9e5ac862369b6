//! Activations, packed for a product: the left operand in the order of the micro-kernels, in the arithmetic's numbers.
//!
//! Made once from [`Rows`] and filled again for each product, so that layer normalisation, quantisation and packing are one
//! pass over a row while it lies in the first-level cache.

mod blocks;
mod quantize;
#[cfg(test)]
mod tests;

use half::bf16;

pub(crate) use blocks::{BLOCK, CODE_SUM_LANES, round_block};
pub(crate) use quantize::{LEAST_SCALE, round_codes};

use crate::arch::tiles::for_each_chunk_pair;
use crate::arch::{Simd, Token, Vectorized, dispatch};
use crate::memory::{Buffer, Lines, Slot};
use crate::ops::{sum, sum_map, transpose_row};
use crate::{Arithmetic, Isa, Layout, Pool, Rows};
use blocks::BlockRows;

/// Packed rows of activations: `[M, K]` in [`Arithmetic::F32`], [`Arithmetic::Half`] or [`Arithmetic::Int8`].
///
/// In integer arithmetic `a[m][k] ~ scale[m] * (code[m][k] - zero[m])`, on a grid that reaches from `lo = min(0, min a)` to
/// `hi = max(0, max a)`: the scale is `s = (hi - lo) / 255` (1 where that is below 1e-37), the zero `round(-lo / s) - 128`, the
/// code `round(a / s)` plus zero, clamped to a byte. Rounding is to the nearest, halves to even, and `/ s` a product with the
/// rounded reciprocal. Codes, scales and zeros have the same bits on every instruction set. A row that holds a number which
/// is not finite (or whose range is not) has codes 0 and the scale NaN, so that every output of that row is NaN.
///
/// In half precision every number is rounded to the nearest bfloat16, ties to even.
#[derive(Debug, Default)]
pub struct Activations {
    /// Of the last packing.
    packed_for: Option<(Token, Arithmetic)>,
    columns: usize,
    /// Row tiles one after another, see [`LeftBlock`](crate::arch::LeftBlock).
    packed: Lines,
    rows: Vec<RowGrid>,
}

/// What a product needs of a row besides its numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct RowGrid {
    /// Step between codes.
    pub(crate) scale: f32,
    /// The code that stands for zero.
    pub(crate) zero: i32,
    /// Sum of the codes above zero, `sum_k (q - zero)`.
    pub(crate) code_sum: i32,
    /// Sum of the numbers as they are multiplied; in integer arithmetic `code_sum`.
    pub(crate) sum: f32,
}

impl RowGrid {
    /// Notes the sum of the codes of so many columns, unless a number is not finite.
    #[inline(always)]
    fn set_code_sum(&mut self, sum: i32, columns: usize) {
        if !self.scale.is_nan() {
            self.code_sum = sum.wrapping_sub((columns as i32).wrapping_mul(self.zero));
            self.sum = self.code_sum as f32;
        }
    }
}

impl Activations {
    /// No rows yet.
    pub fn new() -> Activations {
        Activations::default()
    }

    /// Packs rows for products with matrices of the pool's instruction set.
    ///
    /// # Panics
    /// When the lengths in `rows` do not belong together, or the instruction set has no products in this arithmetic.
    pub fn pack(&mut self, pool: &Pool, arithmetic: Arithmetic, rows: &Rows<'_>) {
        let token = pool.token();
        let (count, columns) = (rows.count(), rows.columns());
        let (tile_rows, per_row, row_step) =
            dispatch!(token, simd => shape(simd, arithmetic, columns));
        assert!(tile_rows > 0, "{} has no products in {arithmetic:?}", pool.isa());
        self.packed_for = Some((token, arithmetic));
        self.columns = columns;
        self.rows.clear();
        self.rows.resize(count, RowGrid::default());
        if count == 0 || columns == 0 {
            return;
        }
        let length = count.next_multiple_of(row_step) * per_row;
        self.packed.grow::<u32>(length);
        let packed = &mut self.packed.of_mut::<u32>()[..length];
        let grids = &mut self.rows;
        for_each_chunk_pair(
            pool,
            packed,
            tile_rows * per_row,
            grids,
            tile_rows,
            |tile, packed, grids| {
                let task =
                    Pack { arithmetic, rows, first: tile * tile_rows, per_row, packed, grids };
                dispatch!(token, simd => simd.vectorize(task));
            },
        );
    }

    /// Number of rows, `M`.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Number of columns, `K`.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The instruction set and arithmetic of the last packing.
    pub fn packed_for(&self) -> Option<(Isa, Arithmetic)> {
        self.packed_for.map(|(token, arithmetic)| (token.isa(), arithmetic))
    }

    /// The words of all row tiles.
    pub(crate) fn words(&self) -> &[u32] {
        self.packed.of()
    }

    /// Scale, zero and sums of each row.
    pub(crate) fn grids(&self) -> &[RowGrid] {
        &self.rows
    }

    /// The codes of integer activations, row-major `[M, K]`, and each row's scale and zero: for tests and tools.
    ///
    /// # Panics
    /// When the activations are not packed in [`Arithmetic::Int8`].
    pub fn to_codes(&self) -> (Vec<i8>, Vec<f32>, Vec<i32>) {
        let Some((token, Arithmetic::Int8)) = self.packed_for else {
            panic!(
                "expected activations packed in integer arithmetic, found {:?}",
                self.packed_for
            );
        };
        let (tile_rows, per_row, row_step) =
            dispatch!(token, simd => shape(simd, Arithmetic::Int8, self.columns));
        let step = dispatch!(token, simd => int8_step(simd));
        let bytes: &[i8] = bytemuck::cast_slice(self.words());
        let mut codes = Vec::with_capacity(self.rows() * self.columns);
        for row in 0..self.rows() {
            let first = row / tile_rows * tile_rows;
            let rows = tile_rows.min((self.rows() - first).next_multiple_of(row_step));
            let tile = &bytes[first * per_row * 4..];
            codes.extend(
                (0..self.columns).map(|column| {
                    tile[(column / step * rows + row - first) * step + column % step]
                }),
            );
        }
        let grids = self.rows.iter();
        let (scales, zeros) = grids.map(|grid| (grid.scale, grid.zero)).unzip();
        (codes, scales, zeros)
    }
}

/// Rows of a tile, words of a row, and what the number of rows is rounded up to.
fn shape<S: Simd>(_: S, arithmetic: Arithmetic, columns: usize) -> (usize, usize, usize) {
    match arithmetic {
        Arithmetic::F32 => (S::F32_ROWS, columns, 1),
        Arithmetic::Half => (S::HALF_ROWS, half_words(columns), S::ROW_STEP),
        Arithmetic::Int8 => (S::INT8_ROWS, int8_words::<S>(columns), S::ROW_STEP),
    }
}

fn int8_step<S: Simd>(_: S) -> usize {
    S::INT8_STEP
}

/// Words that so many features of a row take as the left operand of an integer product.
#[inline(always)]
pub(crate) fn int8_words<S: Simd>(columns: usize) -> usize {
    columns.next_multiple_of(S::INT8_STEP) / 4
}

/// Numbers of a row that lie together in the left operand of a bfloat16 product.
const HALF_STEP: usize = 32;

/// Words that so many features of a row take as the left operand of a bfloat16 product.
#[inline(always)]
pub(crate) fn half_words(columns: usize) -> usize {
    columns.next_multiple_of(HALF_STEP) / 2
}

/// The rows of one tile.
struct Pack<'a> {
    arithmetic: Arithmetic,
    rows: &'a Rows<'a>,
    first: usize,
    per_row: usize,
    packed: &'a mut [u32],
    grids: &'a mut [RowGrid],
}

impl Vectorized for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.arithmetic {
            Arithmetic::F32 => self.singles(simd),
            Arithmetic::Half => self.halves(simd),
            Arithmetic::Int8 => self.codes(simd),
        }
    }
}

impl Pack<'_> {
    /// `[column][row]`.
    #[inline(always)]
    fn singles<S: Simd>(self, simd: S) {
        let (count, columns) = (self.packed.len() / self.per_row, self.rows.columns());
        let mut buffer = Buffer::take(Slot::Rows);
        let buffer = buffer.get::<f32>(columns);
        let packed: &mut [f32] = bytemuck::cast_slice_mut(self.packed);
        for (index, grid) in self.grids.iter_mut().enumerate() {
            let row = self.rows.row(simd, self.first + index, buffer);
            grid.sum = sum(simd, row);
            transpose_row(row, count, index, packed);
        }
    }

    /// `[column / HALF_STEP][row][HALF_STEP]`.
    #[inline(always)]
    fn halves<S: Simd>(self, simd: S) {
        let (count, columns) = (self.packed.len() / self.per_row, self.rows.columns());
        let mut buffer = Buffer::take(Slot::Rows);
        let buffer = buffer.get::<f32>(columns);
        let mut rounded = Buffer::take(Slot::RowCodes);
        let rounded = rounded.get::<u16>(columns.next_multiple_of(HALF_STEP));
        rounded[columns..].fill(0);
        let packed: &mut [u16] = bytemuck::cast_slice_mut(self.packed);
        for (index, grid) in self.grids.iter_mut().enumerate() {
            let row = self.rows.row(simd, self.first + index, buffer);
            for (rounded, &value) in rounded.iter_mut().zip(row) {
                *rounded = round_to_bf16(value);
            }
            grid.sum = sum_map(simd, rounded, |bits| bf16::from_bits(bits).to_f32());
            spread(rounded, count, index, HALF_STEP, packed);
        }
    }

    /// `[column / INT8_STEP][row][INT8_STEP]`.
    #[inline(always)]
    fn codes<S: Simd>(self, simd: S) {
        let (count, columns) = (self.packed.len() / self.per_row, self.rows.columns());
        let mut buffer = Buffer::take(Slot::Rows);
        let buffer = buffer.get::<f32>(columns);
        let padded = columns.next_multiple_of(S::INT8_STEP);
        if let &Rows::Half { values, columns, layout: Layout::Blocks } = self.rows {
            let height = values.len() / columns;
            let rows = BlockRows::new(values, height, self.first, self.grids.len());
            return rows.quantize(simd, self.grids, bytemuck::cast_slice_mut(self.packed));
        }
        let mut codes = Buffer::take(Slot::RowCodes);
        if S::INT8_STEP == 4 && count == INTERLEAVED {
            let codes = codes.get::<i8>(count * padded);
            for (index, (grid, codes)) in
                self.grids.iter_mut().zip(codes.chunks_exact_mut(padded)).enumerate()
            {
                let row = self.rows.row(simd, self.first + index, buffer);
                *grid = quantize::quantize(simd, row, &mut codes[..columns]);
                codes[columns..].fill(0);
            }
            interleave(bytemuck::cast_slice(codes), self.packed);
            return;
        }
        let codes = codes.get::<i8>(padded);
        codes[columns..].fill(0);
        let packed: &mut [i8] = bytemuck::cast_slice_mut(self.packed);
        for (index, grid) in self.grids.iter_mut().enumerate() {
            let row = self.rows.row(simd, self.first + index, buffer);
            *grid = quantize::quantize(simd, row, &mut codes[..columns]);
            spread(codes, count, index, S::INT8_STEP, packed);
        }
    }
}

/// The upper half of the nearest bfloat16, ties to even; NaN stays NaN.
#[inline(always)]
fn round_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    (if value.is_nan() { bits >> 16 | 0x40 } else { rounded }) as u16
}

/// Rows of the tiles of 256-bit registers.
const INTERLEAVED: usize = 6;

/// [`spread`] of a whole tile whose rows lie together, word by word.
#[inline(always)]
fn interleave(rows: &[u32], tile: &mut [u32]) {
    let words = rows.len() / INTERLEAVED;
    let mut rows = rows.chunks_exact(words);
    let rows: [&[u32]; INTERLEAVED] = std::array::from_fn(|_| rows.next().unwrap_or_default());
    let (tile, _) = tile.as_chunks_mut::<INTERLEAVED>();
    for (word, tile) in tile.iter_mut().enumerate().take(words) {
        for row in 0..INTERLEAVED {
            tile[row] = rows[row][word];
        }
    }
}

/// Copies a row to its place in a tile of `rows` rows: `[row.len() / step][rows][step]`.
#[inline(always)]
pub(crate) fn spread<T: Copy>(row: &[T], rows: usize, index: usize, step: usize, tile: &mut [T]) {
    let pieces = tile.chunks_exact_mut(rows * step);
    match step {
        4 => spread_pieces::<T, 4>(row, index, pieces),
        8 => spread_pieces::<T, 8>(row, index, pieces),
        32 => spread_pieces::<T, 32>(row, index, pieces),
        64 => spread_pieces::<T, 64>(row, index, pieces),
        step => unreachable!("steps of {step}"),
    }
}

#[inline(always)]
fn spread_pieces<'a, T: Copy + 'a, const STEP: usize>(
    row: &[T],
    index: usize,
    pieces: impl Iterator<Item = &'a mut [T]>,
) {
    let (row, _) = row.as_chunks::<STEP>();
    for (values, piece) in row.iter().zip(pieces) {
        piece[index * STEP..][..STEP].copy_from_slice(values);
    }
}
