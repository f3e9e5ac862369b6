//! AMX: sums of 16 x 16 in tile registers, 32 x 32 of them at a time, above the AVX-512 of the other operations.
//!
//! `tdpbsud` multiplies 16 rows of 64 signed bytes with 64 x 16 unsigned codes (four input features of a column to a word),
//! `tdpbf16ps` 16 rows of 32 bfloat16 numbers with 32 x 16 of them (two to a word); both take 16 cycles. A panel of 32
//! channels is two tiles wide, and its words, `[16][32]` of them to a step, are both tiles side by side as they lie. Two row
//! tiles are multiplied with both: four tiles of sums, two of the left operand, two of the right. Loads are placed between
//! the products, which hides them; all loads before all products is two to three times slower.
//!
//! A product takes as long for one row as for 16, and configuring the registers as long as ten or more. So they are
//! configured once per task, and every row tile has 16 rows, whatever they hold.
//!
//! The intrinsics are not stable, so each loop is one block of assembly. Tile registers and their configuration belong to a
//! thread; nothing else in the process uses them.

use std::arch::asm;
use std::arch::x86_64::{__cpuid_count, _xgetbv};
use std::sync::OnceLock;

use half::f16;

use super::avx512::Avx512Vnni;
use super::fetch::fetch;
use super::tile_block::multiply_block;
use super::tile_registers::{self, Half, Int8, ROWS, STEP, multiply};
use crate::activations::{BLOCK, CODE_SUM_LANES};
use crate::arch::witness::ran;
use crate::arch::{Between, ChannelTerms, LeftBlock, RightBlock, RowTerms, Simd, Vectorized};
use crate::ops::exponentials::ScoreRow;
use crate::ops::{Extremes, SUM_LANES};
use crate::pack::panel;
use crate::{Isa, Width};

/// Proof that AMX-INT8 and AMX-BF16 may be used, and AVX-512 as [`Avx512Vnni`] says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amx(Avx512Vnni);

const LANES: usize = Avx512Vnni::LANES;

impl Amx {
    pub(crate) fn detect() -> Option<Amx> {
        static ALLOWED: OnceLock<bool> = OnceLock::new();
        let avx512 = Avx512Vnni::detect()?;
        ALLOWED.get_or_init(|| has_instructions() && request_permission()).then_some(Amx(avx512))
    }
}

/// Whether the processor has AMX-TILE, AMX-INT8 and AMX-BF16 (CPUID leaf 7: EDX bits 24, 25, 22) and the system saves the tile
/// state (XCR0 bits 17 and 18).
fn has_instructions() -> bool {
    const FEATURES: u32 = 1 << 24 | 1 << 25 | 1 << 22;
    const STATES: u64 = 1 << 17 | 1 << 18;
    // SAFETY: a processor with AVX-512, which `detect` found first, has XGETBV.
    let saved = unsafe { saved_states() };
    __cpuid_count(7, 0).edx & FEATURES == FEATURES && saved & STATES == STATES
}

#[target_feature(enable = "xsave")]
fn saved_states() -> u64 {
    // SAFETY: register 0, XCR0, exists wherever XGETBV does.
    unsafe { _xgetbv(0) }
}

