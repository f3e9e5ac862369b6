//! Products with bfloat16 activations and codes as bfloat16 numbers, which are exact.

use super::driver::{Part, Product, drive};
use super::epilogue::{FinishRows, Output};
use super::float::{FloatRows, following_block, panel_block};
use crate::activations::half_words;
use crate::arch::{Between, LeftBlock, RightBlock, Simd};
use crate::matrix::Storage;
use crate::memory::Buffer;
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
    // `supports` was checked: there is a kernel, and these are codes. Where there is none, nothing below is compiled.
    assert!(S::HALF_ROWS > 0, "no products in half precision on {}", S::ISA);
    if let Storage::Codes(width, words) = &w.storage {
        let product = HalfProduct { a, width: *width, words: words.of(), depth: w.in_features() };
        let finish = FinishRows::new(a, w, epilogue, FloatRows { codes: true });
        drive(simd, pool, &product, &finish, (a.rows(), w.out_features()), out);
    }
}

struct HalfProduct<'a> {
    a: &'a Activations,
    width: Width,
    /// Panels of weights.
    words: &'a [u32],
    depth: usize,
}

impl Product for HalfProduct<'_> {
    type Left = u32;
    type Sum = f32;
    // 512 x 32 numbers of two bytes are 32 KiB.
    const BLOCK: usize = 512;

    fn tile_rows<S: Simd>() -> usize {
        S::HALF_ROWS
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
        half_words(depth)
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
        sums: &mut [f32],
        between: &mut impl Between<f32>,
    ) {
        let words = panel_block::<S>(self.width, self.words, self.depth, part);
        let expanded = right.get::<u32>(half_words(part.block.len()) * S::LANES);
        // Zeros of the left operand come beyond the last group, and may meet no NaN.
        let written = part.block.len().next_multiple_of(panel::group_depth(self.width)) / 2;
        expanded[written * S::LANES..].fill(0);
        let right = RightBlock::Packed { words, expanded };
        simd.half_tiles(self.width, left, right, sums, part.starts(), between);
    }
}
