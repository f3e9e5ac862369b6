//! AVX-512 with VNNI: tiles of 12 rows by 32 columns, 24 accumulators of 32 registers.
//!
//! `vpdpbusd` multiplies four unsigned bytes by four signed ones and adds all four products to a 32-bit lane without an
//! intermediate that could saturate. Codes are the unsigned operand, activations the signed one, which is broadcast.

use std::arch::x86_64::*;

use half::f16;

use super::exponentials::exponentials_512;
use super::fetch::fetch;
use super::gelu::gelu_coarse_512;
use super::rounding::{round_block_512, round_products_512, round_to_grid_512};
use super::rows::{add_lanes_512, extremes_512, round_codes_512, square_lanes_512, sum_lanes_512};
use crate::activations::{BLOCK, CODE_SUM_LANES};
use crate::arch::witness::ran;
use crate::arch::{ChannelTerms, RowTerms, Simd, Vectorized, with_rows};
use crate::ops::exponentials::ScoreRow;
use crate::ops::{Extremes, SUM_LANES};
use crate::pack::panel;
use crate::{Isa, Width};

/// Proof that AVX-512 F, BW, DQ, VL and VNNI (and AVX2, FMA, F16C) are available.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512Vnni(());

const LANES: usize = 32;

impl Avx512Vnni {
    pub(crate) fn detect() -> Option<Avx512Vnni> {
        let available = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        available.then_some(Avx512Vnni(()))
    }
}

impl Simd for Avx512Vnni {
    const ISA: Isa = Isa::Avx512Vnni;
    const FUSED: bool = true;
    const LANES: usize = LANES;
    const F32_ROWS: usize = 12;
    const INT8_ROWS: usize = 12;
    const ACTIVATED_ROWS: usize = 1;

    #[inline(always)]
    fn fetch(self, words: &[u32]) {
        fetch(words);
    }

    fn vectorize<T: Vectorized>(self, task: T) -> T::Output {
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        fn run<T: Vectorized>(simd: Avx512Vnni, task: T) -> T::Output {
            ran!("avx512 code");
            task.run(simd)
        }
        // SAFETY: the token `self` exists only where `detect` found every feature named above.
        unsafe { run(self, task) }
    }

    #[inline(always)]
    fn dequantize<const LANES: usize>(
        self,
        sums: &[i32; LANES],
        row: RowTerms,
        channels: &ChannelTerms<LANES>,
        values: &mut [f32; LANES],
    ) {
        // SAFETY: the token `self` exists only where `detect` found avx512f.
        unsafe { dequantize(sums, row, channels, values) }
    }

    #[inline(always)]
    fn gelu_coarse(self, values: &mut [f32]) {
        // SAFETY: the token `self` exists only where `detect` found avx512 f and dq.
        unsafe { gelu_coarse_512::<Self>(values) }
    }

    #[inline(always)]
    fn narrow_finite<const LANES: usize>(self, values: &[f32; LANES], out: &mut [f16]) {
        // SAFETY: the token `self` exists only where `detect` found avx512f and f16c.
        unsafe { narrow_finite(values, out) }
    }

    #[inline(always)]
    fn narrow(self, values: &[f32], out: &mut [f16]) {
        // SAFETY: the token `self` exists only where `detect` found avx512f and f16c.
        unsafe { narrow(values, out) }
    }

    #[inline(always)]
    fn widen(self, values: &[f16], out: &mut [f32]) {
        // SAFETY: the token `self` exists only where `detect` found avx512f and f16c.
        unsafe { widen(values, out) }
    }

    #[inline(always)]
    fn sum_lanes(self, chunks: &[[f32; SUM_LANES]]) -> [f32; SUM_LANES] {
        // SAFETY: the token `self` exists only where `detect` found avx512f.
        unsafe { sum_lanes_512(chunks) }
    }

