//! Multi-head attention.
//!
//! One task per image and head. Queries lie in the lanes: for each panel of queries, the scores of all keys,
//! `[key][query]`, come from the float micro-kernel with the keys as its left operand; softmax runs down the columns, a
//! whole vector of queries at a time; and the probabilities are, as they lie, the right operand of the second product, whose
//! left operand are the values. Nothing but the keys and queries of the head is ever transposed.

use super::{math, transpose_row};
use crate::arch::tiles::{Cut, Tile, for_each_tile};
use crate::arch::{Simd, Vectorized, dispatch};
use crate::matmul::for_lanes;
use crate::memory::{Buffer, Slot};
use crate::{Layout, Pool};

/// The inputs and outputs of attention: `qkv` is `[batch * tokens, 3 * heads * head_dim]`, as one linear layer gives queries, keys
/// and values, the output `[batch * tokens, heads * head_dim]`.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    /// Images.
    pub batch: usize,
    /// Tokens of an image.
    pub tokens: usize,
    /// Heads.
    pub heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// How inputs and outputs lie in memory: in blocks only where these are made of whole heads.
    pub layout: Layout,
}

impl AttentionShape {
    /// The layout to choose for heads of this shape.
    pub fn layout_of(heads: usize, head_dim: usize) -> Layout {
        let whole = head_dim != 0 && Layout::BLOCK.is_multiple_of(head_dim);
        if whole { Layout::of(heads * head_dim) } else { Layout::Rows }
    }

    /// Features of a token.
    fn width(&self) -> usize {
        self.heads * self.head_dim
    }
}

/// `softmax(Q K^T / sqrt(head_dim)) V` for each image and head.
///
/// # Panics
/// When the length of a slice does not belong to the shape, or the layout to the heads.
pub fn attention(pool: &Pool, shape: &AttentionShape, qkv: &[f32], out: &mut [f32]) {
    for_each_head(pool, shape, qkv, out, |head| {
        dispatch!(pool.token(), simd => simd.vectorize(head));
    });
}

/// Calls `work` for each head of each image, on the threads of the pool.
///
/// # Panics
/// As [`attention`].
pub(super) fn for_each_head<T: Sync + Send>(
    pool: &Pool,
    shape: &AttentionShape,
    qkv: &[T],
    out: &mut [T],
    work: impl Fn(Head<'_, T>) + Sync,
) {
    check_lengths(qkv, shape, out);
    let &AttentionShape { tokens, head_dim, layout, .. } = shape;
    let width = shape.width();
    let rows = shape.batch * tokens;
    let cut =
        Cut { columns: width, group_rows: tokens, row_step: tokens, column_step: head_dim, layout };
    for_each_tile(pool, out, cut, |tile| {
        let stride = layout.width(3 * width);
        let part = |first_column: usize| {
            let block = &qkv[first_column / stride * (rows * stride)..];
            &block[tile.first_row * stride..][..tokens * stride][first_column % stride..]
        };
        work(Head {
            queries: part(tile.first_column),
            keys: part(width + tile.first_column),
            values: part(2 * width + tile.first_column),
            stride,
            tile,
        });
    });
}

/// Panics unless the inputs and outputs of attention belong to the shape.
fn check_lengths<T>(qkv: &[T], shape: &AttentionShape, out: &[T]) {
    let AttentionShape { batch, tokens, heads, head_dim, layout } = *shape;
    let factors = [batch, tokens, heads, head_dim];
    assert!(
        layout == Layout::Rows || layout == AttentionShape::layout_of(heads, head_dim),
        "blocks are not made of whole heads: {shape:?}"
    );
    let size = factors.iter().try_fold(1_usize, |size, &factor| size.checked_mul(factor));
    assert_eq!(Some(out.len()), size, "expected {shape:?} outputs, found {}", out.len());
    assert_eq!(
        Some(qkv.len()),
        out.len().checked_mul(3),
        "expected three times as many inputs as outputs"
    );
}

/// One head of one image.
pub(super) struct Head<'a, T> {
    pub(super) queries: &'a [T],
    pub(super) keys: &'a [T],
    pub(super) values: &'a [T],
    /// Elements from one token to the next.
    pub(super) stride: usize,
    /// Its outputs, `[tokens, head_dim]`.
    pub(super) tile: Tile<'a, T>,
}

