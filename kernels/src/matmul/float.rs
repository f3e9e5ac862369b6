//! Products with float activations.

use std::ops::Range;

use ::half::slice::HalfFloatSliceExt;

use super::driver::{Finish, Product, drive};
use super::epilogue::{Channels, for_lanes, write_row};
use crate::activations::RowGrid;
use crate::arch::tiles::Tile;
use crate::arch::{LeftBlock, Simd};
use crate::matrix::Storage;
use crate::memory::Buffer;
use crate::pack::panel;
use crate::{Activations, Epilogue, Matrix, Pool, Width};

pub(super) fn matmul<S: Simd>(
    simd: S,
    pool: &Pool,
    a: &Activations,
    w: &Matrix,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let finish = FinishFloat { w, rows: a.grids(), epilogue };
    let shape = (a.rows(), w.out_features());
    drive(simd, pool, &FloatProduct { a, w }, &finish, shape, out);
}

struct FloatProduct<'a> {
    a: &'a Activations,
    w: &'a Matrix,
}

impl Product for FloatProduct<'_> {
    type Left = f32;
    type Right = f32;
    type Sum = f32;
    // 256 x 32 floats are 32 KiB.
    const BLOCK: usize = 256;

    fn tile_rows<S: Simd>() -> usize {
        S::F32_ROWS
    }

    fn row_step<S: Simd>() -> usize {
        1
    }

    fn depth(&self) -> usize {
        self.w.in_features()
    }

    fn left(&self) -> &[f32] {
        bytemuck::cast_slice(self.a.words())
    }

    fn left_len<S: Simd>(&self, depth: usize) -> usize {
        depth
    }

    #[inline(always)]
    fn expand_right<'a, S: Simd>(
        &'a self,
        simd: S,
        panel: usize,
        block: Range<usize>,
        buffer: &'a mut Buffer,
    ) -> &'a [f32] {
        let start = (panel * self.depth() + block.start) * S::LANES;
        let len = block.len() * S::LANES;
        match &self.w.storage {
            Storage::F32(weights) => &weights.of::<f32>()[start..][..len],
            Storage::F16(weights) => {
                let expanded = buffer.get::<f32>(len);
                weights.of::<::half::f16>()[start..][..len].convert_to_f32_slice(expanded);
                expanded
            }
            Storage::Codes(width, words) => {
                let words = panel_block::<S>(*width, words.of(), self.depth(), panel, &block);
                let padded = block.len().next_multiple_of(panel::group_depth(*width));
                let expanded = buffer.get::<f32>(padded * S::LANES);
                simd.expand_f32(*width, words, expanded);
                expanded
            }
        }
    }

    #[inline(always)]
    fn multiply<S: Simd>(
        &self,
        simd: S,
        left: LeftBlock<'_, f32>,
        right: &[f32],
        sums: &mut [f32],
        start: bool,
    ) {
        for (left, sums) in left.tiles().zip(sums.chunks_mut(left.tile_rows * S::LANES)) {
            simd.f32_tile(sums.len() / S::LANES, left, right, sums, start);
        }
    }
}

/// The words of a panel for a block of input features; `block.start` is a multiple of `panel::DEPTH_STEP`.
#[inline(always)]
pub(super) fn panel_block<'a, S: Simd>(
    width: Width,
    words: &'a [u32],
    depth: usize,
    panel: usize,
    block: &Range<usize>,
) -> &'a [u32] {
    let start = panel * panel::panel_words(width, depth, S::LANES)
        + panel::panel_words(width, block.start, S::LANES);
    &words[start..][..panel::panel_words(width, block.len(), S::LANES)]
}

/// The end of a product with float sums.
pub(super) struct FinishFloat<'a> {
    pub(super) w: &'a Matrix,
    pub(super) rows: &'a [RowGrid],
    pub(super) epilogue: &'a Epilogue<'a>,
}

impl Finish<f32> for FinishFloat<'_> {
    type Out = f32;

    #[inline(always)]
    fn finish<S: Simd>(&self, sums: &[f32], tile: Tile<'_, f32>) {
        for_lanes!(S, LANES => self.finish_lanes::<S, LANES>(sums, tile));
    }
}

impl FinishFloat<'_> {
    #[inline(always)]
    fn finish_lanes<S: Simd, const LANES: usize>(&self, sums: &[f32], mut tile: Tile<'_, f32>) {
        let channels = Channels::<LANES>::new(self.w, self.epilogue, &tile);
        let (sums, _) = sums.as_chunks::<LANES>();
        for (row, sums) in sums.iter().enumerate() {
            let mut values = *sums;
            if self.w.width().is_some() {
                let row_sum = self.rows[tile.first_row + row].sum;
                for lane in 0..LANES {
                    values[lane] =
                        values[lane] * channels.scale[lane] + channels.offset[lane] * row_sum;
                }
            }
            write_row::<S, LANES>(&channels, self.epilogue, values, &mut tile, row);
        }
    }
}
