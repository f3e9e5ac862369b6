//! Portable kernels, in plain Rust.

use super::witness::ran;
use super::{Simd, Vectorized, with_rows};
use crate::ops::math;
use crate::pack::panel;
use crate::{Isa, Width};

/// The token of the portable kernels, which every machine can run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scalar;

const LANES: usize = 8;

impl Simd for Scalar {
    const ISA: Isa = Isa::Scalar;
    const FUSED: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));
    const LANES: usize = LANES;
    const F32_ROWS: usize = 4;
    const INT8_ROWS: usize = 4;

    fn vectorize<T: Vectorized>(self, task: T) -> T::Output {
        ran!("scalar code");
        task.run(self)
    }

    fn expand_f32(self, width: Width, words: &[u32], out: &mut [f32]) {
        panel::expand_f32::<LANES>(width, words, out);
    }

    fn expand_int8(self, width: Width, words: &[u32], out: &mut [u32]) {
        panel::expand_bytes::<LANES>(width, words, out);
    }

    fn f32_tile(self, rows: usize, left: &[f32], right: &[f32], sums: &mut [f32], start: bool) {
        with_rows!(rows, [1 2 3 4], f32_tile(left, right, sums, start));
    }

    fn int8_tile(
        self,
        rows: usize,
        _: Width,
        left: &[u32],
        right: &[u32],
        sums: &mut [i32],
        start: bool,
    ) {
        with_rows!(rows, [1 2 3 4], int8_tile(left, right, sums, start));
    }
}

fn f32_tile<const ROWS: usize>(left: &[f32], right: &[f32], sums: &mut [f32], start: bool) {
    ran!("scalar f32");
    let (left, _) = left.as_chunks::<ROWS>();
    let (right, _) = right.as_chunks::<LANES>();
    let (sums, _) = sums.as_chunks_mut::<LANES>();
    let mut totals = [[0.0_f32; LANES]; ROWS];
    if !start {
        totals.copy_from_slice(&sums[..ROWS]);
    }
    for (left, right) in left.iter().zip(right) {
        for (totals, &left) in totals.iter_mut().zip(left) {
            for (total, &right) in totals.iter_mut().zip(right) {
                *total = math::mul_add::<Scalar>(left, right, *total);
            }
        }
    }
    sums[..ROWS].copy_from_slice(&totals);
}

fn int8_tile<const ROWS: usize>(left: &[u32], right: &[u32], sums: &mut [i32], start: bool) {
    ran!("scalar int8");
    let (left, _) = left.as_chunks::<ROWS>();
    let (right, _) = right.as_chunks::<LANES>();
    let (sums, _) = sums.as_chunks_mut::<LANES>();
    let mut totals = [[0_i32; LANES]; ROWS];
    if !start {
        totals.copy_from_slice(&sums[..ROWS]);
    }
    for (left, right) in left.iter().zip(right) {
        for (totals, &left) in totals.iter_mut().zip(left) {
            for (total, &right) in totals.iter_mut().zip(right) {
                *total = total.wrapping_add(dot(left, right));
            }
        }
    }
    sums[..ROWS].copy_from_slice(&totals);
}

/// The sum of four products of a signed byte on the left and an unsigned one on the right.
#[inline(always)]
fn dot(left: u32, right: u32) -> i32 {
    let product = |shift: u32| i32::from((left >> shift) as i8) * i32::from((right >> shift) as u8);
    product(0) + product(8) + product(16) + product(24)
}
