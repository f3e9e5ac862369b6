//! Loops over tile products.

use std::arch::asm;

use super::Loop;
use crate::arch::x86_64::CONFIGURATION;

/// The contents of an operand tile.
#[repr(C, align(64))]
struct Operand([u16; 512]);

/// 0.7 as bfloat16; as integers, bytes of 51 and 63.
static OPERAND: Operand = Operand([0x3f33; 512]);

/// A loop over four products of two left and two right tiles, whose sums are independent: 64 cycles on a unit that takes a
/// new product every 16 and finishes one in 52.
macro_rules! tile_loop {
    ($name:ident, $instruction:literal) => {
        unsafe fn $name(repetitions: u64) {
            // SAFETY: the caller vouches for AMX and for the permission to use it; the loads read the configuration and the 1024
            // bytes of `OPERAND`, and the registers are released at the end.
            unsafe {
                asm!(
                    "ldtilecfg [{configuration}]",
                    ".irp r,0,1,2,3",
                    "tilezero tmm\\r",
                    ".endr",
                    ".irp r,4,5,6,7",
                    "tileloadd tmm\\r, [{operand} + {stride} * 1]",
                    ".endr",
                    "2:",
                    concat!($instruction, " tmm0, tmm4, tmm6"),
                    concat!($instruction, " tmm1, tmm4, tmm7"),
                    concat!($instruction, " tmm2, tmm5, tmm6"),
                    concat!($instruction, " tmm3, tmm5, tmm7"),
                    "dec rcx",
                    "jnz 2b",
                    "tilerelease",
                    configuration = in(reg) &raw const CONFIGURATION,
                    operand = in(reg) &raw const OPERAND,
                    stride = in(reg) 64_usize,
                    inout("rcx") repetitions => _,
                    clobber_abi("sysv64"),
                    options(readonly, nostack),
                );
            }
        }
    };
}

/// Products of signed by unsigned bytes.
pub(super) const INT8: Loop =
    Loop { instruction: "tdpbsud", operations: 4 * 16 * 16 * 64 * 2, body: tdpbsud };

tile_loop!(tdpbsud, "tdpbsud");

/// Products of bfloat16 numbers.
pub(super) const HALF: Loop =
    Loop { instruction: "tdpbf16ps", operations: 4 * 16 * 16 * 32 * 2, body: tdpbf16ps };

tile_loop!(tdpbf16ps, "tdpbf16ps");
