//! Transposition of a few rows, the order in which micro-kernels read their left operand.

/// `out[column][row] = source[row * stride + column]` for `rows` rows; `out` is `[columns][rows]`, and its length sets the
/// number of columns.
#[inline(always)]
pub(crate) fn transpose(source: &[f32], stride: usize, rows: usize, out: &mut [f32]) {
    let columns = out.len() / rows;
    for (row, values) in source.chunks(stride).take(rows).enumerate() {
        for (value, out) in values[..columns].iter().zip(out.chunks_exact_mut(rows)) {
            out[row] = *value;
        }
    }
}
