//! Rounding to half precision.

use half::f16;

use crate::Pool;
use crate::arch::tiles::for_each_chunk;
use crate::arch::{Simd, Vectorized, dispatch};

/// Elements handed to a thread at once.
const CHUNK: usize = 1 << 14;

/// Rounds each number to half precision, to the nearest and ties to even.
///
/// # Panics
/// When the lengths differ.
pub fn round_to_half(pool: &Pool, values: &[f32], out: &mut [f16]) {
    assert_eq!(values.len(), out.len(), "input and output differ in length");
    for_each_chunk(pool, out, CHUNK, |chunk, out| {
        let values = &values[chunk * CHUNK..][..out.len()];
        dispatch!(pool.token(), simd => simd.vectorize(Round { values, out }));
    });
}

struct Round<'a> {
    values: &'a [f32],
    out: &'a mut [f16],
}

impl Vectorized for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        simd.narrow(self.values, self.out);
    }
}
