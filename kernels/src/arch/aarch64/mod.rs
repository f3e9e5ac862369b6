//! AArch64 kernels.
//!
//! All three sets have 16 lanes. With 6 rows the sums of a tile fill 24 of the 32 registers, and the multiply instructions
//! take the rows, four to a register, lane by lane. With 8 lanes and 12 rows the tiles would do as well, but the compiler
//! unrolls loops over 8 lanes before it comes to vectorise them, and leaves epilogues and softmax scalar.

mod dotprod;
mod i8mm;
mod neon;
mod registers;

pub(crate) use dotprod::Dotprod;
pub(crate) use i8mm::I8mm;
pub(crate) use neon::Neon;

const LANES: usize = 16;

/// Vectors of 32-bit lanes in a row of a tile.
const VECTORS: usize = LANES / 4;
