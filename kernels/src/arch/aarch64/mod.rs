//! AArch64 kernels.
//!
//! All three sets have 8 lanes: with 12 rows, the sums of a tile fill 24 of the 32 registers, and the rows are three whole
//! vectors, whose lanes the multiply instructions take as they are.

mod dotprod;
mod i8mm;
mod neon;

pub(crate) use dotprod::Dotprod;
pub(crate) use i8mm::I8mm;
pub(crate) use neon::Neon;

const LANES: usize = 8;
