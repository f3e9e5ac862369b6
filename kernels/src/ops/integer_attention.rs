//! Multi-head attention in integers.
//!
//! Both products are those of the integer micro-kernel, signed bytes times unsigned ones, and exact, so that attention has
//! the same bits on every instruction set and runs at the rate of the quantised layers:
//!
//! - queries and keys of a head are rounded to -127..=127, one scale per token; keys are stored 128 higher, which
//!   `128 * sum(query)` takes back;
//! - each row of scores becomes `p = round(255 * exp(score - maximum) + dither)`, and dividing by the sum of these integers
//!   makes them a distribution; they are stored 128 lower, values 128 higher, which the sums of both take back;
//! - values are rounded to -127..=127, one scale per feature.
//!
//! One task per image and head, a few query rows at a time, so that scores never leave the first-level cache.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::attention::{Head, for_each_head};
use super::math::{ROUNDER, mul_add, round};
use super::{from_ordered, largest_magnitude, ordered};
use crate::activations::{LEAST_SCALE, int8_words, spread};
use crate::arch::{LeftBlock, Simd, Vectorized, dispatch, one_at_a_time};
use crate::matmul::for_lanes;
use crate::memory::{Buffer, Slot};
use crate::{Pool, Width};

/// Most tokens, and most features of a head: no 32-bit sum overflows.
pub const INTEGER_ATTENTION_LIMIT: usize = 1 << 16;

/// Queries multiplied at once, if the row tiles of the instruction set are not larger: the keys are read once for all of
/// them.
const QUERY_ROWS: usize = 32;

/// What keys and values are stored above, and probabilities below.
const MIDDLE: i32 = 128;

/// Added to a probability before it is rounded, by token: numbers evenly spread over a step, in the order of their reversed
/// bits, so that neighbours differ. What is below half a step of the largest would all vanish otherwise, which is most of a
/// row where attention is sharp; so one token in so many keeps a step, and sums over tokens stay right.
const DITHER: [f32; DITHERED] = {
    let mut dither = [0.0; DITHERED];
    let mut token = 0;
    while token < DITHERED {
        let reversed = (token as u32).reverse_bits() >> (u32::BITS - DITHERED.trailing_zeros());
        dither[token] = (reversed as f32 + 0.5) / DITHERED as f32 - 0.5;
        token += 1;
    }
    dither
};

/// Tokens after which [`DITHER`] repeats: a multiple of the lanes of every instruction set.
const DITHERED: usize = 32;

/// Four signed bytes, stored above the middle, differ from themselves in these bits.
const ABOVE_MIDDLE: u32 = 0x8080_8080;

