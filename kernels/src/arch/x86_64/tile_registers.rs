//! Tile registers: their configuration, their instructions, and the loop over row tiles and steps.
//!
//! The intrinsics are not stable, so each instruction is an assembly block of its own. The compiler uses no tile register and
//! keeps the order of the blocks. Registers and their configuration belong to a thread; nothing else in the process uses
//! them.
//!
//! Registers 0 to 3 are sums, 4 and 5 row tiles, 6 and 7 the two halves of a panel. Products are placed between the loads,
//! which hides them; all loads before all products is two to three times slower. For the same reason the sums of a pair of
//! row tiles are stored one by one between the first products of the next pair, and a panel is expanded step by step between
//! the products of the first pair ([`Panel`]).

use std::arch::asm;

use bytemuck::Pod;

use super::avx512::Avx512Vnni;
use super::tile_panel::Panel;
use crate::Width;
use crate::arch::witness::ran;
use crate::arch::{Between, LeftBlock, RightBlock, Simd};

const LANES: usize = Avx512Vnni::LANES;
/// Rows of a tile register.
pub(super) const ROWS: usize = 16;
/// Words of a row of a tile register: 64 bytes.
pub(super) const STEP: usize = 16;
/// Left operands that are longer, in words, would drive the panel out of the first-level cache on their way through it.
const STREAMED: usize = 8 << 10;

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

