//! Elementary functions without branches, which the compiler turns into vector code in a
//! [`Vectorized`](crate::arch::Vectorized) task.
//!
//! The coefficients are minimax fits (Lawson-weighted rational least squares in 40 digits) made for these intervals; the
//! tests measure the errors stated here against f64 references.

use crate::arch::Simd;

/// `a * b + c` with one rounding, by hardware or by [`emulated_mul_add`]: the same bits on every instruction set.
#[inline(always)]
pub(crate) fn mul_add<S: Simd>(a: f32, b: f32, c: f32) -> f32 {
    if S::FUSED { a.mul_add(b, c) } else { emulated_mul_add(a, b, c) }
}

/// A fused multiply-add without the instruction, and without a branch.
///
/// The product is exact in f64. Its sum with `c` is rounded to odd there (towards the neighbour whose last bit is set, by
/// the sign of the error of the rounded sum, which Knuth's two-sum gives), so that the second rounding, to f32, cannot be a
/// double one: f64 has more than twice the bits and two (Boldo and Melquiond, "Emulation of FMA and correctly rounded
/// sums", 2008).
///
/// Never inlined: some thousands of copies were a tenth of the program for devices.
#[inline(never)]
pub(crate) fn emulated_mul_add(a: f32, b: f32, c: f32) -> f32 {
    let product = f64::from(a) * f64::from(b);
    let c = f64::from(c);
    let sum = product + c;
    let back = sum - product;
    let error = (product - (sum - back)) + (c - back);
    let bits = sum.to_bits();
    let odd =
        if (error > 0.0) == (sum > 0.0) { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
    // False for NaN, which the error of an infinite sum is.
    let inexact = error.abs() > 0.0;
    f64::from_bits(if inexact && bits & 1 == 0 { odd } else { bits }) as f32
}

/// 1.5 * 2^23. Adding it to a float of magnitude below 2^22 rounds that to the nearest integer, ties to even, and leaves the
/// integer in the low bits of the sum: one addition, the same on every instruction set.
pub(crate) const ROUNDER: f32 = 12_582_912.0;

/// The nearest integer, ties to even, of a number of magnitude below 2^22; any integer for other numbers.
#[inline(always)]
pub(crate) fn round(value: f32) -> i32 {
    (value + ROUNDER).to_bits().wrapping_sub(ROUNDER.to_bits()) as i32
}

/// A polynomial by Horner's rule, constant term first.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut value = coefficients[N - 1];
    for index in (0..N - 1).rev() {
        value = mul_add::<S>(value, x, coefficients[index]);
    }
    value
}

/// `e^x`, with a relative error below 2e-7; 0 below -87, and the value at 88 above that.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2` (ln 2 in two parts, so that `r` is exact), `e^r` as `1 + r + r^2 p(r)` with an error of
/// 3.1e-9, and `2^n` put together from bits.
#[inline(always)]
pub(crate) fn exp<S: Simd>(x: f32) -> f32 {
    const LEAST: f32 = -87.0;
    const MOST: f32 = 88.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(LEAST, MOST);
    let shifted = mul_add::<S>(clamped, std::f32::consts::LOG2_E, ROUNDER);
    let n = shifted - ROUNDER;
    let r = mul_add::<S>(n, -LN_2_HIGH, clamped);
    let r = mul_add::<S>(n, -LN_2_LOW, r);
    let p = polynomial::<S, 5>(
        r,
        [0.499_999_93, 0.166_665_21, 0.041_668_387, 0.008_368_71, 0.001_381_460_8],
    );
    let mantissa = mul_add::<S>(p, r * r, r) + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    if x < LEAST { 0.0 } else { mantissa * power }
}

/// The error function, with an absolute error below 4e-7.
///
/// `x P(x^2) / Q(x^2)` with positive coefficients up to 3.925 (fitted error 2.0e-8), the sign beyond, where erf differs from it by
/// less than half a unit in the last place.
#[inline(always)]
pub(crate) fn erf<S: Simd>(x: f32) -> f32 {
    const LIMIT: f32 = 3.925;
    let clamped = x.clamp(-LIMIT, LIMIT);
    let square = clamped * clamped;
    let p = polynomial::<S, 6>(
        square,
        [
            std::f32::consts::FRAC_2_SQRT_PI,
            0.190_344_41,
            0.052_735_91,
            0.003_760_966_2,
            2.844_030_7e-4,
            2.046_037_8e-6,
        ],
    );
    let q = polynomial::<S, 6>(
        square,
        [1.0, 0.502_021_5, 0.114_078_7, 0.014_961_315, 0.001_160_645_8, 3.802_386_5e-5],
    );
    if x.abs() >= LIMIT { 1.0_f32.copysign(x) } else { clamped * p / q }
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
fn sigmoid<S: Simd>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<S>(-x))
}

/// GELU; the error is below 3e-7 of `max(|x|, 1)`.
#[inline(always)]
pub(crate) fn gelu_erf<S: Simd>(x: f32) -> f32 {
    let half = 0.5 * x;
    mul_add::<S>(half, erf::<S>(x * std::f32::consts::FRAC_1_SQRT_2), half)
}

/// Where [`gelu_erf_coarse`] turns into `x` and 0.
pub(crate) const GELU_COARSE_LIMIT: f32 = 4.0;

/// The polynomial of [`gelu_erf_coarse`].
pub(crate) const GELU_COARSE: [f32; 7] = [
    0.397_883_23,
    -0.064_572_945,
    0.008_772_312,
    -8.139_996e-4,
    4.795_387e-5,
    -1.598_519e-6,
    2.277_98e-8,
];

/// GELU to within 2.6e-4, for results that are rounded to half precision and then to 8 bit: without a division, in half the
/// time.
///
/// `x (1/2 + h)` with `h = x P(x^2)` on -4..=4, clamped to the halves which it just reaches there; beyond 4 GELU differs from `x` or
/// 0 by less than 1.3e-4.
#[inline(always)]
pub(crate) fn gelu_erf_coarse<S: Simd>(x: f32) -> f32 {
    const LIMIT: f32 = GELU_COARSE_LIMIT;
    let clamped = if x > LIMIT { LIMIT } else { x };
    let clamped = if clamped < -LIMIT { -LIMIT } else { clamped };
    let p = polynomial::<S, 7>(clamped * clamped, GELU_COARSE);
    let h = clamped * p;
    let h = if h > 0.5 { 0.5 } else { h };
    let h = if h < -0.5 { -0.5 } else { h };
    mul_add::<S>(x, h, 0.5 * x)
}

/// The tanh approximation of GELU, as `x sigmoid(2 z)`; the error is below 4e-7 of `max(|x|, 1)`.
#[inline(always)]
pub(crate) fn gelu_tanh<S: Simd>(x: f32) -> f32 {
    /// `2 sqrt(2 / pi)`.
    const FACTOR: f32 = 1.595_769;
    let z = FACTOR * x * mul_add::<S>(0.044_715 * x, x, 1.0);
    x * sigmoid::<S>(z)
}

/// `x sigmoid(1.702 x)`; the error is below 4e-7 of `max(|x|, 1)`.
#[inline(always)]
pub(crate) fn quick_gelu<S: Simd>(x: f32) -> f32 {
    x * sigmoid::<S>(1.702 * x)
}
