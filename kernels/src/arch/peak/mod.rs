//! Loops of nothing but the multiply instruction of a kernel, on registers: the rate that no kernel can exceed.
//!
//! Where a kernel stops short of its instruction's rate, loads, stores, expansion or the epilogue took the rest. The loops are
//! written in assembly, so that exactly the named instructions are measured and the compiler cannot hoist a product of
//! constants out of the loop. Each keeps more independent sums than the instruction's latency times its throughput asks for,
//! and operands that are neither zero nor subnormal, which some units treat faster or slower.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(not(target_arch = "x86_64"))]
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(not(target_arch = "x86_64"))]
use portable::find;
#[cfg(target_arch = "x86_64")]
use x86_64::find;

use super::Token;
use crate::Arithmetic;

/// A loop over the multiply instruction of one arithmetic of one instruction set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loop {
    /// The instructions, as an assembler names them.
    pub(crate) instruction: &'static str,
    /// Operations of one repetition; a multiply-accumulate is two.
    pub(crate) operations: u64,
    /// Repeats the body of the loop, at least once.
    ///
    /// # Safety
    /// The machine must have the instructions.
    body: unsafe fn(u64),
}

impl Loop {
    /// The loop of an available instruction set; `None` where it has no kernel of that arithmetic.
    pub(crate) fn new(token: Token, arithmetic: Arithmetic) -> Option<Loop> {
        find(token.isa(), arithmetic)
    }

    /// Repeats the body of the loop, at least once.
    pub(crate) fn run(&self, repetitions: u64) {
        // SAFETY: only `new` makes a `Loop` outside of this module, from a token of the instruction set whose loop it finds.
        unsafe { (self.body)(repetitions.max(1)) }
    }
}