/// Asks Linux for the use of tile registers, which it grants to a process and all its threads, once
/// (`arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)`).
#[cfg(target_os = "linux")]
fn request_permission() -> bool {
    const SYS_ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XFEATURE_XTILEDATA: i64 = 18;
    let result: i64;
    // SAFETY: this system call takes two numbers, touches no memory of the program, and clobbers the registers named.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") SYS_ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

/// Other systems grant tile registers in other ways, none of which has been tried.
#[cfg(not(target_os = "linux"))]
fn request_permission() -> bool {
    false
}

impl Simd for Amx {
    const ISA: Isa = Isa::Amx;
    const FUSED: bool = true;
    const LANES: usize = LANES;
    const F32_ROWS: usize = Avx512Vnni::F32_ROWS;
    const INT8_ROWS: usize = ROWS;
    const INT8_STEP: usize = 4 * STEP;
    const HALF_ROWS: usize = ROWS;
    const ROW_STEP: usize = ROWS;
    const ACTIVATED_ROWS: usize = Avx512Vnni::ACTIVATED_ROWS;

    fn vectorize<T: Vectorized>(self, task: T) -> T::Output {
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        fn run<T: Vectorized>(simd: Amx, task: T) -> T::Output {
            ran!("amx code");
            task.run(simd)
        }
        // SAFETY: the token `self` holds that of `Avx512Vnni`, which exists only where every feature named above was found.
        unsafe { run(self, task) }
    }

    #[inline(always)]
    fn fetch(self, words: &[u32]) {
        fetch(words);
    }

    fn begin_tiles(self) {
        // SAFETY: the token proves AMX.
        unsafe { tile_registers::configure() };
    }

    fn end_tiles(self) {
        // SAFETY: the token proves AMX.
        unsafe { tile_registers::release() };
    }

    #[inline(always)]
    fn dequantize<const LANES: usize>(
        self,
        sums: &[i32; LANES],
        row: RowTerms,
        channels: &ChannelTerms<LANES>,
        values: &mut [f32; LANES],
    ) {
        self.0.dequantize(sums, row, channels, values);
    }

    #[inline(always)]
    fn narrow_finite<const LANES: usize>(self, values: &[f32; LANES], out: &mut [f16]) {
        self.0.narrow_finite(values, out);
    }

    #[inline(always)]
    fn gelu_coarse(self, values: &mut [f32]) {
        self.0.gelu_coarse(values);
    }

    #[inline(always)]
    fn narrow(self, values: &[f32], out: &mut [f16]) {
        self.0.narrow(values, out);
    }

    #[inline(always)]
    fn widen(self, values: &[f16], out: &mut [f32]) {
        self.0.widen(values, out);
    }

    #[inline(always)]
    fn sum_lanes(self, chunks: &[[f32; SUM_LANES]]) -> [f32; SUM_LANES] {
        self.0.sum_lanes(chunks)
    }

    #[inline(always)]
    fn square_lanes(self, chunks: &[[f32; SUM_LANES]], middle: f32) -> [f32; SUM_LANES] {
        self.0.square_lanes(chunks, middle)
    }

    #[inline(always)]
    fn add_lanes(self, lanes: &[f32; SUM_LANES]) -> f32 {
        self.0.add_lanes(lanes)
    }

    #[inline(always)]
    fn extremes(self, row: &[f32]) -> Extremes {
        self.0.extremes(row)
    }

    #[inline(always)]
    fn round_codes(self, values: &[f32], inverse: f32, zero: i32, codes: &mut [i8]) -> i32 {
        self.0.round_codes(values, inverse, zero, codes)
    }

    #[inline(always)]
    fn round_block(
        self,
        values: &[f16; BLOCK],
        inverse: f32,
        zero: i32,
        codes: &mut [i8; BLOCK],
        sums: &mut [i32; CODE_SUM_LANES],
    ) {
        self.0.round_block(values, inverse, zero, codes, sums);
    }

    #[inline(always)]
    fn round_products(self, values: &[f16], factors: &[f32], codes: &mut [i8]) {
        self.0.round_products(values, factors, codes);
    }

    #[inline(always)]
    fn round_to_grid(self, values: &[f16], factors: &[f32], codes: &mut [i8]) -> f32 {
        self.0.round_to_grid(values, factors, codes)
    }

    #[inline(always)]
    fn exponentials(self, row: &ScoreRow<'_>, codes: &mut [i8]) -> i32 {
        self.0.exponentials(row, codes)
    }

    fn expand_f32(self, width: Width, words: &[u32], out: &mut [f32]) {
        self.0.expand_f32(width, words, out);
    }

    fn expand_int8(self, width: Width, words: &[u32], out: &mut [u32]) {
        self.0.expand_int8(width, words, out);
    }

    fn expand_half(self, width: Width, words: &[u32], out: &mut [u32]) {
        // SAFETY: the token `self` holds that of `Avx512Vnni`.
        unsafe { expand_half(width, words, out) }
    }

    fn f32_tile(self, rows: usize, left: &[f32], right: &[f32], sums: &mut [f32], start: bool) {
        self.0.f32_tile(rows, left, right, sums, start);
    }

    fn int8_tile(
        self,
        rows: usize,
        width: Width,
        left: &[u32],
        right: &[u32],
        sums: &mut [i32],
        start: bool,
    ) {
        let per_row = left.len() / rows;
        let left = LeftBlock { packed: left, per_row, tile_rows: ROWS, start: 0, end: per_row };
        self.int8_tiles(width, left, right, sums, start);
    }

    #[inline(always)]
    fn int8_tiles(
        self,
        _: Width,
        left: LeftBlock<'_, u32>,
        right: &[u32],
        sums: &mut [i32],
        start: bool,
    ) {
        // SAFETY: the token proves AMX. `begin_tiles` has configured the registers; where it has not, the instructions fault.
        unsafe { multiply_block(left, right, sums, start) };
    }

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
        // SAFETY: the token proves AMX. `begin_tiles` has configured the registers; where it has not, the instructions fault.
        unsafe { multiply::<Amx, Int8, i32>(self, width, left, right, sums, start, between) }
    }

    #[inline(always)]
    fn half_tiles(
        self,
        width: Width,
        left: LeftBlock<'_, u32>,
        right: RightBlock<'_>,
        sums: &mut [f32],
        start: bool,
        between: &mut impl Between<f32>,
    ) {
        // SAFETY: as for `int8_tiles`.
        unsafe { multiply::<Amx, Half, f32>(self, width, left, right, sums, start, between) }
    }
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn expand_half(width: Width, words: &[u32], out: &mut [u32]) {
    panel::expand_half::<LANES>(width, words, out);
}