/// [`attention`](super::attention) with queries, keys, values and probabilities rounded to 8 bit.
///
/// `qkv` is `[batch, tokens, 3, heads, head_dim]`, in half precision since it is rounded further, `out`
/// `[batch, tokens, heads * head_dim]`. A number which is not finite makes the outputs that depend on it NaN.
///
/// # Panics
/// When the length of a slice does not belong to the shape, or `tokens` or `head_dim` is above [`INTEGER_ATTENTION_LIMIT`].
pub fn integer_attention(
    pool: &Pool,
    qkv: &[f16],
    batch: usize,
    tokens: usize,
    heads: usize,
    head_dim: usize,
    out: &mut [f32],
) {
    assert!(tokens.max(head_dim) <= INTEGER_ATTENTION_LIMIT, "{tokens} tokens of {head_dim}");
    for_each_head(pool, qkv, [batch, tokens, heads, head_dim], out, |head| {
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
        let mut queries = Buffer::take(Slot::Queries);
        let queries = queries.get::<u32>(tokens.next_multiple_of(S::ROW_STEP) * query_words);
        let mut query_grids = Buffer::take(Slot::QueryGrids);
        let query_grids = query_grids.get::<QueryGrid>(tokens);
        self.pack_queries(simd, queries, query_grids);

        let key_words = query_words * S::int8_words(Width::Eight) * LANES;
        let mut keys = Buffer::take(Slot::Keys);
        let keys = keys.get::<u32>(key_panels * key_words);
        let mut key_scales = Buffer::take(Slot::KeyScales);
        let key_scales = key_scales.get::<f32>(key_panels * LANES);
        self.pack_keys::<S, LANES>(simd, keys, key_scales);
        // Lanes without a key have no part in a softmax.
        let mut key_masks = Buffer::take(Slot::KeyMasks);
        let key_masks = key_masks.get::<f32>(key_panels * LANES);
        key_masks[..tokens].fill(0.0);
        key_masks[tokens..].fill(f32::NEG_INFINITY);
        // Zero, or NaN where a key is not finite.
        let poison = key_scales.iter().map(|scale| 0.0 * scale).sum::<f32>();

        let value_words = int8_words::<S>(tokens) * S::int8_words(Width::Eight) * LANES;
        let mut values = Buffer::take(Slot::Values);
        let values = values.get::<u32>(value_panels * value_words);
        let mut value_scales = Buffer::take(Slot::ValueScales);
        let value_scales = value_scales.get::<f32>(value_panels * LANES);
        let mut value_sums = Buffer::take(Slot::ValueSums);
        let value_sums = value_sums.get::<i32>(value_panels * LANES);
        self.pack_values::<S, LANES>(simd, values, value_scales, value_sums);

        let most_rows =
            QUERY_ROWS.next_multiple_of(S::INT8_ROWS).min(tokens.next_multiple_of(S::INT8_ROWS));
        let mut scores = Buffer::take(Slot::Scores);
        let scores = scores.get::<i32>(key_panels * most_rows * LANES);
        let mut row = Buffer::take(Slot::Rows);
        let row = row.get::<f32>(key_panels * LANES);
        let mut codes = Buffer::take(Slot::RowCodes);
        let codes = codes.get::<i8>((key_panels * LANES).next_multiple_of(S::INT8_STEP));
        let probability_words = int8_words::<S>(tokens);
        let mut probabilities = Buffer::take(Slot::Probabilities);
        let probabilities = probabilities.get::<u32>(most_rows * probability_words);
        let mut totals = Buffer::take(Slot::RowTotals);
        let totals = totals.get::<i32>(most_rows);
        let mut sums = Buffer::take(Slot::Sums);
        let sums = sums.get::<i32>(most_rows * LANES);
        let factor = std::f32::consts::LOG2_E / (dim as f32).sqrt();

        simd.begin_tiles();
        for first in (0..tokens).step_by(most_rows) {
            let queried = most_rows.min(tokens - first);
            let rows = queried.next_multiple_of(S::ROW_STEP);
            let scores = &mut scores[..key_panels * rows * LANES];
            let left =
                left_block::<S>(&queries[first * query_words..][..rows * query_words], query_words);
            for (keys, scores) in
                keys.chunks_exact(key_words).zip(scores.chunks_exact_mut(rows * LANES))
            {
                simd.int8_tiles(Width::Eight, left, keys, scores, true);
            }
            let grids = &query_grids[first..first + queried];
            let probabilities = &mut probabilities[..rows * probability_words];
            let tiles = probabilities.chunks_mut(S::INT8_ROWS * probability_words);
            let tile_grids = grids.chunks(S::INT8_ROWS);
            for (tile, (packed, grids)) in tiles.zip(tile_grids).enumerate() {
                for (index, grid) in grids.iter().enumerate() {
                    let query = tile * S::INT8_ROWS + index;
                    let first = query * LANES;
                    let panels = scores.chunks_exact(rows * LANES);
                    let panels = panels.map(|scores| &scores[first..first + LANES]);
                    let largest =
                        scale_scores::<S, LANES>(panels, grid.sum, key_scales, key_masks, row);
                    totals[query] =
                        exponentials::<S, LANES>(row, largest, grid.scale * factor, codes);
                    codes[tokens..].fill(0);
                    let packed: &mut [i8] = bytemuck::cast_slice_mut(packed);
                    let (words, rows) =
                        (&codes[..4 * probability_words], packed.len() / 4 / probability_words);
                    spread(words, rows, index, S::INT8_STEP, packed);
                }
            }
            let left = left_block::<S>(probabilities, probability_words);
            let sums = &mut sums[..rows * LANES];
            let (value_scales, _) = value_scales.as_chunks::<LANES>();
            let (value_sums, _) = value_sums.as_chunks::<LANES>();
            for (panel, values) in values.chunks_exact(value_words).enumerate() {
                simd.int8_tiles(Width::Eight, left, values, sums, true);
                let (sums, _) = sums.as_chunks::<LANES>();
                for (query, sums) in sums.iter().take(queried).enumerate() {
                    let row_factor =
                        1.0 / totals[query] as f32 + (0.0 * grids[query].scale + poison);
                    let shift = MIDDLE.wrapping_mul(totals[query]);
                    let mut weighted = [0.0; LANES];
                    for lane in 0..LANES {
                        let sum = MIDDLE.wrapping_mul(value_sums[panel][lane]).wrapping_sub(shift);
                        weighted[lane] = sums[lane].wrapping_add(sum) as f32
                            * (value_scales[panel][lane] * row_factor);
                    }
                    let out = &mut self.tile.row(first + query)[panel * LANES..];
                    let count = out.len().min(LANES);
                    out[..count].copy_from_slice(&weighted[..count]);
                }
            }
        }
        simd.end_tiles();
    }

    /// Rounds the queries and packs them as a left operand.
    #[inline(always)]
    fn pack_queries<S: Simd>(&self, simd: S, words: &mut [u32], grids: &mut [QueryGrid]) {
        let dim = self.tile.columns;
        let per_row = int8_words::<S>(dim);
        let mut codes = Buffer::take(Slot::RowCodes);
        let codes = codes.get::<i8>(4 * per_row);
        codes[dim..].fill(0);
        let mut query = Buffer::take(Slot::Rows);
        let query = query.get::<f32>(dim);
        let tiles = words.chunks_mut(S::INT8_ROWS * per_row);
        for (tile, (packed, grids)) in tiles.zip(grids.chunks_mut(S::INT8_ROWS)).enumerate() {
            let rows = packed.len() / per_row;
            let packed: &mut [i8] = bytemuck::cast_slice_mut(packed);
            for (index, grid) in grids.iter_mut().enumerate() {
                let token = tile * S::INT8_ROWS + index;
                simd.widen(&self.queries[token * self.stride..][..dim], query);
                grid.scale = round_row(query, &mut codes[..dim]);
                grid.sum = codes[..dim].iter().map(|&code| i32::from(code)).sum();
                spread(codes, rows, index, S::INT8_STEP, packed);
            }
        }
    }

    /// Rounds the keys and packs them as the right operand of scores: one token per lane.
    #[inline(always)]
    fn pack_keys<S: Simd, const LANES: usize>(
        &self,
        simd: S,
        keys: &mut [u32],
        scales: &mut [f32],
    ) {
        let dim = self.tile.columns;
        let mut codes = Buffer::take(Slot::RowCodes);
        let codes = codes.get::<i8>(dim.next_multiple_of(4));
        let mut key = Buffer::take(Slot::Rows);
        let key = key.get::<f32>(dim);
        scales.fill(0.0);
        let mut stored = Buffer::take(Slot::Right);
        let count = dim.div_ceil(4) * LANES;
        let per_panel = int8_words::<S>(dim) * S::int8_words(Width::Eight) * LANES;
        for (panel, keys) in keys.chunks_exact_mut(per_panel).enumerate() {
            let words = stored_panel::<S>(count, keys, &mut stored);
            let first = panel * LANES;
            for lane in 0..LANES.min(self.tile.rows - first) {
                let token = first + lane;
                simd.widen(&self.keys[token * self.stride..][..dim], key);
                scales[token] = round_row(key, &mut codes[..dim]);
                let groups: &[u32] = bytemuck::cast_slice(codes);
                for (group, words) in groups.iter().zip(words.chunks_exact_mut(LANES)) {
                    words[lane] = ABOVE_MIDDLE ^ u32::from_le(*group);
                }
            }
            expand_panel(simd, count, &mut stored, keys);
        }
    }

    /// Rounds the values and packs them as the right operand of the weighted sums: one feature per lane.
    #[inline(always)]
    fn pack_values<S: Simd, const LANES: usize>(
        &self,
        simd: S,
        values: &mut [u32],
        scales: &mut [f32],
        sums: &mut [i32],
    ) {
        let tokens = self.tile.rows;
        let groups = tokens.div_ceil(4);
        let mut stored = Buffer::take(Slot::Right);
        let mut rows = Buffer::take(Slot::Rows);
        // Rows beyond the last token are zero, and have the code of zero.
        let rows = rows.get::<f32>(4 * groups * LANES);
        rows[tokens * LANES..].fill(0.0);
        let (rows, _) = rows.as_chunks_mut::<LANES>();
        let per_panel = int8_words::<S>(tokens) * S::int8_words(Width::Eight) * LANES;
        let (scales, _) = scales.as_chunks_mut::<LANES>();
        let (sums, _) = sums.as_chunks_mut::<LANES>();
        for (panel, values) in values.chunks_exact_mut(per_panel).enumerate() {
            let mut largest = [0_u32; LANES];
            let starts = (panel * LANES..).step_by(self.stride);
            for (row, start) in rows[..tokens].iter_mut().zip(starts) {
                one_at_a_time();
                // Features of the next head, in lanes beyond the last feature, are never looked at.
                match self.values[start..].first_chunk::<LANES>() {
                    Some(values) => simd.widen(values, row),
                    None => simd.widen(&self.values[start..], row),
                }
                for lane in 0..LANES {
                    largest[lane] = largest[lane].max(row[lane].to_bits() & 0x7fff_ffff);
                }
            }
            let mut inverses = [0.0; LANES];
            for lane in 0..LANES {
                (scales[panel][lane], inverses[lane]) = grid(f32::from_bits(largest[lane]));
            }
            let count = groups * LANES;
            let words = stored_panel::<S>(count, values, &mut stored);
            let (words, _) = words.as_chunks_mut::<LANES>();
            let mut totals = [0; LANES];
            for (words, rows) in words.iter_mut().zip(rows.as_chunks::<4>().0) {
                one_at_a_time();
                for lane in 0..LANES {
                    let code = |row: usize| {
                        round(rows[row][lane] * inverses[lane]).wrapping_add(MIDDLE) & 0xff
                    };
                    let codes = [code(0), code(1), code(2), code(3)];
                    totals[lane] += codes[0] + codes[1] + codes[2] + codes[3];
                    let word = codes[0] | codes[1] << 8 | codes[2] << 16 | codes[3] << 24;
                    words[lane] = word as u32;
                }
            }
            let beyond = MIDDLE * (4 * groups - tokens) as i32;
            for lane in 0..LANES {
                sums[panel][lane] = totals[lane] - beyond;
            }
            expand_panel(simd, count, &mut stored, values);
        }
    }
}

/// What the scores of a query need: its scale, and the sum of its codes.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct QueryGrid {
    scale: f32,
    sum: i32,
}

