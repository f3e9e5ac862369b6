//! What generic kernels ask of an instruction set: [`Simd`], with a portable definition of everything but the micro-kernels.
//!
//! The portable definitions are what other instruction sets' own are compared with, bit for bit.

use half::f16;

use super::{ChannelTerms, LeftBlock, RightBlock, RowTerms, dequantize};
use crate::activations::{BLOCK, CODE_SUM_LANES, round_block, round_codes};
use crate::matmul::for_lanes;
use crate::ops::exponentials::{self, ScoreRow};
use crate::ops::{self, Extremes, SUM_LANES, math, rounding};
use crate::{Isa, Width};

/// Generic code to be compiled for each instruction set.
pub(crate) trait Vectorized {
    /// What the task returns.
    type Output;

    /// Does the work. Implementations are `#[inline(always)]`, and so is all they call.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Work to be done in small parts while the units of the products are busy, most of the core not.
pub(crate) trait Between<Sum> {
    /// Does a part. `finished` are the rows of sums, from the first, that will not change any more in this block, and `left` is how often
    /// this will be called, this time included, until there are more.
    fn step<S: Simd>(&mut self, simd: S, finished: &[Sum], left: usize);
}

/// Nothing to be done.
impl<Sum> Between<Sum> for () {
    #[inline(always)]
    fn step<S: Simd>(&mut self, _: S, _: &[Sum], _: usize) {}
}

/// An instruction set known to be available: a token that only detection makes.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// Which one.
    const ISA: Isa;
    /// Whether a fused multiply-add is one instruction.
    const FUSED: bool;
    /// Columns of a tile, and lanes of a panel: 8, 16 or 32.
    const LANES: usize;
    /// Most rows of a float tile.
    const F32_ROWS: usize;
    /// Most rows of an integer tile.
    const INT8_ROWS: usize;
    /// Input features of a row that lie together in the left operand of an integer product, which is padded to a multiple
    /// of them with zeros: the bytes that one register or tile row takes in.
    const INT8_STEP: usize = 4;
    /// Most rows of a tile of bfloat16 activations; zero where the instruction set multiplies none.
    const HALF_ROWS: usize = 0;
    /// Rows of the left operands and sums of integer and bfloat16 products are stored in multiples of this: what the rows
    /// beyond the last hold is multiplied, and means nothing.
    const ROW_STEP: usize = 1;
    /// Rows that go through an activation function together: one where registers suffice for that and for what comes
    /// before and after it, several in the first-level cache where they do not.
    const ACTIVATED_ROWS: usize = 8;

    /// Has memory brought nearer, into the second-level cache, where the instruction set has a way to ask for that.
    #[inline(always)]
    fn fetch(self, _: &[u32]) {}

    /// Runs a task in a function compiled for this instruction set.
    fn vectorize<T: Vectorized>(self, task: T) -> T::Output;

    /// Before the first call of [`Simd::int8_tiles`] or [`Simd::half_tiles`] in a task.
    #[inline(always)]
    fn begin_tiles(self) {}

    /// After the last one.
    #[inline(always)]
    fn end_tiles(self) {}

    /// The numbers of a row from its integer sums:
    /// `((sums - zero * code_sums - shift) * scale + offset * sum) * row scale + bias`, integers exact, the float product with `offset`
    /// rounded, the others fused.
    #[inline(always)]
    fn dequantize<const LANES: usize>(
        self,
        sums: &[i32; LANES],
        row: RowTerms,
        channels: &ChannelTerms<LANES>,
        values: &mut [f32; LANES],
    ) {
        *values = dequantize::dequantize::<Self, LANES>(sums, row, channels);
    }

    /// [`math::gelu_erf_coarse`] of each element.
    #[inline(always)]
    fn gelu_coarse(self, values: &mut [f32]) {
        for value in values {
            *value = math::gelu_erf_coarse::<Self>(*value);
        }
    }

    /// [`narrow`](Self::narrow) with the largest finite number in the place of larger ones; NaN stays.
    #[inline(always)]
    fn narrow_finite<const LANES: usize>(self, values: &[f32; LANES], out: &mut [f16]) {
        const LARGEST: f32 = 65504.0;
        let mut finite = *values;
        for value in &mut finite {
            let clamped = if *value > LARGEST { LARGEST } else { *value };
            *value = if clamped < -LARGEST { -LARGEST } else { clamped };
        }
        self.narrow(&finite, out);
    }

