//! Integer products of few rows, all of which lie in the first-level cache: each pair of row tiles is one block of assembly.
//!
//! There is nothing to be done between the products and nothing to be streamed past the cache, and a block at a time is a
//! tenth faster on the short inner dimensions of attention than instruction by instruction
//! ([`tile_registers`](super::tile_registers)).

use std::arch::asm;

use super::avx512::Avx512Vnni;
use super::tile_registers::{ROWS, STEP};
use crate::arch::witness::ran;
use crate::arch::{LeftBlock, Simd};

const LANES: usize = Avx512Vnni::LANES;

/// All row tiles of a block, two at a time.
///
/// # Safety
/// AMX is available and the registers are configured.
pub(super) unsafe fn multiply_block(
    left: LeftBlock<'_, u32>,
    right: &[u32],
    sums: &mut [i32],
    start: bool,
) {
    let steps = (left.end - left.start) / STEP;
    assert!(right.len() >= steps * STEP * LANES, "a step of the right operand is missing");
    let mut tiles = left.tiles().zip(sums.chunks_mut(ROWS * LANES));
    let whole = |left: &[u32], sums: &[i32]| {
        assert!(left.len() >= steps * ROWS * STEP && sums.len() >= ROWS * LANES, "16 rows");
    };
    while let Some((left, sums)) = tiles.next() {
        whole(left, sums);
        match tiles.next() {
            Some((left_1, sums_1)) => {
                whole(left_1, sums_1);
                // SAFETY: the assertions have checked that every step of both operands is there, and all sums; the caller
                // vouches for the rest.
                unsafe { two_tiles(steps, [left, left_1], right, [sums, sums_1], start) };
            }
            // SAFETY: as above.
            None => unsafe { one_tile(steps, left, right, sums, start) },
        }
    }
}

/// Sums of two row tiles with a panel.
///
/// # Safety
/// AMX is available and the registers are configured; each row tile has `steps * 16 * STEP` words, `right`
/// `steps * STEP * LANES`, each tile of sums `16 * LANES`.
#[inline(always)]
unsafe fn two_tiles(
    steps: usize,
    left: [&[u32]; 2],
    right: &[u32],
    sums: [&mut [i32]; 2],
    start: bool,
) {
    ran!("amx tdpbsud");
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
            "tdpbsud tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{right} + {row} + 64]",
            "tdpbsud tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{left_1} + {half_row}]",
            "tdpbsud tmm2, tmm5, tmm6",
            "tdpbsud tmm3, tmm5, tmm7",
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

/// Sums of one row tile with a panel.
///
/// # Safety
/// As [`two_tiles`].
#[inline(always)]
unsafe fn one_tile(steps: usize, left: &[u32], right: &[u32], sums: &mut [i32], start: bool) {
    ran!("amx tdpbsud");
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
            "tdpbsud tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{right} + {row} + 64]",
            "tdpbsud tmm1, tmm4, tmm7",
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
