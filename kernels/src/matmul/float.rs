//! Products with float activations.

use ::half::slice::HalfFloatSliceExt;

use super::driver::{Part, Product, drive};
use super::epilogue::{Channels, FinishRows, Output, RowProduct};
use crate::activations::RowGrid;
use crate::arch::{Between, LeftBlock, Simd};
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
    let finish = FinishRows::new(a, w, epilogue, FloatRows { codes: w.width().is_some() });
    let shape = (a.rows(), w.out_features());
    drive(simd, pool, &FloatProduct { a, w }, &finish, shape, out);
}

struct FloatProduct<'a> {
    a: &'a Activations,
    w: &'a Matrix,
}

impl FloatProduct<'_> {
    /// The right operand of a panel for a block of input features, `[..][S::LANES]`; expanded into `buffer` unless it is
    /// stored that way.
    #[inline(always)]
    fn expand_right<'a, S: Simd>(
        &'a self,
        simd: S,
        part: &Part,
        buffer: &'a mut Buffer,
    ) -> &'a [f32] {
        let Part { panel, block } = part;
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
                let words = panel_block::<S>(*width, words.of(), self.depth(), part);
                let padded = block.len().next_multiple_of(panel::group_depth(*width));
                let expanded = buffer.get::<f32>(padded * S::LANES);
                simd.expand_f32(*width, words, expanded);
                expanded
            }
        }
    }
}

impl Product for FloatProduct<'_> {
    type Left = f32;
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

    fn following<S: Simd>(&self, _: &Part) -> &[u32] {
        &[]
    }

    #[inline(always)]
    fn multiply<S: Simd>(
        &self,
        simd: S,
        left: LeftBlock<'_, f32>,
        part: &Part,
        buffer: &mut Buffer,
        sums: &mut [f32],
        _: &mut impl Between<f32>,
    ) {
        let right = self.expand_right(simd, part, buffer);
        for (left, sums) in left.tiles().zip(sums.chunks_mut(left.tile_rows * S::LANES)) {
            simd.f32_tile(sums.len() / S::LANES, left, right, sums, part.starts());
        }
    }
}

/// The words of a part, whose block begins at a multiple of `panel::DEPTH_STEP`.
#[inline(always)]
pub(super) fn panel_block<'a, S: Simd>(
    width: Width,
    words: &'a [u32],
    depth: usize,
    part: &Part,
) -> &'a [u32] {
    let start = words_before::<S>(width, depth, part.panel, part.block.start);
    &words[start..][..panel::panel_words(width, part.block.len(), S::LANES)]
}

/// As many words as a part has, after it: those of the next block or panel.
#[inline(always)]
pub(super) fn following_block<'a, S: Simd>(
    width: Width,
    words: &'a [u32],
    depth: usize,
    part: &Part,
) -> &'a [u32] {
    let words = &words[words_before::<S>(width, depth, part.panel, part.block.end)..];
    &words[..words.len().min(panel::panel_words(width, part.block.len(), S::LANES))]
}

/// Words before an input feature of a panel.
#[inline(always)]
fn words_before<S: Simd>(width: Width, depth: usize, panel: usize, feature: usize) -> usize {
    panel * panel::panel_words(width, depth, S::LANES)
        + panel::panel_words(width, feature, S::LANES)
}

/// Products from float sums.
pub(super) struct FloatRows {
    /// Whether the weights are codes: floats have no offset.
    pub(super) codes: bool,
}

impl RowProduct<f32> for FloatRows {
    #[inline(always)]
    fn product<S: Simd, const LANES: usize>(
        &self,
        _: S,
        row: &RowGrid,
        sums: &[f32; LANES],
        channels: &Channels<LANES>,
        values: &mut [f32; LANES],
    ) {
        let row_sum = if self.codes { row.sum } else { 0.0 };
        let terms = &channels.terms;
        for lane in 0..LANES {
            let constant = mul_add::<S>(terms.offset[lane], row_sum, terms.bias[lane]);
            values[lane] = mul_add::<S>(sums[lane], terms.scale[lane], constant);
        }
    }
}
