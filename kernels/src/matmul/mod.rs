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
mod integer;
#[cfg(test)]
mod tests;

use crate::arch::dispatch;
use crate::{Activation, Matrix, Pool, QuantizedActivations};
pub(crate) use epilogue::for_lanes;

/// How a product is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// Float activations: [`matmul_f32`].
    F32,
    /// Activations quantised to 8 bit, integer dot products: [`matmul_int8`].
    Int8,
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
    /// Added at the end; `[M, N]`.
    pub residual: Option<&'a [f32]>,
}

/// `out[m][n] = epilogue(sum_k a[m][k] * w[n][k])` with float activations.
///
/// `a` is `[m, K]`, `out` `[m, N]`, both row-major. A row of `out` depends only on the same row of `a` (and of the residual),
/// not on `m` or the number of threads. Non-finite activations make only their own row non-finite.
///
/// # Panics
/// When the length of a slice does not belong to the shape.
pub fn matmul_f32(
    pool: &Pool,
    a: &[f32],
    m: usize,
    w: &Matrix,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    assert_length("activations", a.len(), m, w.in_features());
    check_epilogue(m, w, epilogue, out);
    dispatch!(w.token(), simd => float::matmul(simd, pool, a, m, w, epilogue, out));
}

/// `out[m][n] = epilogue(sum_k a[m][k] * w[n][k])` with activations quantised to 8 bit.
///
/// With `s` and `zero` of the row, `acc = sum_k (q[m][k] - zero) * code[n][k]` and `sum = sum_k (q[m][k] - zero)`:
/// `y = (scale[n] * s) * (acc - middle * sum) + (centred_offset[n] * s) * sum`, integers exact, float operations in this order
/// and unfused on every instruction set, so that `y` (and `out`, where the epilogue has no activation function) has the same
/// bits on all of them. `out` is `[M, N]`, row-major.
///
/// # Panics
/// When [`Matrix::supports_int8`] is false, or the shapes do not belong together.
pub fn matmul_int8(
    pool: &Pool,
    a: &QuantizedActivations,
    w: &Matrix,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    check_int8(a, w);
    check_epilogue(a.rows(), w, epilogue, out);
    dispatch!(w.token(), simd => integer::matmul(simd, pool, a, w, epilogue, out));
}

/// The integers behind [`matmul_int8`]: `out[m][n] = sum_k (q[m][k] - zero[m]) * code[n][k]`, exact.
///
/// For tests that results are equal on every instruction set; `out` is `[M, N]`, row-major.
///
/// # Panics
/// As [`matmul_int8`].
pub fn matmul_int8_accumulators(
    pool: &Pool,
    a: &QuantizedActivations,
    w: &Matrix,
    out: &mut [i32],
) {
    check_int8(a, w);
    assert_length("accumulators", out.len(), a.rows(), w.out_features());
    dispatch!(w.token(), simd => integer::accumulators(simd, pool, a, w, out));
}

fn check_int8(a: &QuantizedActivations, w: &Matrix) {
    assert!(
        w.supports_int8(),
        "integer products need codes and at most as many input features as cannot overflow"
    );
    assert_eq!(a.columns(), w.in_features(), "activations and weights differ in input features");
}

fn check_epilogue(m: usize, w: &Matrix, epilogue: &Epilogue<'_>, out: &[f32]) {
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
