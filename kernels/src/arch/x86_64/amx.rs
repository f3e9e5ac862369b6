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
use crate::arch::witness::ran;
use crate::arch::{LeftBlock, Simd, Vectorized};
use crate::ops::exponentials::ScoreRow;
use crate::pack::panel;
use crate::{Isa, Width};

/// Proof that AMX-INT8 and AMX-BF16 may be used, and AVX-512 as [`Avx512Vnni`] says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amx(Avx512Vnni);

const LANES: usize = Avx512Vnni::LANES;
/// Rows of a tile register.
const ROWS: usize = 16;
/// Words of a row of a tile register: 64 bytes.
const STEP: usize = 16;

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

    fn vectorize<T: Vectorized>(self, task: T) -> T::Output {
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        fn run<T: Vectorized>(simd: Amx, task: T) -> T::Output {
            ran!("amx code");
            task.run(simd)
        }
        // SAFETY: the token `self` holds that of `Avx512Vnni`, which exists only where every feature named above was found.
        unsafe { run(self, task) }
    }

    fn begin_tiles(self) {
        configure();
    }

    fn end_tiles(self) {
        release();
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
        self.tiles::<Int8>(left, right, bytemuck::cast_slice_mut(sums), start);
    }

    #[inline(always)]
    fn half_tiles(self, left: LeftBlock<'_, u32>, right: &[u32], sums: &mut [f32], start: bool) {
        self.tiles::<Half>(left, right, bytemuck::cast_slice_mut(sums), start);
    }
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn expand_half(width: Width, words: &[u32], out: &mut [u32]) {
    panel::expand_half::<LANES>(width, words, out);
}

impl Amx {
    /// All row tiles of a block, two at a time. Sums are words, of integers or floats.
    fn tiles<P: TileProduct>(
        self,
        left: LeftBlock<'_, u32>,
        right: &[u32],
        sums: &mut [u32],
        start: bool,
    ) {
        let steps = (left.end - left.start) / STEP;
        assert!(right.len() >= steps * STEP * LANES, "a step of the right operand is missing");
        let mut tiles = left.tiles().zip(sums.chunks_mut(ROWS * LANES));
        let whole = |left: &[u32], sums: &[u32]| {
            assert!(left.len() >= steps * ROWS * STEP && sums.len() >= ROWS * LANES, "16 rows");
        };
        while let Some((left, sums)) = tiles.next() {
            whole(left, sums);
            match tiles.next() {
                Some((left_1, sums_1)) => {
                    whole(left_1, sums_1);
                    // SAFETY: the token proves AMX, and the assertions have checked that every step of both operands is there, and all
                    // sums. `begin_tiles` has configured the registers; where it has not, the instructions fault.
                    unsafe { P::two_tiles(steps, [left, left_1], right, [sums, sums_1], start) };
                }
                // SAFETY: as above.
                None => unsafe { P::one_tile(steps, left, right, sums, start) },
            }
        }
    }
}