    #[inline(always)]
    fn square_lanes(self, chunks: &[[f32; SUM_LANES]], middle: f32) -> [f32; SUM_LANES] {
        // SAFETY: the token `self` exists only where `detect` found avx512f.
        unsafe { square_lanes_512(chunks, middle) }
    }

    #[inline(always)]
    fn add_lanes(self, lanes: &[f32; SUM_LANES]) -> f32 {
        // SAFETY: the token `self` exists only where `detect` found avx512f.
        unsafe { add_lanes_512(lanes) }
    }

    #[inline(always)]
    fn extremes(self, row: &[f32]) -> Extremes {
        // SAFETY: the token `self` exists only where `detect` found avx512f.
        unsafe { extremes_512(row) }
    }

    #[inline(always)]
    fn round_codes(self, values: &[f32], inverse: f32, zero: i32, codes: &mut [i8]) -> i32 {
        // SAFETY: the token `self` exists only where `detect` found avx512 f, bw and vnni.
        unsafe { round_codes_512(values, inverse, zero, codes) }
    }

    #[inline(always)]
    fn round_block(
        self,
        values: &[f16; BLOCK],
        inverse: f32,
        zero: i32,
        codes: &mut [i8; BLOCK],
        sums: &mut [i32; CODE_SUM_LANES],
    ) {
        // SAFETY: the token `self` exists only where `detect` found avx512 f, bw and vnni and f16c.
        unsafe { round_block_512(values, inverse, zero, codes, sums) }
    }

    #[inline(always)]
    fn round_products(self, values: &[f16], factors: &[f32], codes: &mut [i8]) {
        // SAFETY: the token `self` exists only where `detect` found avx512 f and bw and f16c.
        unsafe { round_products_512(values, factors, codes) }
    }

    #[inline(always)]
    fn round_to_grid(self, values: &[f16], factors: &[f32], codes: &mut [i8]) -> f32 {
        // SAFETY: the token `self` exists only where `detect` found avx512 f and bw and f16c.
        unsafe { round_to_grid_512(values, factors, codes) }
    }

    #[inline(always)]
    fn exponentials(self, row: &ScoreRow<'_>, codes: &mut [i8]) -> i32 {
        // SAFETY: the token `self` exists only where `detect` found avx512 f, bw, vl and vnni.
        unsafe { exponentials_512::<Self>(row, codes) }
    }

    fn expand_f32(self, width: Width, words: &[u32], out: &mut [f32]) {
        // SAFETY: the token `self` exists only where `detect` found avx512 f, bw, dq and vl.
        unsafe { expand_f32(width, words, out) }
    }

    fn expand_int8(self, width: Width, words: &[u32], out: &mut [u32]) {
        // SAFETY: the token `self` exists only where `detect` found avx512 f, bw, dq and vl.
        unsafe { expand_int8(width, words, out) }
    }

