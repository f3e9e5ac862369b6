//! Transposition of rows, the order in which micro-kernels of floats read their left operand.

/// Writes a row as column `index` of `out`, `[row.len()][rows]`.
#[inline(always)]
pub(crate) fn transpose_row(row: &[f32], rows: usize, index: usize, out: &mut [f32]) {
    for (value, out) in row.iter().zip(out.chunks_exact_mut(rows)) {
        out[index] = *value;
    }
}