/// What `ldtilecfg` reads (Intel's manual, volume 1, 18.3.3).
#[repr(C, align(64))]
pub(crate) struct TileConfiguration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    /// Bytes of a row, per register.
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Registers 0 to 3 are sums, 4 and 5 row tiles, 6 and 7 the two halves of a panel: all of 16 rows of 64 bytes.
pub(crate) static CONFIGURATION: TileConfiguration = TileConfiguration {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Configures the registers of this thread.
fn configure() {
    // SAFETY: only the methods of `Amx` call this, which has the token; the configuration is valid and 64 bytes long.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &CONFIGURATION, options(nostack, readonly)) };
}

/// Gives the registers back to their initial state, which the system need not save.
fn release() {
    // SAFETY: only the methods of `Amx` call this, which has the token.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// One of the two tile instructions.
trait TileProduct {
    /// Sums of two row tiles with a panel.
    ///
    /// # Safety
    /// AMX is available; each row tile has `steps * 16 * STEP` words, `right` `steps * STEP * LANES`, each tile of sums `16 * LANES`.
    unsafe fn two_tiles(
        steps: usize,
        left: [&[u32]; 2],
        right: &[u32],
        sums: [&mut [u32]; 2],
        start: bool,
    );

    /// Sums of one row tile with a panel.
    ///
    /// # Safety
    /// As [`TileProduct::two_tiles`].
    unsafe fn one_tile(steps: usize, left: &[u32], right: &[u32], sums: &mut [u32], start: bool);
}

/// Signed bytes times unsigned ones.
struct Int8;
/// Pairs of bfloat16 numbers.
struct Half;

macro_rules! tile_product {
    ($product:ty, $instruction:literal) => {
        impl TileProduct for $product {
            #[inline(always)]
            unsafe fn two_tiles(
                steps: usize,
                left: [&[u32]; 2],
                right: &[u32],
                sums: [&mut [u32]; 2],
                start: bool,
            ) {
                ran!(concat!("amx ", $instruction));
                let [sums_0, sums_1] = sums;
                // SAFETY: the caller vouches for the lengths; every address below lies in the four slices.
                unsafe {
                    asm!(
                        "test {start:e}, {start:e}",
                        "jnz 2f",
                        "tileloadd tmm0, [{sums_0} + {row}]",
                        "tileloadd tmm1, [{sums_0} + {row} + 64]",
                        "tileloadd tmm2, [{sums_1} + {row}]",
                        "tileloadd tmm3, [{sums_1} + {row} + 64]",
                        "jmp 3f",
                        "2:",
                        "tilezero tmm0",
                        "tilezero tmm1",
                        "tilezero tmm2",
                        "tilezero tmm3",
                        "3:",
                        "tileloadd tmm6, [{right} + {row}]",
                        "tileloadd tmm4, [{left_0} + {half_row}]",
                        concat!($instruction, " tmm0, tmm4, tmm6"),
                        "tileloadd tmm7, [{right} + {row} + 64]",
                        concat!($instruction, " tmm1, tmm4, tmm7"),
                        "tileloadd tmm5, [{left_1} + {half_row}]",
                        concat!($instruction, " tmm2, tmm5, tmm6"),
                        concat!($instruction, " tmm3, tmm5, tmm7"),
                        "add {right}, 2048",
                        "add {left_0}, 1024",
                        "add {left_1}, 1024",
                        "dec {steps}",
                        "jnz 3b",
                        "tilestored [{sums_0} + {row}], tmm0",
                        "tilestored [{sums_0} + {row} + 64], tmm1",
                        "tilestored [{sums_1} + {row}], tmm2",
                        "tilestored [{sums_1} + {row} + 64], tmm3",
                        start = in(reg) u32::from(start),
                        steps = inout(reg) steps => _,
                        right = inout(reg) right.as_ptr() => _,
                        left_0 = inout(reg) left[0].as_ptr() => _,
                        left_1 = inout(reg) left[1].as_ptr() => _,
                        sums_0 = in(reg) sums_0.as_mut_ptr(),
                        sums_1 = in(reg) sums_1.as_mut_ptr(),
                        row = in(reg) 4 * LANES,
                        half_row = in(reg) 4 * STEP,
                        options(nostack),
                    );
                }
            }

            #[inline(always)]
            unsafe fn one_tile(
                steps: usize,
                left: &[u32],
                right: &[u32],
                sums: &mut [u32],
                start: bool,
            ) {
                ran!(concat!("amx ", $instruction));
                // SAFETY: the caller vouches for the lengths; every address below lies in the three slices.
                unsafe {
                    asm!(
                        "test {start:e}, {start:e}",
                        "jnz 2f",
                        "tileloadd tmm0, [{sums} + {row}]",
                        "tileloadd tmm1, [{sums} + {row} + 64]",
                        "jmp 3f",
                        "2:",
                        "tilezero tmm0",
                        "tilezero tmm1",
                        "3:",
                        "tileloadd tmm6, [{right} + {row}]",
                        "tileloadd tmm4, [{left} + {half_row}]",
                        concat!($instruction, " tmm0, tmm4, tmm6"),
                        "tileloadd tmm7, [{right} + {row} + 64]",
                        concat!($instruction, " tmm1, tmm4, tmm7"),
                        "add {right}, 2048",
                        "add {left}, 1024",
                        "dec {steps}",
                        "jnz 3b",
                        "tilestored [{sums} + {row}], tmm0",
                        "tilestored [{sums} + {row} + 64], tmm1",
                        start = in(reg) u32::from(start),
                        steps = inout(reg) steps => _,
                        right = inout(reg) right.as_ptr() => _,
                        left = inout(reg) left.as_ptr() => _,
                        sums = in(reg) sums.as_mut_ptr(),
                        row = in(reg) 4 * LANES,
                        half_row = in(reg) 4 * STEP,
                        options(nostack),
                    );
                }
            }
        }
    };
}

tile_product!(Int8, "tdpbsud");
tile_product!(Half, "tdpbf16ps");
