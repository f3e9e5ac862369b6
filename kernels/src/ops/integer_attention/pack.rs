//! Queries, keys and values of a head as bytes, in the order of the micro-kernel.

use half::f16;

use super::MIDDLE;
use crate::Width;
use crate::activations::{LEAST_SCALE, int8_words, spread};
use crate::arch::{Simd, one_at_a_time};
use crate::memory::{Buffer, Slot};
use crate::ops::attention::Head;
use crate::ops::largest_magnitude;
use crate::ops::math::round;

/// Four signed bytes, stored above the middle, differ from themselves in these bits.
const ABOVE_MIDDLE: u32 = 0x8080_8080;

/// The bits of a number of half precision without its sign, which order as magnitudes do, NaN above all.
const MAGNITUDE: u16 = 0x7fff;

impl Head<'_, f16> {
    /// Multiplies the queries with the scales of the keys, rounds them and packs them as a left operand; writes the scale of
    /// each.
    #[inline(always)]
    pub(super) fn pack_queries<S: Simd>(
        &self,
        simd: S,
        key_scales: &[f32],
        words: &mut [u32],
        scales: &mut [f32],
    ) {
        let dim = self.tile.columns;
        let per_row = int8_words::<S>(dim);
        let mut codes = Buffer::take(Slot::RowCodes);
        let codes = codes.get::<i8>(4 * per_row);
        codes[dim..].fill(0);
        let mut query = Buffer::take(Slot::Rows);
        let query = query.get::<f32>(dim);
        let tiles = words.chunks_mut(S::INT8_ROWS * per_row);
        for (tile, (packed, scales)) in tiles.zip(scales.chunks_mut(S::INT8_ROWS)).enumerate() {
            let rows = packed.len() / per_row;
            let packed: &mut [i8] = bytemuck::cast_slice_mut(packed);
            for (index, scale) in scales.iter_mut().enumerate() {
                let token = tile * S::INT8_ROWS + index;
                simd.widen(&self.queries[token * self.stride..][..dim], query);
                for (value, key_scale) in query.iter_mut().zip(key_scales) {
                    *value *= key_scale;
                }
                let (step, inverse) = grid(largest_magnitude(query));
                *scale = step;
                for (code, &value) in codes.iter_mut().zip(&*query) {
                    *code = round(value * inverse) as i8;
                }
                spread(codes, rows, index, S::INT8_STEP, packed);
            }
        }
    }

    /// Rounds the keys and packs them as the right operand of scores, one token per lane; writes the scale of each feature,
    /// zero where all are.
    ///
    /// Lanes without a token hold anything.
    #[inline(always)]
    pub(super) fn pack_keys<S: Simd, const LANES: usize>(
        &self,
        simd: S,
        keys: &mut [u32],
        scales: &mut [f32],
    ) {
        let (tokens, dim) = (self.tile.rows, self.tile.columns);
        let mut inverses = Buffer::take(Slot::KeyInverses);
        let inverses = inverses.get::<f32>(dim);
        let mut largest = Buffer::take(Slot::RowCodes);
        let largest = largest.get::<u16>(dim);
        largest.fill(0);
        for token in 0..tokens {
            let key = &self.keys[token * self.stride..][..dim];
            for (largest, value) in largest.iter_mut().zip(key) {
                *largest = (*largest).max(value.to_bits() & MAGNITUDE);
            }
        }
        let finite = scales.iter_mut().zip(inverses.iter_mut());
        for ((scale, inverse), &largest) in finite.zip(&*largest) {
            (*scale, *inverse) = if largest == 0 {
                (0.0, 0.0)
            } else {
                grid(f16::from_bits(largest).to_f32())
            };
        }
        let mut codes = Buffer::take(Slot::RowCodes);
        let codes = codes.get::<i8>(dim.next_multiple_of(4));
        codes[dim..].fill(0);
        let mut key = Buffer::take(Slot::Rows);
        let key = key.get::<f32>(dim);
        let mut stored = Buffer::take(Slot::Right);
        let count = dim.div_ceil(4) * LANES;
        let per_panel = int8_words::<S>(dim) * S::int8_words(Width::Eight) * LANES;
        for (panel, keys) in keys.chunks_exact_mut(per_panel).enumerate() {
            let words = stored_panel::<S>(count, keys, &mut stored);
            let first = panel * LANES;
            for lane in 0..LANES.min(tokens - first) {
                let token = first + lane;
                simd.widen(&self.keys[token * self.stride..][..dim], key);
                for ((code, &value), &inverse) in codes.iter_mut().zip(&*key).zip(&*inverses) {
                    *code = round(value * inverse) as i8;
                }
                let groups: &[u32] = bytemuck::cast_slice(codes);
                for (group, words) in groups.iter().zip(words.chunks_exact_mut(LANES)) {
                    words[lane] = ABOVE_MIDDLE ^ u32::from_le(*group);
                }
            }
            expand_panel(simd, count, &mut stored, keys);
        }
    }

    /// Rounds the values and packs them as the right operand of the weighted sums, one feature per lane; writes the scale of
    /// each feature and what its codes, times the middle, add to the sums of the products.
    #[inline(always)]
    pub(super) fn pack_values<S: Simd, const LANES: usize>(
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
                sums[panel][lane] = MIDDLE.wrapping_mul(totals[lane] - beyond);
            }
            expand_panel(simd, count, &mut stored, values);
        }
    }
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
