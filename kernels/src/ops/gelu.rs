//! Activation functions over a slice.

use crate::arch::tiles::for_each_chunk;
use crate::arch::{Simd, Vectorized, dispatch};
use crate::{Activation, Pool};

/// Elements handed to a thread at once.
const CHUNK: usize = 1 << 14;

/// Applies an activation function to each element of `x`.
///
/// The same function fused into a matmul ([`Epilogue`](crate::Epilogue)) saves a pass over memory.
pub fn gelu(pool: &Pool, activation: Activation, x: &mut [f32]) {
    for_each_chunk(pool, x, CHUNK, |_, values| {
        dispatch!(pool.token(), simd => simd.vectorize(Apply { activation, values }));
    });
}

struct Apply<'a> {
    activation: Activation,
    values: &'a mut [f32],
}

impl Vectorized for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.activation.apply::<S>(self.values);
    }
}
