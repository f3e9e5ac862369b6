//! The operations of a Vision Transformer between its matmuls: layer normalisation, softmax, GELU and attention.
//!
//! Each is written once and compiled for every instruction set, save for inner loops that the compiler makes badly, which
//! `arch` has with intrinsics too; attention multiplies with the micro-kernels of the matmuls. They use the instruction set of the [`Pool`](crate::Pool), and their results do not depend
//! on its number of threads.

mod attention;
mod gelu;
mod half;
mod integer_attention;
mod layer_norm;
pub(crate) mod math;
mod reduce;
mod softmax;
#[cfg(test)]
mod tests;
mod transpose;

pub use attention::{AttentionShape, attention};
pub use gelu::gelu;
pub use half::round_to_half;
pub use integer_attention::{INTEGER_ATTENTION_LIMIT, integer_attention};
pub(crate) use integer_attention::{exponentials, rounding};
pub use layer_norm::layer_norm;
pub(crate) use layer_norm::{normalize_in_place, normalize_row};
pub(crate) use math::round;
pub(crate) use reduce::{
    Extremes, SUM_LANES, add_lanes, extremes, maximum, square_lanes, sum, sum_lanes, sum_map,
    sum_squares,
};
pub use softmax::softmax_rows;
pub(crate) use transpose::transpose_row;