impl Vectorized for Head<'_, f32> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for_lanes!(S, LANES => self.run_lanes::<S, LANES>(simd));
    }
}

impl Head<'_, f32> {
    #[inline(always)]
    fn run_lanes<S: Simd, const LANES: usize>(mut self, simd: S) {
        let (tokens, dim) = (self.tile.rows, self.tile.columns);
        let mut keys = Buffer::take(Slot::Keys);
        let keys = keys.get::<f32>(tokens * dim);
        for (tile, packed) in keys.chunks_mut(S::F32_ROWS * dim).enumerate() {
            let rows = packed.len() / dim;
            let source = self.keys[tile * S::F32_ROWS * self.stride..].chunks(self.stride);
            for (row, source) in source.take(rows).enumerate() {
                transpose_row(&source[..dim], rows, row, packed);
            }
        }
        let mut values = Buffer::take(Slot::Values);
        let values = values.get::<f32>(tokens * dim);
        for (tile, packed) in values.chunks_mut(S::F32_ROWS * tokens).enumerate() {
            let rows = packed.len() / tokens;
            let source = self.values.chunks(self.stride);
            for (packed, source) in packed.chunks_exact_mut(rows).zip(source) {
                packed.copy_from_slice(&source[tile * S::F32_ROWS..][..rows]);
            }
        }

        let scale = 1.0 / (dim as f32).sqrt();
        let mut queries = Buffer::take(Slot::Queries);
        let queries = queries.get::<f32>(dim * LANES);
        let mut scores = Buffer::take(Slot::Scores);
        let scores = scores.get::<f32>(tokens * LANES);
        let mut sums = Buffer::take(Slot::Sums);
        let sums = sums.get::<f32>(dim * LANES);
        for first in (0..tokens).step_by(LANES) {
            let count = LANES.min(tokens - first);
            self.pack_queries::<LANES>(first, count, scale, queries);
            multiply(simd, dim, keys, queries, scores);
            let factors = softmax_columns::<S, LANES>(scores);
            multiply(simd, tokens, values, scores, sums);
            let (sums, _) = sums.as_chunks::<LANES>();
            for (query, &factor) in factors.iter().enumerate().take(count) {
                for (out, sums) in self.tile.row(first + query).iter_mut().zip(sums) {
                    *out = sums[query] * factor;
                }
            }
        }
    }

    /// Packs `count` queries, scaled, as a right operand `[dim][LANES]`, zero in the other lanes.
    #[inline(always)]
    fn pack_queries<const LANES: usize>(
        &self,
        first: usize,
        count: usize,
        scale: f32,
        packed: &mut [f32],
    ) {
        let (packed, _) = packed.as_chunks_mut::<LANES>();
        if count < LANES {
            packed.fill([0.0; LANES]);
        }
        let rows = self.queries[first * self.stride..].chunks(self.stride);
        for (lane, row) in rows.take(count).enumerate() {
            for (packed, value) in packed.iter_mut().zip(row) {
                packed[lane] = value * scale;
            }
        }
    }
}

/// `sums[row][lane] = sum_k left[row][k] * right[k][lane]`, `left` packed in tiles of `S::F32_ROWS` rows.
#[inline(always)]
fn multiply<S: Simd>(simd: S, depth: usize, left: &[f32], right: &[f32], sums: &mut [f32]) {
    for (left, sums) in
        left.chunks(S::F32_ROWS * depth).zip(sums.chunks_mut(S::F32_ROWS * S::LANES))
    {
        simd.f32_tile(sums.len() / S::LANES, left, right, sums, true);
    }
}

/// Replaces scores, `[key][LANES]`, by `exp(score - maximum of the column)`; returns the factors which make each column a
/// distribution.
#[inline(always)]
fn softmax_columns<S: Simd, const LANES: usize>(scores: &mut [f32]) -> [f32; LANES] {
    let (scores, _) = scores.as_chunks_mut::<LANES>();
    let mut largest = [f32::NEG_INFINITY; LANES];
    for row in scores.iter() {
        for lane in 0..LANES {
            largest[lane] = if row[lane] > largest[lane] { row[lane] } else { largest[lane] };
        }
    }
    let mut totals = [0.0; LANES];
    for row in scores {
        for lane in 0..LANES {
            row[lane] = math::exp::<S>(row[lane] - largest[lane]);
            totals[lane] += row[lane];
        }
    }
    totals.map(|total| 1.0 / total)
}