/// Eight registers of 16 rows of 64 bytes.
pub(crate) static CONFIGURATION: TileConfiguration = TileConfiguration {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Configures the registers of this thread.
///
/// # Safety
/// AMX is available.
#[inline(always)]
pub(super) unsafe fn configure() {
    // SAFETY: the caller vouches for AMX; the configuration is valid and 64 bytes long.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &CONFIGURATION, options(nostack, readonly)) };
}

/// Gives the registers back to their initial state, which the system need not save.
///
/// # Safety
/// AMX is available.
#[inline(always)]
pub(super) unsafe fn release() {
    // SAFETY: the caller vouches for AMX.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// One of the two tile instructions.
pub(super) trait Product {
    /// Adds to register `SUM` the product of registers `LEFT` and `RIGHT`.
    ///
    /// # Safety
    /// AMX is available and the registers are configured.
    unsafe fn add<const SUM: u8, const LEFT: u8, const RIGHT: u8>();

    /// Input features of a step.
    const DEPTH: usize;

    /// Expands words of a panel.
    fn expand<S: Simd>(simd: S, width: Width, words: &[u32], out: &mut [u32]);

    /// Its name, for tests.
    fn note();
}

/// Signed bytes times unsigned ones.
pub(super) struct Int8;
/// Pairs of bfloat16 numbers.
pub(super) struct Half;

macro_rules! product {
    ($product:ty, $instruction:literal, $depth:literal, $expand:ident) => {
        impl Product for $product {
            const DEPTH: usize = $depth;

            #[inline(always)]
            fn expand<S: Simd>(simd: S, width: Width, words: &[u32], out: &mut [u32]) {
                simd.$expand(width, words, out);
            }

            #[inline(always)]
            unsafe fn add<const SUM: u8, const LEFT: u8, const RIGHT: u8>() {
                // SAFETY: the caller vouches for AMX and the configuration; no memory is touched.
                unsafe {
                    asm!(
                        concat!($instruction, " tmm{sum}, tmm{left}, tmm{right}"),
                        sum = const SUM,
                        left = const LEFT,
                        right = const RIGHT,
                        options(nostack, nomem, preserves_flags),
                    );
                }
            }

            #[inline(always)]
            fn note() {
                ran!(concat!("amx ", $instruction));
            }
        }
    };
}

product!(Int8, "tdpbsud", 64, expand_int8);
product!(Half, "tdpbf16ps", 32, expand_half);

/// Sets a register to zero.
///
/// # Safety
/// AMX is available and the registers are configured.
#[inline(always)]
unsafe fn zero<const REGISTER: u8>() {
    // SAFETY: the caller vouches for AMX and the configuration.
    unsafe {
        asm!("tilezero tmm{}", const REGISTER, options(nostack, nomem, preserves_flags));
    }
}

/// Loads 16 rows of 64 bytes, `stride` bytes apart.
///
/// # Safety
/// AMX is available, the registers are configured, and the rows are there.
#[inline(always)]
unsafe fn load<const REGISTER: u8, T>(rows: *const T, stride: usize) {
    // SAFETY: the caller vouches for AMX, the configuration and the memory.
    unsafe {
        asm!(
            "tileloadd tmm{register}, [{rows} + {stride}]",
            register = const REGISTER,
            rows = in(reg) rows,
            stride = in(reg) stride,
            options(nostack, readonly, preserves_flags),
        );
    }
}

/// [`load`] past the first-level cache.
///
/// # Safety
/// As [`load`].
#[inline(always)]
unsafe fn stream<const REGISTER: u8, T>(rows: *const T, stride: usize) {
    // SAFETY: the caller vouches for AMX, the configuration and the memory.
    unsafe {
        asm!(
            "tileloaddt1 tmm{register}, [{rows} + {stride}]",
            register = const REGISTER,
            rows = in(reg) rows,
            stride = in(reg) stride,
            options(nostack, readonly, preserves_flags),
        );
    }
}

/// Loads a step of a row tile.
///
/// # Safety
/// As [`load`].
#[inline(always)]
unsafe fn load_left<const REGISTER: u8, const STREAM: bool>(rows: *const u32) {
    // SAFETY: the caller vouches for AMX, the configuration and the memory.
    unsafe {
        if STREAM {
            stream::<REGISTER, u32>(rows, 4 * STEP);
        } else {
            load::<REGISTER, u32>(rows, 4 * STEP);
        }
    }
}

/// Stores a register to its place in the sums of a pair of row tiles.
///
/// # Safety
/// AMX is available, the registers are configured, and the sums are there.
#[inline(always)]
unsafe fn store<const REGISTER: u8, T>(sums: *mut T) {
    // SAFETY: the caller vouches for AMX, the configuration and the memory.
    unsafe {
        asm!(
            "tilestored [{rows} + {stride}], tmm{register}",
            register = const REGISTER,
            rows = in(reg) sums.add(place(REGISTER)),
            stride = in(reg) 4 * LANES,
            options(nostack, preserves_flags),
        );
    }
}

/// All row tiles of a block times a panel, two tiles at a time: [`Simd::int8_tiles`] and [`Simd::half_tiles`].
///
/// # Safety
/// AMX is available and the registers are configured.
#[inline(always)]
pub(super) unsafe fn multiply<S: Simd, P: Product, T: Pod>(
    simd: S,
    width: Width,
    left: LeftBlock<'_, u32>,
    right: RightBlock<'_>,
    sums: &mut [T],
    start: bool,
    between: &mut impl Between<T>,
) {
    P::note();
    // SAFETY: the caller vouches for AMX and the configuration.
    unsafe {
        if left.packed.len() > STREAMED {
            multiply_tiles::<S, P, T, true>(simd, width, left, right, sums, start, between);
        } else {
            multiply_tiles::<S, P, T, false>(simd, width, left, right, sums, start, between);
        }
    }
}

/// # Safety
/// As [`multiply`].
#[inline(always)]
unsafe fn multiply_tiles<S: Simd, P: Product, T: Pod, const STREAM: bool>(
    simd: S,
    width: Width,
    left: LeftBlock<'_, u32>,
    right: RightBlock<'_>,
    sums: &mut [T],
    start: bool,
    between: &mut impl Between<T>,
) {
    let steps = (left.end - left.start) / STEP;
    assert!(size_of::<T>() == 4 && steps > 0, "32-bit sums of products");
    let mut panel = Panel::new::<P>(width, right, steps);
    let right = panel.steps.cast_const();
    let mut tiles = left.tiles();
    // The row of sums that the tiles begin at, and how many rows before it are still in registers.
    let (mut row, mut held) = (0, 0);
    while let Some(first) = tiles.next() {
        let second = tiles.next();
        let rows = if second.is_some() { 2 * ROWS } else { ROWS };
        let whole = |tile: &[u32]| tile.len() >= steps * ROWS * STEP;
        assert!(whole(first) && second.is_none_or(whole), "tiles of 16 rows");
        let next = sums[row * LANES..][..rows * LANES].as_ptr();
        let turn = Turn {
            held: (held > 0).then(|| sums[(row - held) * LANES..].as_mut_ptr()),
            next: (!start).then_some(next),
        };
        // SAFETY: the slices and the assertions have checked that every step of both operands is there, and all sums; held
        // are those of a pair, since only the last tile has none. The caller vouches for the rest.
        unsafe {
            panel.expand::<P, S>(simd, 0);
            panel.expand::<P, S>(simd, 1);
            match second {
                Some(second) => {
                    let left = [first.as_ptr(), second.as_ptr()];
                    multiply_step::<P, T, STREAM, true>(left, right, 0, Some(turn));
                    for step in 1..steps {
                        panel.expand::<P, S>(simd, step + 1);
                        between.step(simd, &sums[..row * LANES], steps - step);
                        multiply_step::<P, T, STREAM, true>(left, right, step, None);
                    }
                }
                None => {
                    let left = [first.as_ptr(); 2];
                    multiply_step::<P, T, STREAM, false>(left, right, 0, Some(turn));
                    for step in 1..steps {
                        panel.expand::<P, S>(simd, step + 1);
                        between.step(simd, &sums[..row * LANES], steps - step);
                        multiply_step::<P, T, STREAM, false>(left, right, step, None);
                    }
                }
            }
        }
        panel.packed = &[];
        (row, held) = (row + rows, rows);
    }
    let sums = sums[(row - held) * LANES..].as_mut_ptr();
    // SAFETY: rows of sums for the registers in use were sliced above.
    unsafe {
        if held > 0 {
            store::<0, T>(sums);
            store::<1, T>(sums);
        }
        if held > ROWS {
            store::<2, T>(sums);
            store::<3, T>(sums);
        }
    }
}

/// What becomes of the sums in registers when those of the next row tiles begin.
#[derive(Clone, Copy)]
struct Turn<T> {
    /// Where they are stored, if there are any.
    held: Option<*mut T>,
    /// Where the next sums are continued from, unless they start.
    next: Option<*const T>,
}

impl<T> Turn<T> {
    /// Stores a register and makes it ready for the next sums.
    ///
    /// # Safety
    /// AMX is available, the registers are configured, and 32 rows of sums are where the pointers point.
    #[inline(always)]
    unsafe fn take<const REGISTER: u8>(self) {
        // SAFETY: the caller vouches for AMX, the configuration and the memory.
        unsafe {
            if let Some(held) = self.held {
                store::<REGISTER, T>(held);
            }
            match self.next {
                Some(next) => load::<REGISTER, T>(next.add(place(REGISTER)), 4 * LANES),
                None => zero::<REGISTER>(),
            }
        }
    }
}

/// Where the sums of a register begin in those of a pair of row tiles.
const fn place(register: u8) -> usize {
    (register / 2) as usize * ROWS * LANES + (register % 2) as usize * STEP
}

/// One step of one row tile, or of a pair.
///
/// # Safety
/// AMX is available, the registers are configured, and step `step` of all operands is there.
#[inline(always)]
unsafe fn multiply_step<P: Product, T: Pod, const STREAM: bool, const PAIR: bool>(
    left: [*const u32; 2],
    right: *const u32,
    step: usize,
    turn: Option<Turn<T>>,
) {
    // SAFETY: the caller vouches for AMX, the configuration and the memory.
    unsafe {
        let left = left.map(|tile| tile.add(step * ROWS * STEP));
        let right = right.add(step * STEP * LANES);
        load::<6, u32>(right, 4 * LANES);
        load_left::<4, STREAM>(left[0]);
        if let Some(turn) = turn {
            turn.take::<0>();
        }
        P::add::<0, 4, 6>();
        load::<7, u32>(right.add(STEP), 4 * LANES);
        if let Some(turn) = turn {
            turn.take::<1>();
        }
        P::add::<1, 4, 7>();
        if PAIR {
            load_left::<5, STREAM>(left[1]);
            if let Some(turn) = turn {
                turn.take::<2>();
            }
            P::add::<2, 5, 6>();
            if let Some(turn) = turn {
                turn.take::<3>();
            }
            P::add::<3, 5, 7>();
        } else if let Some(held) = turn.and_then(|turn| turn.held) {
            store::<2, T>(held);
            store::<3, T>(held);
        }
    }
}