    /// Rounds to half precision, to the nearest and ties to even; as many as both slices hold.
    #[inline(always)]
    fn narrow(self, values: &[f32], out: &mut [f16]) {
        for (out, &value) in out.iter_mut().zip(values) {
            *out = f16::from_f32(value);
        }
    }

    /// Half precision as floats; as many as both slices hold.
    #[inline(always)]
    fn widen(self, values: &[f16], out: &mut [f32]) {
        for (out, &value) in out.iter_mut().zip(values) {
            *out = value.to_f32();
        }
    }

    /// [`sum_lanes`](ops::sum_lanes).
    #[inline(always)]
    fn sum_lanes(self, chunks: &[[f32; SUM_LANES]]) -> [f32; SUM_LANES] {
        ops::sum_lanes(chunks)
    }

    /// [`square_lanes`](ops::square_lanes).
    #[inline(always)]
    fn square_lanes(self, chunks: &[[f32; SUM_LANES]], middle: f32) -> [f32; SUM_LANES] {
        ops::square_lanes(chunks, middle)
    }

    /// [`add_lanes`](ops::add_lanes).
    #[inline(always)]
    fn add_lanes(self, lanes: &[f32; SUM_LANES]) -> f32 {
        ops::add_lanes(lanes)
    }

    /// [`extremes`](ops::extremes).
    #[inline(always)]
    fn extremes(self, row: &[f32]) -> Extremes {
        ops::extremes(row)
    }

    /// [`round_codes`].
    #[inline(always)]
    fn round_codes(self, values: &[f32], inverse: f32, zero: i32, codes: &mut [i8]) -> i32 {
        round_codes(values, inverse, zero, codes)
    }

    /// [`round_block`].
    #[inline(always)]
    fn round_block(
        self,
        values: &[f16; BLOCK],
        inverse: f32,
        zero: i32,
        codes: &mut [i8; BLOCK],
        sums: &mut [i32; CODE_SUM_LANES],
    ) {
        round_block(self, values, inverse, zero, codes, sums);
    }

    /// [`round_products`](rounding::round_products).
    #[inline(always)]
    fn round_products(self, values: &[f16], factors: &[f32], codes: &mut [i8]) {
        rounding::round_products(self, values, factors, codes);
    }

    /// [`round_to_grid`](rounding::round_to_grid).
    #[inline(always)]
    fn round_to_grid(self, values: &[f16], factors: &[f32], codes: &mut [i8]) -> f32 {
        rounding::round_to_grid(self, values, factors, codes)
    }

    /// [`exponentials`](exponentials::exponentials) of a row of scores in panels of this instruction set.
    #[inline(always)]
    fn exponentials(self, row: &ScoreRow<'_>, codes: &mut [i8]) -> i32 {
        for_lanes!(Self, LANES => exponentials::exponentials::<Self, LANES>(row, codes))
    }

    /// [`panel::expand_f32`](crate::pack::panel::expand_f32) for the lanes of this instruction set.
    fn expand_f32(self, width: Width, words: &[u32], out: &mut [f32]);

    /// Expands words of a panel to the right operand of [`Simd::int8_tile`]: `[depth / 4][LANES]` words of four bytes
    /// ([`panel::expand_bytes`](crate::pack::panel::expand_bytes)), or another order of that many words
    /// ([`Simd::int8_words`]), or other bytes that its tile makes the same sums of.
    fn expand_int8(self, width: Width, words: &[u32], out: &mut [u32]);

    /// Words of the right operand of an integer product, per lane and four input features.
    fn int8_words(_: Width) -> usize {
        1
    }

    /// Whether the words of an 8-bit panel are the right operand as they lie.
    fn multiplies_stored_bytes() -> bool {
        true
    }

