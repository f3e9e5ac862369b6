//! Rows of half precision that lie in blocks of columns, quantised block by block, so that what is read and what is written
//! are neighbours.

use half::f16;

use super::quantize::grid;
use super::{INTERLEAVED, RowGrid, interleave, spread};
use crate::Layout;
use crate::arch::{Simd, one_at_a_time};
use crate::ops::Extremes;

/// Columns of a block.
pub(crate) const BLOCK: usize = Layout::BLOCK;

/// Lanes in which the codes of a row are added up.
pub(crate) const CODE_SUM_LANES: usize = 16;

/// Most rows of an integer tile on any instruction set.
const MOST_ROWS: usize = 16;

/// Some rows of some blocks.
#[derive(Clone, Copy)]
pub(super) struct BlockRows<'a> {
    /// The blocks with all their rows.
    values: &'a [[f16; BLOCK]],
    /// Rows of a block.
    height: usize,
    /// The first of the rows.
    first: usize,
    count: usize,
}

impl<'a> BlockRows<'a> {
    /// `count` rows from row `first` on, of blocks of `height` rows.
    pub(super) fn new(values: &'a [f16], height: usize, first: usize, count: usize) -> Self {
        Self { values: values.as_chunks().0, height, first, count }
    }

    /// The rows in each block.
    #[inline(always)]
    fn blocks(self) -> impl Iterator<Item = &'a [[f16; BLOCK]]> {
        let (first, count) = (self.first, self.count);
        self.values.chunks_exact(self.height).map(move |block| &block[first..first + count])
    }

    /// Writes the codes of the rows to a tile, `[columns / step][rows][step]`, and the grid of each.
    #[inline(always)]
    pub(super) fn quantize<S: Simd>(self, simd: S, grids: &mut [RowGrid], tile: &mut [i8]) {
        const { assert!(S::INT8_ROWS <= MOST_ROWS) };
        let mut extremes = [Extremes::ZERO; MOST_ROWS];
        self.measure(&mut extremes[..grids.len()]);
        for (row_grid, &extremes) in grids.iter_mut().zip(&extremes) {
            *row_grid = grid(extremes);
        }
        self.round(simd, grids, tile);
    }

    /// The extremes of each row.
    #[inline(always)]
    fn measure(self, extremes: &mut [Extremes]) {
        /// Rows of which what is known stays in registers.
        const TOGETHER: usize = 4;
        for (group, extremes) in extremes.chunks_mut(TOGETHER).enumerate() {
            let mut bounds = [Bounds::new(); TOGETHER];
            for block in self.blocks() {
                let rows = &block[group * TOGETHER..];
                // The same twice, for a number of rows that the compiler knows and for the last ones.
                match rows.first_chunk::<TOGETHER>() {
                    Some(rows) => {
                        for (bounds, row) in bounds.iter_mut().zip(rows) {
                            bounds.take(row);
                        }
                    }
                    None => {
                        for (bounds, row) in bounds.iter_mut().zip(rows) {
                            bounds.take(row);
                        }
                    }
                }
            }
            for (extremes, bounds) in extremes.iter_mut().zip(&bounds) {
                *extremes = bounds.extremes();
            }
        }
    }

    /// Writes the codes of the rows, and their sums to the grids.
    #[inline(always)]
    fn round<S: Simd>(self, simd: S, grids: &mut [RowGrid], tile: &mut [i8]) {
        let columns = self.values.len() / self.height * BLOCK;
        let rows = tile.len() / columns;
        let mut sums = [[0; CODE_SUM_LANES]; MOST_ROWS];
        let mut inverses = [0.0; MOST_ROWS];
        for (inverse, grid) in inverses.iter_mut().zip(&*grids) {
            *inverse = 1.0 / grid.scale;
        }
        let mut apart = [[0; BLOCK]; MOST_ROWS];
        for (block, tile) in self.blocks().zip(tile.chunks_exact_mut(rows * BLOCK)) {
            if S::INT8_STEP == BLOCK {
                let (codes, _) = tile.as_chunks_mut();
                round_rows(simd, block, grids, &inverses, codes, &mut sums);
                continue;
            }
            let apart = &mut apart[..rows];
            round_rows(simd, block, grids, &inverses, apart, &mut sums);
            if S::INT8_STEP == 4 && rows == INTERLEAVED {
                interleave(bytemuck::cast_slice(apart), bytemuck::cast_slice_mut(tile));
                continue;
            }
            for (index, codes) in apart.iter().enumerate() {
                spread(codes, rows, index, S::INT8_STEP, tile);
            }
        }
        for (grid, sums) in grids.iter_mut().zip(&sums) {
            let sum = sums.iter().fold(0, |total: i32, &sum| total.wrapping_add(sum));
            grid.set_code_sum(sum, columns);
        }
    }
}

