//! Dense factorization in f64 on the host: what solvers need of a Gram matrix beyond products.
//!
//! Codes hang on roundings of solutions of ill-conditioned systems, so this part is f64 whatever
//! the device. Everything is cut into strips of rows, so that nearly all work is products of
//! strips; strips go to threads, each on one, and so a result is the same for any number of
//! threads.

mod gemm;

use fresnel_runtime::{Error, ErrorKind};
use rayon::prelude::*;

use self::gemm::{Matrix, MatrixMut, multiply_add};

/// Rows per strip: a diagonal block of this size is factorized without products, and one strip of a
/// wide layer's matrix still is one thread's worth of work.
const STRIP: usize = 96;

/// `U`, upper triangular, with `H^-1 = U'U`, for a symmetric positive definite `H`.
///
/// `H = R R'` with `R` upper triangular (Cholesky from the last coordinate backwards), and
/// `U = R^-1`.
#[derive(Debug, Clone, PartialEq)]
pub struct CholeskyInverse {
    size: usize,
    /// N x N row-major, zero below the diagonal.
    upper: Vec<f64>,
}

impl CholeskyInverse {
    /// Factorizes `matrix`, N x N row-major with N = `size`; its upper triangle is read.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when `matrix` is not positive definite.
    pub fn new(matrix: &[f64], size: usize) -> Result<Self, Error> {
        let mut factor = matrix.to_vec();
        let mut upper = vec![0.0; size * size];
        for (start, end) in strips(size).rev() {
            let width = end - start;
            let mut diagonal = block(&factor, size, (start, end), (start, end));
            factorize(&mut diagonal, width, start)?;
            let inverse = invert(&diagonal, width);
            for (row, values) in inverse.chunks_exact(width).enumerate() {
                upper[(start + row) * size + start..][..width].copy_from_slice(values);
            }
            // What stands above the diagonal block: R = H R_d^-T, and less R R' for the rest.
            let mut panel = vec![0.0; start * width];
            let source = &factor;
            panel.par_chunks_mut((STRIP * width).max(1)).enumerate().for_each(|(strip, rows)| {
                let first = strip * STRIP;
                let count = rows.len() / width;
                multiply_add(
                    MatrixMut::new(rows, count, width, width),
                    Matrix::new(&source[first * size + start..], count, width, size),
                    Matrix::new(&inverse, width, width, width).transposed(),
                    1.0,
                );
            });
            factor[..start * size].par_chunks_mut((STRIP * size).max(1)).enumerate().for_each(
                |(strip, rows)| {
                    let first = strip * STRIP;
                    let count = rows.len() / size;
                    multiply_add(
                        MatrixMut::new(&mut rows[first..], count, start - first, size),
                        Matrix::new(&panel[first * width..], count, width, width),
                        Matrix::new(&panel[first * width..], start - first, width, width)
                            .transposed(),
                        -1.0,
                    );
                    for (row, panel) in panel[first * width..].chunks_exact(width).enumerate() {
                        if row < count {
                            rows[row * size + start..][..width].copy_from_slice(panel);
                        }
                    }
                },
            );
        }
        invert_upper(&factor, &mut upper, size);
        Ok(Self { size, upper })
    }

    /// `U` with f32 elements.
    pub fn upper(&self) -> Vec<f32> {
        self.upper.iter().map(|&value| value as f32).collect()
    }

    /// `H^-1 B` for `right` B, N x `columns` row-major.
    pub fn solve(&self, right: &[f64], columns: usize) -> Vec<f64> {
        let size = self.size;
        let by_strips = |combine: &(dyn Fn(usize, usize, MatrixMut) + Sync)| {
            let mut result = vec![0.0; size * columns];
            result.par_chunks_mut((STRIP * columns).max(1)).enumerate().for_each(
                |(strip, values)| {
                    let first = strip * STRIP;
                    let count = values.len() / columns;
                    combine(first, count, MatrixMut::new(values, count, columns, columns));
                },
            );
            result
        };
        let half = by_strips(&|first, count, to| {
            let rest = size - first;
            multiply_add(
                to,
                Matrix::new(&self.upper[first * size + first..], count, rest, size),
                Matrix::new(&right[first * columns..], rest, columns, columns),
                1.0,
            );
        });
        by_strips(&|first, count, to| {
            let depth = first + count;
            multiply_add(
                to,
                Matrix::new(&self.upper[first..], depth, count, size).transposed(),
                Matrix::new(&half, depth, columns, columns),
                1.0,
            );
        })
    }
}

/// Start and end of each strip of `size` rows.
fn strips(size: usize) -> impl DoubleEndedIterator<Item = (usize, usize)> {
    (0..size.div_ceil(STRIP)).map(move |strip| (strip * STRIP, ((strip + 1) * STRIP).min(size)))
}

/// A copy of some rows and columns of a row-major matrix with `width` columns.
fn block(matrix: &[f64], width: usize, rows: (usize, usize), columns: (usize, usize)) -> Vec<f64> {
    (rows.0..rows.1)
        .flat_map(|row| matrix[row * width + columns.0..row * width + columns.1].iter().copied())
        .collect()
}

/// `R` of `H = R R'` in the place of `H`, whose upper triangle is read; `first` is the coordinate of
/// its first row in the whole matrix.
fn factorize(matrix: &mut [f64], size: usize, first: usize) -> Result<(), Error> {
    let dot = |left: &[f64], right: &[f64]| -> f64 {
        left.iter().zip(right).map(|(left, right)| left * right).sum()
    };
    for j in (0..size).rev() {
        let (before, rest) = matrix.split_at_mut(j * size);
        let row = &mut rest[..size];
        let pivot = row[j] - dot(&row[j + 1..], &row[j + 1..]);
        if !(pivot > 0.0 && pivot.is_finite()) {
            let coordinate = first + j;
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "the Gram matrix of the layer's inputs is not positive definite at \
                     coordinate {coordinate}; use more calibration images or more damping"
                ),
            ));
        }
        let root = pivot.sqrt();
        row[j] = root;
        for above in before.chunks_exact_mut(size) {
            above[j] = (above[j] - dot(&above[j + 1..], &row[j + 1..])) / root;
        }
    }
    Ok(())
}

