//! Products of parts of f64 matrices: a checked front of the crate `gemm`, on the calling thread.

/// A part of a matrix.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matrix<'a> {
    values: &'a [f64],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `rows` x `columns` from the start of `values`, whose rows begin `stride` values apart.
    ///
    /// # Panics
    /// Panics if `values` is too short.
    pub(super) fn new(values: &'a [f64], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(fits(values.len(), rows, columns, stride), "the part lies outside the matrix");
        Self { values, rows, columns, row_stride: stride, column_stride: 1 }
    }

    /// The same values with rows and columns exchanged.
    pub(super) fn transposed(self) -> Self {
        Self {
            values: self.values,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

/// A part of a matrix that takes a result.
#[derive(Debug)]
pub(super) struct MatrixMut<'a> {
    values: &'a mut [f64],
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// As [`Matrix::new`].
    ///
    /// # Panics
    /// Panics if `values` is too short or rows overlap.
    pub(super) fn new(values: &'a mut [f64], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(fits(values.len(), rows, columns, stride), "the part lies outside the matrix");
        assert!(columns <= stride || rows <= 1, "rows overlap");
        Self { values, rows, columns, stride }
    }
}

/// Whether the last element lies inside `length` values.
fn fits(length: usize, rows: usize, columns: usize, stride: usize) -> bool {
    rows == 0 || columns == 0 || (rows - 1) * stride + columns <= length
}

/// `to += factor left right`.
///
/// # Panics
/// Panics if the shapes do not fit together.
#[allow(unsafe_code)]
pub(super) fn multiply_add(to: MatrixMut, left: Matrix, right: Matrix, factor: f64) {
    assert!(
        to.rows == left.rows && to.columns == right.columns && left.columns == right.rows,
        "shapes of a product"
    );
    // Strides within a slice are below isize::MAX.
    let stride = |stride: usize| stride as isize;
    // SAFETY: the constructors checked that every element that the shapes and strides reach lies in
    // the slice it is taken from, and the assertion above that the shapes are those of one product;
    // `to` is borrowed exclusively, so it overlaps neither factor.
    unsafe {
        ::gemm::gemm(
            to.rows,
            to.columns,
            left.columns,
            to.values.as_mut_ptr(),
            1,
            stride(to.stride),
            true,
            left.values.as_ptr(),
            stride(left.column_stride),
            stride(left.row_stride),
            right.values.as_ptr(),
            stride(right.column_stride),
            stride(right.row_stride),
            1.0,
            factor,
            false,
            false,
            false,
            ::gemm::Parallelism::None,
        );
    }
}