/// Consecutive row tiles as one block over the whole inner dimension.
#[inline(always)]
fn left_block<S: Simd>(packed: &[u32], per_row: usize) -> LeftBlock<'_, u32> {
    LeftBlock { packed, per_row, tile_rows: S::INT8_ROWS, start: 0, end: per_row }
}

/// Where the `count` words of an 8-bit panel are written: in their place, or in `stored` to be expanded from there.
#[inline(always)]
fn stored_panel<'a, S: Simd>(
    count: usize,
    right: &'a mut [u32],
    stored: &'a mut Buffer,
) -> &'a mut [u32] {
    if S::multiplies_stored_bytes() { &mut right[..count] } else { stored.get::<u32>(count) }
}

/// Leaves in `right` what the micro-kernel multiplies.
#[inline(always)]
fn expand_panel<S: Simd>(simd: S, count: usize, stored: &mut Buffer, right: &mut [u32]) {
    if !S::multiplies_stored_bytes() {
        simd.expand_int8(Width::Eight, stored.get::<u32>(count), right);
    }
}

/// The step and its reciprocal of a symmetric grid that reaches to `largest`; NaN and 0 where that is not finite.
#[inline(always)]
fn grid(largest: f32) -> (f32, f32) {
    let scale = largest / 127.0;
    let scale = if scale < LEAST_SCALE { 1.0 } else { scale };
    if largest < f32::INFINITY { (scale, 1.0 / scale) } else { (f32::NAN, 0.0) }
}

