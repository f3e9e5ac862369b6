//! Products with float activations.

use std::ops::Range;

use half::slice::HalfFloatSliceExt;

use super::driver::{Finish, Product, drive};
use super::epilogue::{Channels, for_lanes, write_row};
use crate::arch::tiles::Tile;
use crate::arch::{Simd, Vectorized};
use crate::matrix::Storage;
use crate::memory::{Buffer, Slot};
use crate::ops::{sum, transpose};
use crate::pack::panel;
use crate::{Epilogue, Matrix, Pool, Width};

pub(super) fn matmul<S: Simd>(
    simd: S,
    pool: &Pool,
    a: &[f32],
    m: usize,
    w: &Matrix,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let depth = w.in_features();
    let mut row_sums = Buffer::take(Slot::RowSums);
    let row_sums = if w.width().is_some() {
        let row_sums = row_sums.get::<f32>(m);
        pool.for_each_chunk(row_sums, 16, |chunk, sums| {
            let rows = &a[chunk * 16 * depth..];
            simd.vectorize(RowSums { rows, depth, sums });
        });
        Some(&*row_sums)
    } else {
        None
    };
    let finish = FinishFloat { w, row_sums, epilogue };
    let shape = (m, w.out_features());
    drive(simd, pool, &FloatProduct { a, w }, &finish, shape, out);
}

struct RowSums<'a> {
    rows: &'a [f32],
    depth: usize,
    sums: &'a mut [f32],
}

impl Vectorized for RowSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (row, total) in self.rows.chunks_exact(self.depth).zip(self.sums) {
            *total = sum(row);
        }
    }
}

struct FloatProduct<'a> {
    a: &'a [f32],
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

    fn depth(&self) -> usize {
        self.w.in_features()
    }

    fn left_len<S: Simd>(&self, depth: usize) -> usize {
        depth
    }

    #[inline(always)]
    fn pack_left<S: Simd>(&self, rows: Range<usize>, packed: &mut [f32]) {
        let depth = self.depth();
        transpose(&self.a[rows.start * depth..], depth, rows.len(), packed);
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
                weights.of::<half::f16>()[start..][..len].convert_to_f32_slice(expanded);
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
        rows: usize,
        left: &[f32],
        right: &[f32],
        sums: &mut [f32],
        start: bool,
    ) {
        simd.f32_tile(rows, left, right, sums, start);
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

struct FinishFloat<'a> {
    w: &'a Matrix,
    /// `sum_k a[m][k]`; present for codes.
    row_sums: Option<&'a [f32]>,
    epilogue: &'a Epilogue<'a>,
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
            if let Some(row_sums) = self.row_sums {
                let row_sum = row_sums[tile.first_row + row];
                for lane in 0..LANES {
                    values[lane] =
                        values[lane] * channels.scale[lane] + channels.offset[lane] * row_sum;
                }
            }
            write_row::<S, LANES>(&channels, self.epilogue, values, &mut tile, row);
        }
    }
}