/// The inverse of a small upper triangular matrix; whatever stands below the diagonal is ignored.
fn invert(factor: &[f64], size: usize) -> Vec<f64> {
    let mut inverse = vec![0.0; size * size];
    for i in (0..size).rev() {
        let (head, done) = inverse.split_at_mut((i + 1) * size);
        let row = &mut head[i * size..];
        let diagonal = factor[i * size + i];
        row[i] = 1.0 / diagonal;
        for (k, source) in (i + 1..size).zip(done.chunks_exact(size)) {
            let share = -factor[i * size + k] / diagonal;
            row[k..].iter_mut().zip(&source[k..]).for_each(|(to, from)| *to += share * from);
        }
    }
    inverse
}

/// Completes `upper`, whose diagonal blocks are inverses already, to the inverse of `factor`, strip
/// by strip from the last: `U[I, J] = -U[I, I] R[I, I+1..] U[I+1.., J]`.
fn invert_upper(factor: &[f64], upper: &mut [f64], size: usize) {
    for (start, end) in strips(size).rev() {
        let count = end - start;
        let (head, done) = upper.split_at_mut(end * size);
        let own = block(head, size, (start, end), (start, end));
        let blocks: Vec<_> = strips(size).filter(|(first, _)| *first >= end).collect();
        let blocks: Vec<_> = blocks
            .into_par_iter()
            .map(|(first, last)| {
                let (depth, width) = (last - end, last - first);
                let mut product = vec![0.0; count * width];
                multiply_add(
                    MatrixMut::new(&mut product, count, width, width),
                    Matrix::new(&factor[start * size + end..], count, depth, size),
                    Matrix::new(&done[first..], depth, width, size),
                    1.0,
                );
                let mut result = vec![0.0; count * width];
                multiply_add(
                    MatrixMut::new(&mut result, count, width, width),
                    Matrix::new(&own, count, count, count),
                    Matrix::new(&product, count, width, width),
                    -1.0,
                );
                (first, width, result)
            })
            .collect();
        for (first, width, values) in blocks {
            for (row, values) in values.chunks_exact(width).enumerate() {
                head[(start + row) * size + first..][..width].copy_from_slice(values);
            }
        }
    }
}

/// `A B` for `left` A (rows of N values) and `right` B (N x `columns`), row-major.
pub fn product(left: &[f64], right: &[f64], columns: usize) -> Vec<f64> {
    let size = right.len() / columns.max(1);
    let mut result = vec![0.0; left.len() / size.max(1) * columns];
    result
        .par_chunks_mut((STRIP * columns).max(1))
        .zip(left.par_chunks((STRIP * size).max(1)))
        .for_each(|(values, rows)| {
            let count = values.len() / columns;
            multiply_add(
                MatrixMut::new(values, count, columns, columns),
                Matrix::new(rows, count, size, size),
                Matrix::new(right, size, columns, columns),
                1.0,
            );
        });
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positive_definite(size: usize) -> Vec<f64> {
        let root: Vec<f64> =
            (0..size * size).map(|i| ((i * 7919 + 13) % 101) as f64 / 50.0 - 1.0).collect();
        let mut matrix = vec![0.0; size * size];
        for i in 0..size {
            for j in 0..size {
                let sum: f64 = (0..size).map(|k| root[i * size + k] * root[j * size + k]).sum();
                matrix[i * size + j] = sum + if i == j { 1.0 } else { 0.0 };
            }
        }
        matrix
    }

    #[test]
    fn solves_what_it_factorizes() {
        for size in [1, 2, 7, 33, STRIP, STRIP + 1, 300] {
            let matrix = positive_definite(size);
            let columns = 3;
            let expected: Vec<f64> = (0..size * columns).map(|i| (i % 17) as f64 - 8.0).collect();
            let right = product(&matrix, &expected, columns);
            let inverse = CholeskyInverse::new(&matrix, size).expect("positive definite");
            for (found, expected) in inverse.solve(&right, columns).iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-7, "{size}: {found} instead of {expected}");
            }
            for (index, &value) in inverse.upper().iter().enumerate() {
                assert!(index % size >= index / size || value == 0.0, "{size}: upper triangular");
            }
        }
    }

    #[test]
    fn gives_the_same_bits_on_any_number_of_threads() {
        let size = 3 * STRIP + 11;
        let matrix = positive_definite(size);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("threads").install(|| {
                let inverse = CholeskyInverse::new(&matrix, size).expect("positive definite");
                let solution = inverse.solve(&matrix, size);
                (inverse, solution, product(&matrix, &matrix, size))
            })
        };
        let alone = run(1);
        for threads in [2, 3, 5] {
            assert!(run(threads) == alone, "{threads} threads");
        }
    }

    #[test]
    fn refuses_matrices_that_are_not_positive_definite() {
        for matrix in [[1.0, 2.0, 2.0, 1.0], [0.0; 4], [f64::NAN, 0.0, 0.0, 1.0]] {
            assert!(CholeskyInverse::new(&matrix, 2).is_err(), "{matrix:?}");
        }
        let size = 2 * STRIP;
        let mut matrix = positive_definite(size);
        matrix[5 * size + 5] = -1.0;
        let error = CholeskyInverse::new(&matrix, size).expect_err("no factor");
        assert!(error.to_string().contains("coordinate 5"), "{error}");
    }
}
