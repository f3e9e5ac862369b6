//! AVX2 with AVX-VNNI: the tiles of AVX2, integer products with the 256-bit `vpdpbusd`.

use std::arch::x86_64::*;

use super::avx2::{Avx2, load_i32, load_u32, store_i32};
use super::vector_256::operations_of_256_bits;
use crate::arch::witness::ran;
use crate::arch::{Simd, Vectorized, with_rows};
use crate::pack::panel;
use crate::{Isa, Width};

/// Proof that AVX-VNNI (and AVX2, FMA, F16C) are available.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AvxVnni(());

const LANES: usize = Avx2::LANES;

impl AvxVnni {
    pub(crate) fn detect() -> Option<AvxVnni> {
        (Avx2::detect().is_some() && is_x86_feature_detected!("avxvnni")).then_some(AvxVnni(()))
    }
}

impl Simd for AvxVnni {
    const ISA: Isa = Isa::AvxVnni;
    operations_of_256_bits!();

    fn vectorize<T: Vectorized>(self, task: T) -> T::Output {
        #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
        fn run<T: Vectorized>(simd: AvxVnni, task: T) -> T::Output {
            ran!("avxvnni code");
            task.run(simd)
        }
        // SAFETY: the token `self` exists only where `detect` found avx2, fma, f16c and avxvnni.
        unsafe { run(self, task) }
    }

    fn expand_int8(self, width: Width, words: &[u32], out: &mut [u32]) {
        // SAFETY: the token `self` exists only where `detect` found avx2.
        unsafe { expand_int8(width, words, out) }
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
        // SAFETY: the token `self` exists only where `detect` found avx2 and avxvnni.
        unsafe { int8_rows(rows, left, right, sums, start) }
    }
}

// Not inlined: as arguments of their own, the two slices are known not to overlap.
#[inline(never)]
#[target_feature(enable = "avx2")]
fn expand_int8(width: Width, words: &[u32], out: &mut [u32]) {
    panel::expand_bytes::<LANES>(width, words, out);
}

#[target_feature(enable = "avx2,avxvnni")]
fn int8_rows(rows: usize, left: &[u32], right: &[u32], sums: &mut [i32], start: bool) {
    with_rows!(rows, [1 2 3 4 5 6], int8_tile(left, right, sums, start));
}

#[target_feature(enable = "avx2,avxvnni")]
fn int8_tile<const ROWS: usize>(left: &[u32], right: &[u32], sums: &mut [i32], start: bool) {
    ran!("avxvnni int8");
    let (left, _) = left.as_chunks::<ROWS>();
    let (right, _) = right.as_chunks::<LANES>();
    let (sums, _) = sums.as_chunks_mut::<LANES>();
    let sums = &mut sums[..ROWS];
    let mut totals = [[_mm256_setzero_si256(); 2]; ROWS];
    if !start {
        for (totals, sums) in totals.iter_mut().zip(&*sums) {
            *totals = load_i32(sums);
        }
    }
    for (left, right) in left.iter().zip(right) {
        let right = load_u32(right);
        for (totals, &left) in totals.iter_mut().zip(left) {
            let left = _mm256_set1_epi32(left as i32);
            totals[0] = _mm256_dpbusd_avx_epi32(totals[0], right[0], left);
            totals[1] = _mm256_dpbusd_avx_epi32(totals[1], right[1], left);
        }
    }
    for (totals, sums) in totals.iter().zip(sums) {
        store_i32(sums, *totals);
    }
}