/// Writes the codes of the rows of a block.
#[inline(always)]
fn round_rows<S: Simd>(
    simd: S,
    rows: &[[f16; BLOCK]],
    grids: &[RowGrid],
    inverses: &[f32; MOST_ROWS],
    codes: &mut [[i8; BLOCK]],
    sums: &mut [[i32; CODE_SUM_LANES]; MOST_ROWS],
) {
    let terms = grids.iter().zip(inverses).zip(sums);
    for ((row, codes), ((grid, &inverse), sums)) in rows.iter().zip(codes).zip(terms) {
        one_at_a_time();
        if grid.scale.is_nan() {
            codes.fill(0);
        } else {
            simd.round_block(row, inverse, grid.zero, codes, sums);
        }
    }
}

/// Lanes of what is known of a row: half a block.
const LANES: usize = BLOCK / 2;

/// What is known of the numbers of a row, of which so many lanes are looked at at once.
///
/// As signed integers the bits of numbers above zero order as the numbers do, and those below zero are less; as unsigned ones
/// the bits of numbers below zero order as magnitudes do, and those above are less. NaN is beyond the infinities.
#[derive(Clone, Copy)]
struct Bounds {
    low: [u16; LANES],
    high: [i16; LANES],
}

impl Bounds {
    #[inline(always)]
    fn new() -> Self {
        Self { low: [0; LANES], high: [0; LANES] }
    }

    #[inline(always)]
    fn take(&mut self, row: &[f16; BLOCK]) {
        for lane in 0..LANES {
            let (a, b) = (row[lane].to_bits(), row[lane + LANES].to_bits());
            self.low[lane] = self.low[lane].max(a).max(b);
            self.high[lane] = self.high[lane].max(a as i16).max(b as i16);
        }
    }

    /// Of zero and the numbers.
    #[inline(always)]
    fn extremes(&self) -> Extremes {
        let low = self.low.iter().fold(0, |low, &bits| low.max(bits));
        let high = self.high.iter().fold(0, |high, &bits| high.max(bits));
        // Without a number below zero, the unsigned ones had the largest of the others.
        let low = f16::from_bits(if low as i16 >= 0 { 0 } else { low });
        let high = f16::from_bits(high as u16);
        Extremes::checked(low.is_finite() && high.is_finite(), low.to_f32(), high.to_f32())
    }
}

/// Writes the codes of numbers as [`round_codes`](super::round_codes) does, and adds them to the sums, of which the total counts.
#[inline(always)]
pub(crate) fn round_block<S: Simd>(
    simd: S,
    values: &[f16; BLOCK],
    inverse: f32,
    zero: i32,
    codes: &mut [i8; BLOCK],
    sums: &mut [i32; CODE_SUM_LANES],
) {
    let mut widened = [0.0; BLOCK];
    simd.widen(values, &mut widened);
    sums[0] = sums[0].wrapping_add(simd.round_codes(&widened, inverse, zero, codes));
}
