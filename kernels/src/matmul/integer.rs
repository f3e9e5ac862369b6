//! Products with activations quantised to 8 bit.

use super::driver::{Finish, Part, Product, drive};
use super::epilogue::{Channels, FinishRows, Output, RowProduct};
use super::float::{following_block, panel_block};
use crate::activations::{RowGrid, int8_words};
use crate::arch::tiles::Tile;
use crate::arch::{Between, LeftBlock, RightBlock, RowTerms, Simd};
use crate::matrix::Storage;
use crate::memory::Buffer;
use crate::pack::panel;
use crate::{Activations, Epilogue, Layout, Matrix, Pool, Width};

pub(super) fn matmul<S: Simd, O: Output>(
    simd: S,
    pool: &Pool,
    a: &Activations,
    w: &Matrix,
    epilogue: &Epilogue<'_>,
    out: &mut [O],
) {
    let middle = w.width().map_or(0, |width| width.middle() as i32);
    run(simd, pool, a, w, &FinishRows::new(a, w, epilogue, IntegerRows { middle }), out);
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
    fn following<S: Simd>(&self, part: &Part) -> &[u32] {
        following_block::<S>(self.width, self.words, self.depth, part)
    }

    #[inline(always)]
    fn multiply<S: Simd>(
        &self,
        simd: S,
        left: LeftBlock<'_, u32>,
        part: &Part,
        right: &mut Buffer,
        sums: &mut [i32],
        between: &mut impl Between<i32>,
    ) {
        let width = self.width;
        let words = panel_block::<S>(width, self.words, self.depth, part);
        let whole =
            part.block.len().next_multiple_of(S::INT8_STEP) == part.block.len().next_multiple_of(4);
        let right = if width == Width::Eight && S::multiplies_stored_bytes() && whole {
            RightBlock::Expanded(words)
        } else {
            // What an earlier block left beyond the last code is multiplied by zeros.
            let padded =
                part.block.len().next_multiple_of(panel::group_depth(width).max(S::INT8_STEP));
            let expanded = right.get::<u32>(padded / 4 * S::int8_words(width) * S::LANES);
            RightBlock::Packed { words, expanded }
        };
        simd.int8_tiles_between(width, left, right, sums, part.starts(), between);
    }
}

/// Products from integer sums.
struct IntegerRows {
    /// What centred codes of weights leave out.
    middle: i32,
}

impl RowProduct<i32> for IntegerRows {
    #[inline(always)]
    fn product<S: Simd, const LANES: usize>(
        &self,
        simd: S,
        row: &RowGrid,
        sums: &[i32; LANES],
        channels: &Channels<LANES>,
        values: &mut [f32; LANES],
    ) {
        let &RowGrid { scale, zero, code_sum, sum } = row;
        let shift = self.middle.wrapping_mul(code_sum);
        let row = RowTerms { zero, shift, sum, scale };
        simd.dequantize(sums, row, &channels.terms, values);
    }
}

struct FinishInteger<'a> {
    a: &'a Activations,
    w: &'a Matrix,
}

impl Finish<i32> for FinishInteger<'_> {
    type Out = i32;
    type Panel<const LANES: usize> = [i32; LANES];

    fn layout(&self) -> Layout {
        Layout::Rows
    }

    /// Sums of the codes of the channels.
    #[inline(always)]
    fn panel<const LANES: usize>(&self, tile: &Tile<'_, i32>) -> [i32; LANES] {
        let mut code_sums = [0; LANES];
        let of_panel = &self.w.code_sums.of::<i32>()[tile.first_column..][..tile.columns];
        code_sums[..tile.columns].copy_from_slice(of_panel);
        code_sums
    }

    #[inline(always)]
    fn rows<S: Simd, const LANES: usize>(
        &self,
        _: S,
        code_sums: &[i32; LANES],
        first: usize,
        sums: &[[i32; LANES]],
        tile: &mut Tile<'_, i32>,
    ) {
        for (row, sums) in (first..).zip(sums) {
            let zero = self.a.grids()[tile.first_row + row].zero;
            for ((out, sum), code_sum) in tile.row(row).iter_mut().zip(sums).zip(code_sums) {
                *out = sum.wrapping_sub(zero.wrapping_mul(*code_sum));
            }
        }
    }
}