    /// [`panel::expand_half`](crate::pack::panel::expand_half) for the lanes of this instruction set.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    fn expand_half(self, _: Width, _: &[u32], _: &mut [u32]) {
        unreachable!("{} multiplies no bfloat16", Self::ISA);
    }

    /// `sums[r][n] (+)= sum_k left[k][r] * right[k][n]` for `rows` (1 to `F32_ROWS`) rows and `LANES` columns.
    ///
    /// `left` is `[depth][rows]`, `right` `[depth][LANES]`, `sums` `[rows][LANES]`; `start` overwrites `sums`. The terms of
    /// each sum are added one after another in the order of `k`, each in one rounding, so that a sum depends neither on
    /// the rows beside it nor on the instruction set.
    fn f32_tile(self, rows: usize, left: &[f32], right: &[f32], sums: &mut [f32], start: bool);

    /// `sums[r][n] (+)= sum_k left[r][k] * right[k][n]`, signed bytes on the left, unsigned codes on the right.
    ///
    /// `rows` is 1 to `INT8_ROWS`, a multiple of `ROW_STEP`; `left` is `[ceil(depth / INT8_STEP)][rows][INT8_STEP]` bytes,
    /// `right` as [`Simd::expand_int8`] writes it, `sums` `[rows][LANES]`; `start` overwrites `sums`. Exact modulo 2^32 for codes below `width.levels()`.
    fn int8_tile(
        self,
        rows: usize,
        width: Width,
        left: &[u32],
        right: &[u32],
        sums: &mut [i32],
        start: bool,
    );

    /// [`Simd::int8_tile`] for every row tile of a block.
    #[inline(always)]
    fn int8_tiles(
        self,
        width: Width,
        left: LeftBlock<'_, u32>,
        right: &[u32],
        sums: &mut [i32],
        start: bool,
    ) {
        let right = RightBlock::Expanded(right);
        self.int8_tiles_between(width, left, right, sums, start, &mut ());
    }

    /// [`Simd::int8_tiles`] of 8-bit codes for panels that lie one after another, over the whole inner dimension: overwrites
    /// `sums`, `[panel][row][LANES]`.
    #[inline(always)]
    fn int8_panels(self, left: LeftBlock<'_, u32>, panels: &[u32], sums: &mut [i32]) {
        let panel = left.per_row * Self::int8_words(Width::Eight) * Self::LANES;
        let stride = left.packed.len() / left.per_row * Self::LANES;
        for (right, sums) in panels.chunks_exact(panel).zip(sums.chunks_exact_mut(stride)) {
            self.int8_tiles(Width::Eight, left, right, sums, true);
        }
    }

    /// [`Simd::int8_tiles`] with other work between the products, where that takes no time of its own.
    #[inline(always)]
    fn int8_tiles_between(
        self,
        width: Width,
        left: LeftBlock<'_, u32>,
        right: RightBlock<'_>,
        sums: &mut [i32],
        start: bool,
        between: &mut impl Between<i32>,
    ) {
        /// Bytes of the left operand between two steps.
        const STEP: usize = 2048;
        let right = right.expand(|words, expanded| self.expand_int8(width, words, expanded));
        for (left, sums) in left.tiles().zip(sums.chunks_mut(left.tile_rows * Self::LANES)) {
            self.int8_tile(sums.len() / Self::LANES, width, left, right, sums, start);
            for _ in 0..size_of_val(left).div_ceil(STEP) {
                // Fetches only: finishing rows here takes as long as it does later, and would be compiled twice.
                between.step(self, &[], 1);
            }
        }
    }

    /// `sums[r][n] (+)= sum_k left[r][k] * right[k][n]` for every row tile of a block of bfloat16 pairs.
    ///
    /// `left` is, per tile, `[ceil(depth / 32)][rows][32]` numbers, `right` `[ceil(depth / 32) * 16][LANES]` pairs.
    fn half_tiles(
        self,
        _: Width,
        _: LeftBlock<'_, u32>,
        _: RightBlock<'_>,
        _: &mut [f32],
        _: bool,
        _: &mut impl Between<f32>,
    ) {
        unreachable!("{} multiplies no bfloat16", Self::ISA);
    }
}

/// Keeps the compiler from vectorising a loop across its iterations, with gathers and scatters, once it has unrolled the lanes
/// of each.
#[inline(always)]
pub(crate) fn one_at_a_time() {
    std::hint::black_box(());
}
