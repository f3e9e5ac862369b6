//! Products with activations quantised to 8 bit.

use std::ops::Range;

use super::driver::{Finish, Product, drive};
use super::epilogue::{Channels, for_lanes, write_row};
use super::float::panel_block;
use crate::arch::Simd;
use crate::arch::tiles::Tile;
use crate::matrix::Storage;
use crate::memory::Buffer;
use crate::pack::panel;
use crate::{Epilogue, Matrix, Pool, QuantizedActivations, Width};

pub(super) fn matmul<S: Simd>(
    simd: S,
    pool: &Pool,
    a: &QuantizedActivations,
    w: &Matrix,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let finish = FinishFloat { a, w, epilogue };
    run(simd, pool, a, w, &finish, out);
}

pub(super) fn accumulators<S: Simd>(
    simd: S,
    pool: &Pool,
    a: &QuantizedActivations,
    w: &Matrix,
    out: &mut [i32],
) {
    run(simd, pool, a, w, &FinishInteger { a, w }, out);
}

fn run<S: Simd, F: Finish<i32>>(
    simd: S,
    pool: &Pool,
    a: &QuantizedActivations,
    w: &Matrix,
    finish: &F,
    out: &mut [F::Out],
) {
    // `supports_int8` was checked: these are codes.
    if let Storage::Codes(width, words) = &w.storage {
        let product = IntegerProduct {
            codes: a.codes(),
            width: *width,
            words: words.of(),
            depth: w.in_features(),
        };
        let shape = (a.rows(), w.out_features());
        drive(simd, pool, &product, finish, shape, out);
    }
}

struct IntegerProduct<'a> {
    /// Activations, `[m][depth]`.
    codes: &'a [i8],
    width: Width,
    /// Panels of weights.
    words: &'a [u32],
    depth: usize,
}

impl Product for IntegerProduct<'_> {
    type Left = u32;
    type Right = u32;
    type Sum = i32;
    // 1024 x 32 bytes are 32 KiB.
    const BLOCK: usize = 1024;

    fn tile_rows<S: Simd>() -> usize {
        S::INT8_ROWS
    }

    fn depth(&self) -> usize {
        self.depth
    }

    fn left_len<S: Simd>(&self, depth: usize) -> usize {
        depth.div_ceil(4) * if S::wants_halves(self.width) { 2 } else { 1 }
    }

    #[inline(always)]
    fn pack_left<S: Simd>(&self, rows: Range<usize>, packed: &mut [u32]) {
        let count = rows.len();
        let codes = &self.codes[rows.start * self.depth..rows.end * self.depth];
        for (row, codes) in codes.chunks_exact(self.depth).enumerate() {
            let (groups, rest) = codes.as_chunks::<4>();
            let mut last = [0; 4];
            last[..rest.len()].copy_from_slice(rest);
            let last = (!rest.is_empty()).then_some(&last);
            let groups = groups.iter().chain(last);
            if S::wants_halves(self.width) {
                let pairs = packed.chunks_exact_mut(2 * count);
                for (group, words) in groups.zip(pairs) {
                    words[row] = halves(group[0], group[2]);
                    words[count + row] = halves(group[1], group[3]);
                }
            } else {
                for (group, words) in groups.zip(packed.chunks_exact_mut(count)) {
                    words[row] = u32::from_le_bytes(group.map(|code| code as u8));
                }
            }
        }
    }

    #[inline(always)]
    fn expand_right<'a, S: Simd>(
        &'a self,
        simd: S,
        panel: usize,
        block: Range<usize>,
        buffer: &'a mut Buffer,
    ) -> &'a [u32] {
        let width = self.width;
        let words = panel_block::<S>(width, self.words, self.depth, panel, &block);
        if width == Width::Eight && !S::wants_halves(width) {
            // Stored as they are multiplied.
            return words;
        }
        let padded = block.len().next_multiple_of(panel::group_depth(width));
        let expanded = buffer.get::<u32>(self.left_len::<S>(padded) * S::LANES);
        simd.expand_int8(width, words, expanded);
        expanded
    }

    #[inline(always)]
    fn multiply<S: Simd>(
        &self,
        simd: S,
        rows: usize,
        left: &[u32],
        right: &[u32],
        sums: &mut [i32],
        start: bool,
    ) {
        simd.int8_tile(rows, self.width, left, right, sums, start);
    }
}

/// Two activations as the 16-bit halves of a word.
#[inline(always)]
fn halves(low: i8, high: i8) -> u32 {
    u32::from(i16::from(low) as u16) | u32::from(i16::from(high) as u16) << 16
}

/// `sum_k (q - zero)` of a row.
#[inline(always)]
fn centred_sum(a: &QuantizedActivations, row: usize) -> i32 {
    a.sums()[row].wrapping_sub((a.columns() as i32).wrapping_mul(a.zeros()[row]))
}

struct FinishFloat<'a> {
    a: &'a QuantizedActivations,
    w: &'a Matrix,
    epilogue: &'a Epilogue<'a>,
}

impl Finish<i32> for FinishFloat<'_> {
    type Out = f32;

    #[inline(always)]
    fn finish<S: Simd>(&self, sums: &[i32], tile: Tile<'_, f32>) {
        for_lanes!(S, LANES => self.finish_lanes::<S, LANES>(sums, tile));
    }
}

impl FinishFloat<'_> {
    #[inline(always)]
    fn finish_lanes<S: Simd, const LANES: usize>(&self, sums: &[i32], mut tile: Tile<'_, f32>) {
        let channels = Channels::<LANES>::new(self.w, self.epilogue, &tile);
        let middle = self.w.width().map_or(0, |width| width.middle() as i32);
        let (sums, _) = sums.as_chunks::<LANES>();
        for (row, sums) in sums.iter().enumerate() {
            let index = tile.first_row + row;
            let (scale, zero) = (self.a.scales()[index], self.a.zeros()[index]);
            let row_sum = centred_sum(self.a, index);
            let shift = middle.wrapping_mul(row_sum);
            let mut values = [0.0; LANES];
            for lane in 0..LANES {
                let centred = sums[lane]
                    .wrapping_sub(zero.wrapping_mul(channels.code_sums[lane]))
                    .wrapping_sub(shift);
                values[lane] = (channels.scale[lane] * scale) * centred as f32
                    + (channels.offset[lane] * scale) * row_sum as f32;
            }
            write_row::<S, LANES>(&channels, self.epilogue, values, &mut tile, row);
        }
    }
}

struct FinishInteger<'a> {
    a: &'a QuantizedActivations,
    w: &'a Matrix,
}

impl Finish<i32> for FinishInteger<'_> {
    type Out = i32;

    #[inline(always)]
    fn finish<S: Simd>(&self, sums: &[i32], mut tile: Tile<'_, i32>) {
        let code_sums = &self.w.code_sums.of::<i32>()[tile.first_column..];
        for (row, sums) in sums.chunks_exact(S::LANES).enumerate() {
            let zero = self.a.zeros()[tile.first_row + row];
            for ((out, sum), code_sum) in tile.row(row).iter_mut().zip(sums).zip(code_sums) {
                *out = sum.wrapping_sub(zero.wrapping_mul(*code_sum));
            }
        }
    }
}