/// Rounds a row to codes in -127..=127; returns the scale. A row that is not finite has the scale NaN.
#[inline(always)]
fn round_row(row: &[f32], codes: &mut [i8]) -> f32 {
    let (scale, inverse) = grid(largest_magnitude(row));
    for (code, &value) in codes.iter_mut().zip(row) {
        *code = round(value * inverse) as i8;
    }
    scale
}

/// Scores of one query, up to its scale, from their sums in each panel of keys; returns the largest.
#[inline(always)]
fn scale_scores<'a, S: Simd, const LANES: usize>(
    sums: impl Iterator<Item = &'a [i32]>,
    query_sum: i32,
    scales: &[f32],
    masks: &[f32],
    scores: &mut [f32],
) -> f32 {
    let shift = MIDDLE.wrapping_mul(query_sum);
    let (scales, _) = scales.as_chunks::<LANES>();
    let (masks, _) = masks.as_chunks::<LANES>();
    let (scores, _) = scores.as_chunks_mut::<LANES>();
    let mut largest = [i32::MIN; LANES];
    for (((sums, scales), masks), scores) in sums.zip(scales).zip(masks).zip(scores) {
        one_at_a_time();
        for lane in 0..LANES {
            let sum = sums[lane].wrapping_sub(shift) as f32;
            let score = mul_add::<S>(sum, scales[lane], masks[lane]);
            scores[lane] = score;
            largest[lane] = largest[lane].max(ordered(score));
        }
    }
    from_ordered(largest.into_iter().fold(i32::MIN, i32::max))
}

