//! Multi-head attention in integers.
//!
//! Both products are those of the integer micro-kernel, signed bytes times unsigned ones, and exact, so that attention has
//! the same bits on every instruction set and runs at the rate of the quantised layers:
//!
//! - keys of a head are rounded to -127..=127, one scale per feature, and stored 128 higher, which adds the same to all
//!   scores of a query, and so nothing to its softmax;
//! - queries are multiplied with the scales of the keys, then rounded to -127..=127, one scale per token: scores of a query
//!   are integers of one scale, and their largest is that of the integers;
//! - each row of scores becomes bytes ([`exponentials`]), and dividing by their sum makes them a distribution; they are
//!   stored 128 lower, values 128 higher, which the sums of both take back;
//! - values are rounded to -127..=127, one scale per feature.
//!
//! One task per image and head, a few query rows at a time, so that scores never leave the first-level cache.

pub(crate) mod exponentials;
mod pack;
pub(crate) mod rounding;

use half::f16;

use super::attention::{AttentionShape, Head, for_each_head};
use crate::activations::{int8_words, spread};
use crate::arch::{LeftBlock, Simd, Vectorized, dispatch, one_at_a_time};
use crate::matmul::for_lanes;
use crate::memory::{Buffer, Slot};
use crate::{Pool, Width};
use exponentials::{ScoreRow, UNITS, most_factor};
use rounding::CODE_STEP;

/// Most tokens, and most features of a head: no 32-bit sum overflows.
pub const INTEGER_ATTENTION_LIMIT: usize = 1 << 16;

/// Queries multiplied at once, if the row tiles of the instruction set are not larger: the keys are read once for all of
/// them.
const QUERY_ROWS: usize = 32;

/// What keys and values are stored above, and probabilities below.
const MIDDLE: i32 = 128;

/// [`attention`](super::attention) with queries, keys, values and probabilities rounded to 8 bit.
///
/// `qkv` and `out` are in half precision since both are rounded further. A number which is not finite makes the outputs that
/// depend on it NaN.
///
/// # Panics
/// As [`attention`](super::attention), and when `tokens` or `head_dim` is above [`INTEGER_ATTENTION_LIMIT`].
pub fn integer_attention(pool: &Pool, shape: &AttentionShape, qkv: &[f16], out: &mut [f16]) {
    let most = shape.tokens.max(shape.head_dim);
    assert!(most <= INTEGER_ATTENTION_LIMIT, "too long a sum: {shape:?}");
    for_each_head(pool, shape, qkv, out, |head| {
        dispatch!(pool.token(), simd => simd.vectorize(head));
    });
}

impl Vectorized for Head<'_, f16> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for_lanes!(S, LANES => self.run_lanes::<S, LANES>(simd));
    }
}

