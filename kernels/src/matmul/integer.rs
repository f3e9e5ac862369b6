//! Products with activations quantised to 8 bit.

use std::marker::PhantomData;
use std::ops::Range;

use super::driver::{Finish, Product, drive};
use super::epilogue::{Channels, Output, RowProduct, finish_panel, for_lanes};
use super::float::panel_block;
use crate::activations::{RowGrid, int8_words};
use crate::arch::tiles::Tile;
use crate::arch::{LeftBlock, Simd};
use crate::matrix::Storage;
use crate::memory::Buffer;
use crate::ops::math::mul_add;
use crate::pack::panel;
use crate::{Activations, Epilogue, Matrix, Pool, Width};

pub(super) fn matmul<S: Simd, O: Output>(
    simd: S,
    pool: &Pool,
    a: &Activations,
    w: &Matrix,
    epilogue: &Epilogue<'_>,
    out: &mut [O],
) {
    run(simd, pool, a, w, &FinishProduct { a, w, epilogue, out: PhantomData }, out);
}

pub(super) fn accumulators<S: Simd>(
    simd: S,
    pool: &Pool,
    a: &Activations,
    w: &Matrix,
    out: &mut [i32],
) {
    run(simd, pool, a, w, &FinishInteger { a, w }, out);
}

fn run<S: Simd, F: Finish<i32>>(
    simd: S,
    pool: &Pool,
    a: &Activations,
    w: &Matrix,
    finish: &F,
    out: &mut [F::Out],
) {
    // `supports` was checked: these are codes.
    if let Storage::Codes(width, words) = &w.storage {
        let product =
            IntegerProduct { a, width: *width, words: words.of(), depth: w.in_features() };
        drive(simd, pool, &product, finish, (a.rows(), w.out_features()), out);
    }
}

struct IntegerProduct<'a> {
    a: &'a Activations,
    width: Width,
    /// Panels of weights.
    words: &'a [u32],
    depth: usize,
}

impl Product for IntegerProduct<'_> {
    type Left = u32;
    type Right = u32;
    type Sum = i32;
    // 1024 x 32 bytes are 32 KiB.
    const BLOCK: usize = 1024;

    fn tile_rows<S: Simd>() -> usize {
        S::INT8_ROWS
    }

    fn row_step<S: Simd>() -> usize {
        S::ROW_STEP
    }

    fn depth(&self) -> usize {
        self.depth
    }

    fn left(&self) -> &[u32] {
        self.a.words()
    }

    fn left_len<S: Simd>(&self, depth: usize) -> usize {
        int8_words::<S>(depth)
    }

    #[inline(always)]
    fn expand_right<'a, S: Simd>(
        &'a self,
        simd: S,
        panel: usize,
        block: Range<usize>,
        buffer: &'a mut Buffer,
    ) -> &'a [u32] {
        let width = self.width;
        let words = panel_block::<S>(width, self.words, self.depth, panel, &block);
        let stored = width == Width::Eight && S::multiplies_stored_bytes();
        if stored && block.len().next_multiple_of(S::INT8_STEP) == block.len().next_multiple_of(4) {
            return words;
        }
        // What an earlier block left beyond the last code is multiplied by zeros.
        let padded = block.len().next_multiple_of(panel::group_depth(width).max(S::INT8_STEP));
        let expanded = buffer.get::<u32>(padded / 4 * S::int8_words(width) * S::LANES);
        simd.expand_int8(width, words, expanded);
        expanded
    }

    #[inline(always)]
    fn multiply<S: Simd>(
        &self,
        simd: S,
        left: LeftBlock<'_, u32>,
        right: &[u32],
        sums: &mut [i32],
        start: bool,
    ) {
        simd.int8_tiles(self.width, left, right, sums, start);
    }
}

/// `sum_k (q - zero)` of a row of `columns`.
#[inline(always)]
fn centred_sum(row: &RowGrid, columns: usize) -> i32 {
    row.code_sum.wrapping_sub((columns as i32).wrapping_mul(row.zero))
}

struct FinishProduct<'a, O> {
    a: &'a Activations,
    w: &'a Matrix,
    epilogue: &'a Epilogue<'a>,
    out: PhantomData<fn(O)>,
}

impl<O: Output> Finish<i32> for FinishProduct<'_, O> {
    type Out = O;

    #[inline(always)]
    fn finish<S: Simd>(&self, simd: S, sums: &[i32], tile: Tile<'_, O>) {
        for_lanes!(S, LANES => {
            finish_panel::<S, i32, O, LANES>(simd, self.w, self.epilogue, sums, tile, self);
        });
    }
}

impl<O> RowProduct<i32> for FinishProduct<'_, O> {
    #[inline(always)]
    fn product<S: Simd, const LANES: usize>(
        &self,
        row: usize,
        sums: &[i32; LANES],
        channels: &Channels<LANES>,
    ) -> [f32; LANES] {
        let grid = &self.a.grids()[row];
        let row_sum = centred_sum(grid, self.a.columns());
        let middle = self.w.width().map_or(0, |width| width.middle() as i32);
        let shift = middle.wrapping_mul(row_sum);
        let mut values = [0.0; LANES];
        for lane in 0..LANES {
            let correction = grid.zero.wrapping_mul(channels.code_sums[lane]).wrapping_add(shift);
            let centred = sums[lane].wrapping_sub(correction) as f32;
            let constant = channels.offset[lane] * row_sum as f32;
            let y = mul_add::<S>(centred, channels.scale[lane], constant);
            values[lane] = mul_add::<S>(y, grid.scale, channels.bias[lane]);
        }
        values
    }
}

struct FinishInteger<'a> {
    a: &'a Activations,
    w: &'a Matrix,
}

impl Finish<i32> for FinishInteger<'_> {
    type Out = i32;

    #[inline(always)]
    fn finish<S: Simd>(&self, _: S, sums: &[i32], mut tile: Tile<'_, i32>) {
        let code_sums = &self.w.code_sums.of::<i32>()[tile.first_column..];
        for (row, sums) in sums.chunks_exact(S::LANES).enumerate() {
            let zero = self.a.grids()[tile.first_row + row].zero;
            for ((out, sum), code_sum) in tile.row(row).iter_mut().zip(sums).zip(code_sums) {
                *out = sum.wrapping_sub(zero.wrapping_mul(*code_sum));
            }
        }
    }
}
