//! Matrix products that expand codes while they multiply.
//!
//! `y[m,n] = scale[n] * sum_k a[m,k] * code[n,k] + offset[n] * sum_k a[m,k]`, followed by the [`Epilogue`]. The inner loop
//! sees integer codes only. The work is cut into tasks of one panel of output channels and a block of rows
//! ([`driver`]): for each block of the input dimension a task expands the panel's codes into a buffer that stays in the
//! first-level cache, and multiplies all its rows with that. Expanding therefore costs a few instructions per vector of
//! codes and serves hundreds of rows; no expanded copy of the matrix ever exists.
//!
//! Codes are centred about `middle = levels / 2` in both arithmetics, and `offset + scale * middle` takes the place of the
//! offset: the two terms of `y` would otherwise be large and of opposite sign, most of all at 8 bit.

mod driver;
mod epilogue;
mod float;
mod half;
mod integer;
#[cfg(test)]
pub(crate) mod tests;

use ::half::f16;

use crate::arch::dispatch;
use crate::{Activation, Activations, Layout, Matrix, Pool};
use epilogue::Output;
pub(crate) use epilogue::for_lanes;

/// How a product is computed. Weights keep their width in every arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// Float activations.
    F32,
    /// Activations rounded to bfloat16, sums in f32.
    Half,
    /// Activations quantised to 8 bit, integer dot products.
    Int8,
}

impl Arithmetic {
    /// Every arithmetic, most exact first.
    pub const ALL: [Arithmetic; 3] = [Arithmetic::F32, Arithmetic::Half, Arithmetic::Int8];
}

/// What is done with a product before it is stored: `residual + layer_scale[n] * activation(y + bias[n])`.
///
/// The default does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// Added to each row; `[N]`.
    pub bias: Option<&'a [f32]>,
    /// Applied to each element.
    pub activation: Option<Activation>,
    /// Multiplies each row; `[N]`.
    pub layer_scale: Option<&'a [f32]>,
    /// Added at the end; `[M, N]`, in the layout of the output.
    pub residual: Option<&'a [f32]>,
    /// How the output lies in memory.
    pub layout: Layout,
}

/// `out[m][n] = epilogue(sum_k a[m][k] * w[n][k])`, in the arithmetic that the activations are packed for.
///
/// `out` is `[M, N]`, in the layout that the epilogue names. A row of `out` depends only on the same row of `a` (and of the residual), not on `M` or the
/// number of threads, and non-finite activations make only their own row non-finite.
///
/// In integer arithmetic, with `s` and `zero` of the row, `acc = sum_k (q[m][k] - zero) * code[n][k]` and
/// `sum = sum_k (q[m][k] - zero)`: `y = (scale[n] * (acc - middle * sum) + centred_offset[n] * sum) * s`, integers exact, float
/// operations fused and in this order, with the bias in the last. In float arithmetic products are added in the order of
/// `k`, each in one rounding. Both have the same bits on every instruction set. Half precision adds in the order of the
/// hardware.
///
/// # Panics
/// When the activations are packed for another instruction set than that of the matrix, or in an arithmetic which
/// [`Matrix::supports`] denies, or the shapes do not belong together, or the output channels are not made of whole blocks
/// in [`Layout::Blocks`].
pub fn matmul(pool: &Pool, a: &Activations, w: &Matrix, epilogue: &Epilogue<'_>, out: &mut [f32]) {
    multiply(pool, a, w, epilogue, out);
}

/// [`matmul`] to half precision, for what is read once and rounded further: half the traffic.
///
/// Rounded to the nearest, ties to even, the largest finite number in the place of larger ones;
/// [`Activation::GeluErf`] to within 2.6e-4 only.
///
/// # Panics
/// As [`matmul`].
pub fn matmul_to_half(
    pool: &Pool,
    a: &Activations,
    w: &Matrix,
    epilogue: &Epilogue<'_>,
    out: &mut [f16],
) {
    multiply(pool, a, w, epilogue, out);
}

fn multiply<O: Output>(
    pool: &Pool,
    a: &Activations,
    w: &Matrix,
    epilogue: &Epilogue<'_>,
    out: &mut [O],
) {
    let arithmetic = check_operands(a, w);
    check_epilogue(a.rows(), w, epilogue, out);
    dispatch!(w.token(), simd => match arithmetic {
        Arithmetic::F32 => float::matmul(simd, pool, a, w, epilogue, out),
        Arithmetic::Half => half::matmul(simd, pool, a, w, epilogue, out),
        Arithmetic::Int8 => integer::matmul(simd, pool, a, w, epilogue, out),
    });
}

/// The integers behind a [`matmul`] in integer arithmetic: `out[m][n] = sum_k (q[m][k] - zero[m]) * code[n][k]`, exact.
///
/// For tests that results are equal on every instruction set; `out` is `[M, N]`, row-major.
///
/// # Panics
/// As [`matmul`], and when the activations are not packed in integer arithmetic.
pub fn matmul_accumulators(pool: &Pool, a: &Activations, w: &Matrix, out: &mut [i32]) {
    assert_eq!(check_operands(a, w), Arithmetic::Int8, "only integer sums are exact");
    assert_length("accumulators", out.len(), a.rows(), w.out_features());
    dispatch!(w.token(), simd => integer::accumulators(simd, pool, a, w, out));
}

fn check_operands(a: &Activations, w: &Matrix) -> Arithmetic {
    let Some((isa, arithmetic)) = a.packed_for() else { panic!("the activations are not packed") };
    assert_eq!(isa, w.isa(), "activations and weights are packed for different instruction sets");
    assert!(w.supports(arithmetic), "the matrix has no products in {arithmetic:?}");
    assert_eq!(a.columns(), w.in_features(), "activations and weights differ in input features");
    arithmetic
}

fn check_epilogue<O>(m: usize, w: &Matrix, epilogue: &Epilogue<'_>, out: &[O]) {
    let n = w.out_features();
    assert_length("outputs", out.len(), m, n);
    for (name, values, rows) in [
        ("biases", epilogue.bias, 1),
        ("layer scales", epilogue.layer_scale, 1),
        ("residuals", epilogue.residual, m),
    ] {
        if let Some(values) = values {
            assert_length(name, values.len(), rows, n);
        }
    }
}

fn assert_length(name: &str, found: usize, rows: usize, columns: usize) {
    assert_eq!(
        Some(found),
        rows.checked_mul(columns),
        "expected {rows} x {columns} {name}, found {found}"
    );
}