impl Head<'_, f16> {
    #[inline(always)]
    fn run_lanes<S: Simd, const LANES: usize>(mut self, simd: S) {
        let (tokens, dim) = (self.tile.rows, self.tile.columns);
        let (key_panels, value_panels) = (tokens.div_ceil(LANES), dim.div_ceil(LANES));
        let query_words = int8_words::<S>(dim);

        let key_words = query_words * S::int8_words(Width::Eight) * LANES;
        let mut keys = Buffer::take(Slot::Keys);
        let keys = keys.get::<u32>(key_panels * key_words);
        let mut key_scales = Buffer::take(Slot::KeyScales);
        let key_scales = key_scales.get::<f32>(dim.next_multiple_of(CODE_STEP));
        self.pack_keys::<S, LANES>(simd, keys, key_scales);

        let mut queries = Buffer::take(Slot::Queries);
        let queries = queries.get::<u32>(tokens.next_multiple_of(S::ROW_STEP) * query_words);
        let mut query_scales = Buffer::take(Slot::QueryScales);
        let query_scales = query_scales.get::<f32>(tokens);
        self.pack_queries(simd, key_scales, queries, query_scales);

        let value_words = int8_words::<S>(tokens) * S::int8_words(Width::Eight) * LANES;
        let mut values = Buffer::take(Slot::Values);
        let values = values.get::<u32>(value_panels * value_words);
        let mut value_scales = Buffer::take(Slot::ValueScales);
        let value_scales = value_scales.get::<f32>(value_panels * LANES);
        let (value_scales, _) = value_scales.as_chunks_mut::<LANES>();
        let mut value_sums = Buffer::take(Slot::ValueSums);
        let value_sums = value_sums.get::<i32>(value_panels * LANES);
        let (value_sums, _) = value_sums.as_chunks_mut::<LANES>();
        self.pack_values::<S, LANES>(simd, values, value_scales, value_sums);

        let most_rows =
            QUERY_ROWS.next_multiple_of(S::INT8_ROWS).min(tokens.next_multiple_of(S::INT8_ROWS));
        let mut scores = Buffer::take(Slot::Scores);
        let scores = scores.get::<i32>(key_panels * most_rows * LANES);
        let mut codes = Buffer::take(Slot::RowCodes);
        let codes = codes.get::<i8>(tokens.next_multiple_of(CODE_STEP));
        let probability_words = int8_words::<S>(tokens);
        let mut probabilities = Buffer::take(Slot::Probabilities);
        let probabilities = probabilities.get::<u32>(most_rows * probability_words);
        let mut totals = Buffer::take(Slot::RowTotals);
        let totals = totals.get::<i32>(most_rows);
        let mut sums = Buffer::take(Slot::Sums);
        let sums = sums.get::<i32>(value_panels * most_rows * LANES);
        let most_factor = most_factor(dim);
        let units = UNITS * std::f32::consts::LOG2_E / (dim as f32).sqrt();

        simd.begin_tiles();
        for first in (0..tokens).step_by(most_rows) {
            let queried = most_rows.min(tokens - first);
            let rows = queried.next_multiple_of(S::ROW_STEP);
            let stride = rows * LANES;
            let scores = &mut scores[..key_panels * stride];
            let left =
                left_block::<S>(&queries[first * query_words..][..rows * query_words], query_words);
            simd.int8_panels(left, keys, scores);
            let scales = &query_scales[first..first + queried];
            let probabilities = &mut probabilities[..rows * probability_words];
            for (query, &scale) in scales.iter().enumerate() {
                let factor = (scale * units).min(most_factor);
                let row = ScoreRow { sums: &scores[query * LANES..], stride, tokens, factor };
                totals[query] = simd.exponentials(&row, codes);
                let tile = query / S::INT8_ROWS * S::INT8_ROWS;
                let tile_rows = S::INT8_ROWS.min(rows - tile);
                let packed =
                    &mut probabilities[tile * probability_words..][..tile_rows * probability_words];
                let packed: &mut [i8] = bytemuck::cast_slice_mut(packed);
                let words = &codes[..4 * probability_words];
                spread(words, tile_rows, query - tile, S::INT8_STEP, packed);
            }
            let left = left_block::<S>(probabilities, probability_words);
            let sums = &mut sums[..value_panels * stride];
            simd.int8_panels(left, values, sums);
            for (panel, sums) in sums.chunks_exact(stride).enumerate() {
                let (sums, _) = sums.as_chunks::<LANES>();
                let first_lane = panel * LANES;
                for (query, sums) in sums.iter().take(queried).enumerate() {
                    one_at_a_time();
                    let total = totals[query];
                    // NaN where the query, or any key, is not finite.
                    let row_factor = 1.0 / total as f32 + 0.0 * scales[query];
                    let shift = MIDDLE.wrapping_mul(total);
                    let out = &mut self.tile.row(first + query)[first_lane..];
                    let weighted = Weighted {
                        sums,
                        value_sums: &value_sums[panel],
                        value_scales: &value_scales[panel],
                        shift,
                        row_factor,
                    };
                    match out.first_chunk_mut::<LANES>() {
                        Some(out) => simd.narrow_finite(&weighted.values(), out),
                        None => {
                            let mut whole = [f16::ZERO; LANES];
                            simd.narrow_finite(&weighted.values(), &mut whole);
                            out.copy_from_slice(&whole[..out.len()]);
                        }
                    }
                }
            }
        }
        simd.end_tiles();
    }
}

/// The weighted values of one query, in a panel of features.
struct Weighted<'a, const LANES: usize> {
    /// Of the codes as they are stored.
    sums: &'a [i32; LANES],
    value_sums: &'a [i32; LANES],
    value_scales: &'a [f32; LANES],
    shift: i32,
    row_factor: f32,
}

impl<const LANES: usize> Weighted<'_, LANES> {
    #[inline(always)]
    fn values(&self) -> [f32; LANES] {
        let mut values = [0.0; LANES];
        for lane in 0..LANES {
            let sum = self.sums[lane].wrapping_add(self.value_sums[lane]).wrapping_sub(self.shift);
            values[lane] = sum as f32 * (self.value_scales[lane] * self.row_factor);
        }
        values
    }
}

/// Consecutive row tiles as one block over the whole inner dimension.
#[inline(always)]
fn left_block<S: Simd>(packed: &[u32], per_row: usize) -> LeftBlock<'_, u32> {
    LeftBlock { packed, per_row, tile_rows: S::INT8_ROWS, start: 0, end: per_row }
}
