//! Queries, keys and values of a head as bytes, in the order of the micro-kernel.

use half::f16;

use super::MIDDLE;
use super::rounding::{CODE_STEP, symmetric_grid};
use crate::Width;
use crate::activations::{int8_words, spread};
use crate::arch::{Simd, one_at_a_time};
use crate::memory::{Buffer, Slot};
use crate::ops::attention::Head;
use crate::ops::math::round;

/// Four signed bytes, stored above the middle, differ from themselves in these bits.
const ABOVE_MIDDLE: u32 = 0x8080_8080;

/// The bits of a number of half precision without its sign, which order as magnitudes do, NaN above all.
const HALF_MAGNITUDE: u16 = 0x7fff;

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
        let codes = codes.get::<i8>(dim.next_multiple_of(CODE_STEP));
        let tiles = words.chunks_mut(S::INT8_ROWS * per_row);
        for (tile, (packed, scales)) in tiles.zip(scales.chunks_mut(S::INT8_ROWS)).enumerate() {
            let rows = packed.len() / per_row;
            let packed: &mut [i8] = bytemuck::cast_slice_mut(packed);
            for (index, scale) in scales.iter_mut().enumerate() {
                let token = tile * S::INT8_ROWS + index;
                let query = &self.queries[token * self.stride..][..dim];
                *scale = simd.round_to_grid(query, key_scales, codes);
                spread(&codes[..4 * per_row], rows, index, S::INT8_STEP, packed);
            }
        }
    }

    /// Rounds the keys and packs them as the right operand of scores, one token per lane; writes the scale of each feature,
    /// zero where all are, and beyond the last.
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
        let padded = dim.next_multiple_of(CODE_STEP);
        let mut inverses = Buffer::take(Slot::KeyInverses);
        let inverses = inverses.get::<f32>(padded);
        let (inverse_chunks, _) = inverses.as_chunks_mut::<LANES>();
        let (scale_chunks, _) = scales.as_chunks_mut::<LANES>();
        scale_chunks.fill([0.0; LANES]);
        inverse_chunks.fill([0.0; LANES]);
        let chunks = scale_chunks.iter_mut().zip(inverse_chunks).take(dim.div_ceil(LANES));
        for (chunk, (scales, inverses)) in chunks.enumerate() {
            let source = &self.keys[chunk * LANES..];
            let largest: [f32; LANES] = largest_magnitudes(source, self.stride, tokens);
            for lane in 0..LANES {
                let there = largest[lane] != 0.0 && chunk * LANES + lane < dim;
                (scales[lane], inverses[lane]) =
                    if there { symmetric_grid(largest[lane]) } else { (0.0, 0.0) };
            }
        }
        let mut codes = Buffer::take(Slot::RowCodes);
        let codes = codes.get::<i8>(padded);
        let mut stored = Buffer::take(Slot::Right);
        let count = dim.div_ceil(4) * LANES;
        let per_panel = int8_words::<S>(dim) * S::int8_words(Width::Eight) * LANES;
        let inverses = &*inverses;
        for (panel, keys) in keys.chunks_exact_mut(per_panel).enumerate() {
            let words = stored_panel::<S>(count, keys, &mut stored);
            let first = panel * LANES;
            for lane in 0..LANES.min(tokens - first) {
                let token = first + lane;
                let key = &self.keys[token * self.stride..][..dim];
                simd.round_products(key, inverses, codes);
                let groups: &[u32] = bytemuck::cast_slice(codes);
                for (group, words) in groups.iter().zip(words.chunks_exact_mut(LANES)) {
                    words[lane] = ABOVE_MIDDLE ^ u32::from_le(*group);
                }
            }
            expand_panel(simd, count, &mut stored, keys);
        }
    }

    /// Rounds the values and packs them as the right operand of the weighted sums, one feature per lane; writes the scale of
    /// each feature, and 128 times the sum of its codes as they are stored.
    #[inline(always)]
    pub(super) fn pack_values<S: Simd, const LANES: usize>(
        &self,
        simd: S,
        values: &mut [u32],
        scales: &mut [[f32; LANES]],
        sums: &mut [[i32; LANES]],
    ) {
        let tokens = self.tile.rows;
        let groups = tokens.div_ceil(4);
        let mut stored = Buffer::take(Slot::Right);
        let per_panel = int8_words::<S>(tokens) * S::int8_words(Width::Eight) * LANES;
        for (panel, values) in values.chunks_exact_mut(per_panel).enumerate() {
            let source = &self.values[panel * LANES..];
            let largest: [f32; LANES] = largest_magnitudes(source, self.stride, tokens);
            let mut inverses = [0.0; LANES];
            for lane in 0..LANES {
                (scales[panel][lane], inverses[lane]) = symmetric_grid(largest[lane]);
            }
            let words = stored_panel::<S>(groups * LANES, values, &mut stored);
            let (words, _) = words.as_chunks_mut::<LANES>();
            let mut totals = [0_i32; LANES];
            let mut rows = [[0.0; LANES]; 4];
            for (words, source) in words.iter_mut().zip(source.chunks(4 * self.stride)) {
                one_at_a_time();
                let mut sources = source.chunks(self.stride);
                for row in &mut rows {
                    match sources.next() {
                        Some(values) => widen_lanes(simd, values, row),
                        // Beyond the last token: the code of zero.
                        None => *row = [0.0; LANES],
                    }
                }
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
            expand_panel(simd, groups * LANES, &mut stored, values);
        }
    }
}

/// The largest magnitude of each of the first `LANES` features of so many rows: infinite or NaN where a number is.
///
/// Features of the next head, in lanes beyond the last feature, are never looked at.
#[inline(always)]
fn largest_magnitudes<const LANES: usize>(
    rows: &[f16],
    stride: usize,
    count: usize,
) -> [f32; LANES] {
    let mut largest = [0_u16; LANES];
    let mut rows = rows.chunks(stride).take(count);
    let mut last = None;
    for row in rows.by_ref() {
        one_at_a_time();
        let Some(row) = row.first_chunk::<LANES>() else {
            last = Some(row);
            break;
        };
        for lane in 0..LANES {
            largest[lane] = largest[lane].max(row[lane].to_bits() & HALF_MAGNITUDE);
        }
    }
    // Fewer lanes than a panel: one row of the last head, or all of them where rows are that short.
    for row in last.into_iter().chain(rows) {
        for (largest, value) in largest.iter_mut().zip(row) {
            *largest = (*largest).max(value.to_bits() & HALF_MAGNITUDE);
        }
    }
    largest.map(|bits| f16::from_bits(bits).to_f32())
}

/// The first numbers of a row as floats; anything in lanes beyond.
#[inline(always)]
fn widen_lanes<S: Simd, const LANES: usize>(simd: S, values: &[f16], out: &mut [f32; LANES]) {
    match values.first_chunk::<LANES>() {
        Some(values) => simd.widen(values, out),
        None => simd.widen(values, out),
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