/// Writes `round(255 * 2^((score - maximum) * factor) + dither) - 128` and returns the sum of these numbers without the `- 128`.
///
/// `2^x = 2^n 2^r` with `|r| <= 1/2`, `2^r` a polynomial with a relative error of 7.5e-5, a fiftieth of a code; 0 below `2^-20`.
#[inline(always)]
fn exponentials<S: Simd, const LANES: usize>(
    scores: &[f32],
    largest: f32,
    factor: f32,
    codes: &mut [i8],
) -> i32 {
    const LEAST: f32 = -20.0;
    let (scores, _) = scores.as_chunks::<LANES>();
    let (codes, _) = codes.as_chunks_mut::<LANES>();
    let mut totals = [0; LANES];
    let (dither, _) = DITHER.as_chunks::<LANES>();
    for ((codes, scores), dither) in codes.iter_mut().zip(scores).zip(dither.iter().cycle()) {
        one_at_a_time();
        for lane in 0..LANES {
            let x = (scores[lane] - largest) * factor;
            // NaN as well: minus infinity times zero.
            let x = if x > LEAST { x } else { LEAST };
            let shifted = x + ROUNDER;
            let r = x - (shifted - ROUNDER);
            let p = mul_add::<S>(r, 14.068_853, 61.866_03);
            let p = mul_add::<S>(p, r, 176.781_56);
            let p = mul_add::<S>(p, r, 254.981_64);
            let power = f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23));
            let probability = round(power + dither[lane]);
            totals[lane] += probability;
            codes[lane] = (probability - MIDDLE) as i8;
        }
    }
    totals.iter().sum()
}