    fn f32_tile(self, rows: usize, left: &[f32], right: &[f32], sums: &mut [f32], start: bool) {
        // SAFETY: the token `self` exists only where `detect` found avx512f.
        unsafe { f32_rows(rows, left, right, sums, start) }
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
        // SAFETY: the token `self` exists only where `detect` found avx512f and avx512vnni.
        unsafe { int8_rows(rows, left, right, sums, start) }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn dequantize<const LANES: usize>(
    sums: &[i32; LANES],
    row: RowTerms,
    channels: &ChannelTerms<LANES>,
    values: &mut [f32; LANES],
) {
    let (zero, shift) = (_mm512_set1_epi32(row.zero), _mm512_set1_epi32(row.shift));
    let (sum, row_scale) = (_mm512_set1_ps(row.sum), _mm512_set1_ps(row.scale));
    for lane in (0..LANES / 16 * 16).step_by(16) {
        // SAFETY: every array has `LANES` elements, of which 16 are left from `lane` on; no access needs alignment.
        unsafe {
            let code_sums = _mm512_loadu_si512(channels.code_sums.as_ptr().add(lane).cast());
            let sums = _mm512_loadu_si512(sums.as_ptr().add(lane).cast());
            let scale = _mm512_loadu_ps(channels.scale.as_ptr().add(lane));
            let offset = _mm512_loadu_ps(channels.offset.as_ptr().add(lane));
            let bias = _mm512_loadu_ps(channels.bias.as_ptr().add(lane));
            let correction = _mm512_add_epi32(_mm512_mullo_epi32(code_sums, zero), shift);
            let centred = _mm512_sub_epi32(sums, correction);
            let constant = _mm512_mul_ps(offset, sum);
            let y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(centred), scale, constant);
            let y = _mm512_fmadd_ps(y, row_scale, bias);
            _mm512_storeu_ps(values.as_mut_ptr().add(lane), y);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,f16c")]
fn narrow_finite<const LANES: usize>(values: &[f32; LANES], out: &mut [f16]) {
    let most = _mm512_set1_ps(f16::MAX.to_f32_const());
    let least = _mm512_set1_ps(f16::MIN.to_f32_const());
    let (values, _) = values.as_chunks::<16>();
    let (out, _) = out.as_chunks_mut::<16>();
    for (values, out) in values.iter().zip(out) {
        // SAFETY: `values` has 16 floats and `out` 16 numbers of 16 bits; neither access needs alignment.
        unsafe {
            // The second operand where either is NaN.
            let values = _mm512_min_ps(most, _mm512_loadu_ps(values.as_ptr()));
            let values = _mm512_max_ps(least, values);
            let rounded = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(values);
            _mm256_storeu_si256(out.as_mut_ptr().cast(), rounded);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,f16c")]
fn narrow(values: &[f32], out: &mut [f16]) {
    let count = values.len().min(out.len());
    let (chunks, rest) = values[..count].as_chunks::<16>();
    let (out_chunks, out_rest) = out[..count].as_chunks_mut::<16>();
    for (values, out) in chunks.iter().zip(out_chunks) {
        // SAFETY: `values` has 16 floats and `out` 16 numbers of 16 bits; neither access needs alignment.
        unsafe {
            let rounded =
                _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm512_loadu_ps(values.as_ptr()));
            _mm256_storeu_si256(out.as_mut_ptr().cast(), rounded);
        }
    }
    super::avx2::narrow(rest, out_rest);
}

#[inline]
#[target_feature(enable = "avx512f,f16c")]
fn widen(values: &[f16], out: &mut [f32]) {
    let count = values.len().min(out.len());
    let (chunks, rest) = values[..count].as_chunks::<16>();
    let (out_chunks, out_rest) = out[..count].as_chunks_mut::<16>();
    for (values, out) in chunks.iter().zip(out_chunks) {
        // SAFETY: `values` has 16 numbers of 16 bits and `out` 16 floats; neither access needs alignment.
        unsafe {
            let widened = _mm512_cvtph_ps(_mm256_loadu_si256(values.as_ptr().cast()));
            _mm512_storeu_ps(out.as_mut_ptr(), widened);
        }
    }
    super::avx2::widen(rest, out_rest);
}

// Not inlined: as arguments of their own, the two slices are known not to overlap.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn expand_f32(width: Width, words: &[u32], out: &mut [f32]) {
    panel::expand_f32::<LANES>(width, words, out);
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn expand_int8(width: Width, words: &[u32], out: &mut [u32]) {
    panel::expand_bytes::<LANES>(width, words, out);
}

#[target_feature(enable = "avx512f")]
fn f32_rows(rows: usize, left: &[f32], right: &[f32], sums: &mut [f32], start: bool) {
    with_rows!(rows, [1 2 3 4 5 6 7 8 9 10 11 12], f32_tile(left, right, sums, start));
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn int8_rows(rows: usize, left: &[u32], right: &[u32], sums: &mut [i32], start: bool) {
    with_rows!(rows, [1 2 3 4 5 6 7 8 9 10 11 12], int8_tile(left, right, sums, start));
}

#[target_feature(enable = "avx512f")]
fn f32_tile<const ROWS: usize>(left: &[f32], right: &[f32], sums: &mut [f32], start: bool) {
    ran!("avx512 f32");
    let (left, _) = left.as_chunks::<ROWS>();
    let (right, _) = right.as_chunks::<LANES>();
    let (sums, _) = sums.as_chunks_mut::<LANES>();
    let sums = &mut sums[..ROWS];
    let mut totals = [[_mm512_setzero_ps(); 2]; ROWS];
    if !start {
        for (totals, sums) in totals.iter_mut().zip(&*sums) {
            *totals = load_f32(sums);
        }
    }
    for (left, right) in left.iter().zip(right) {
        let right = load_f32(right);
        for (totals, &left) in totals.iter_mut().zip(left) {
            let left = _mm512_set1_ps(left);
            totals[0] = _mm512_fmadd_ps(left, right[0], totals[0]);
            totals[1] = _mm512_fmadd_ps(left, right[1], totals[1]);
        }
    }
    for (totals, sums) in totals.iter().zip(sums) {
        store_f32(sums, *totals);
    }
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn int8_tile<const ROWS: usize>(left: &[u32], right: &[u32], sums: &mut [i32], start: bool) {
    ran!("avx512 int8");
    let (left, _) = left.as_chunks::<ROWS>();
    let (right, _) = right.as_chunks::<LANES>();
    let (sums, _) = sums.as_chunks_mut::<LANES>();
    let sums = &mut sums[..ROWS];
    let mut totals = [[_mm512_setzero_si512(); 2]; ROWS];
    if !start {
        for (totals, sums) in totals.iter_mut().zip(&*sums) {
            *totals = load_i32(sums);
        }
    }
    for (left, right) in left.iter().zip(right) {
        let right = load_u32(right);
        for (totals, &left) in totals.iter_mut().zip(left) {
            let left = _mm512_set1_epi32(left as i32);
            totals[0] = _mm512_dpbusd_epi32(totals[0], right[0], left);
            totals[1] = _mm512_dpbusd_epi32(totals[1], right[1], left);
        }
    }
    for (totals, sums) in totals.iter().zip(sums) {
        store_i32(sums, *totals);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_f32(values: &[f32; LANES]) -> [__m512; 2] {
    let start = values.as_ptr();
    // SAFETY: `values` has 32 elements, two vectors of 16; the loads need no alignment.
    unsafe { [_mm512_loadu_ps(start), _mm512_loadu_ps(start.add(16))] }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_f32(values: &mut [f32; LANES], vectors: [__m512; 2]) {
    let start = values.as_mut_ptr();
    // SAFETY: `values` has 32 elements, two vectors of 16; the stores need no alignment.
    unsafe {
        _mm512_storeu_ps(start, vectors[0]);
        _mm512_storeu_ps(start.add(16), vectors[1]);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_u32(values: &[u32; LANES]) -> [__m512i; 2] {
    let start = values.as_ptr().cast::<__m512i>();
    // SAFETY: `values` has 32 elements, two vectors of 16; the loads need no alignment.
    unsafe { [_mm512_loadu_si512(start), _mm512_loadu_si512(start.add(1))] }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_i32(values: &[i32; LANES]) -> [__m512i; 2] {
    let start = values.as_ptr().cast::<__m512i>();
    // SAFETY: `values` has 32 elements, two vectors of 16; the loads need no alignment.
    unsafe { [_mm512_loadu_si512(start), _mm512_loadu_si512(start.add(1))] }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_i32(values: &mut [i32; LANES], vectors: [__m512i; 2]) {
    let start = values.as_mut_ptr().cast::<__m512i>();
    // SAFETY: `values` has 32 elements, two vectors of 16; the stores need no alignment.
    unsafe {
        _mm512_storeu_si512(start, vectors[0]);
        _mm512_storeu_si512(start.add(1), vectors[1]);
    }
}
