//! Dense factorization in f64 on the host: what solvers need of a Gram matrix beyond products.
//!
//! Codes hang on roundings of solutions of ill-conditioned systems, so this part is f64 whatever
//! the device; its cost, a third of `N^3` twice per layer, is small beside the solvers' passes.

use fresnel_runtime::{Error, ErrorKind};
use rayon::prelude::*;

/// Partial sums of a dot product, enough for the widest registers.
const LANES: usize = 8;

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
        for j in (0..size).rev() {
            let (before, rest) = factor.split_at_mut(j * size);
            let row = &mut rest[..size];
            let pivot = row[j] - dot(&row[j + 1..], &row[j + 1..]);
            if !(pivot > 0.0 && pivot.is_finite()) {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    format!(
                        "the Gram matrix of the layer's inputs is not positive definite at \
                         coordinate {j}; use more calibration images or more damping"
                    ),
                ));
            }
            let root = pivot.sqrt();
            row[j] = root;
            let tail = &row[j + 1..];
            before.par_chunks_mut(size.max(1)).with_min_len(64).for_each(|above| {
                above[j] = (above[j] - dot(&above[j + 1..], tail)) / root;
            });
        }
        Ok(Self { size, upper: invert_upper(factor, size) })
    }

    /// `U` with f32 elements.
    pub fn upper(&self) -> Vec<f32> {
        self.upper.iter().map(|&value| value as f32).collect()
    }

    /// `H^-1 B` for `right` B, N x `columns` row-major.
    pub fn solve(&self, right: &[f64], columns: usize) -> Vec<f64> {
        let size = self.size;
        let rows = |combine: &(dyn Fn(usize, &mut [f64]) + Sync)| {
            let mut result = vec![0.0; size * columns];
            result
                .par_chunks_mut(columns.max(1))
                .enumerate()
                .for_each(|(row, values)| combine(row, values));
            result
        };
        let half = rows(&|i, values| {
            for k in i..size {
                axpy(values, self.upper[i * size + k], &right[k * columns..][..columns]);
            }
        });
        rows(&|j, values| {
            for i in 0..=j {
                axpy(values, self.upper[i * size + j], &half[i * columns..][..columns]);
            }
        })
    }
}

/// The inverse of an upper triangular matrix; whatever stands below the diagonal is ignored.
fn invert_upper(mut factor: Vec<f64>, size: usize) -> Vec<f64> {
    let mut inverse = vec![0.0; size * size];
    for i in (0..size).rev() {
        let (head, done) = inverse.split_at_mut((i + 1) * size);
        let row = &mut head[i * size..];
        let factor_row = &mut factor[i * size..][..size];
        let diagonal = factor_row[i];
        row[i] = 1.0 / diagonal;
        let width = size.div_ceil(rayon::current_num_threads().max(1)).max(256);
        row[i + 1..].par_chunks_mut(width).enumerate().for_each(|(chunk, values)| {
            let first = i + 1 + chunk * width;
            let last = first + values.len();
            for k in i + 1..last {
                let start = k.max(first);
                let source = &done[(k - i - 1) * size..][start..last];
                axpy(&mut values[start - first..], -factor_row[k] / diagonal, source);
            }
        });
    }
    inverse
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            let (left_groups, left_rest) = left.as_chunks::<LANES>();
            let (right_groups, right_rest) = right.as_chunks::<LANES>();
            let mut sums = [0.0; LANES];
            for (left, right) in left_groups.iter().zip(right_groups) {
                for lane in 0..LANES {
                    sums[lane] += left[lane] * right[lane];
                }
            }
            let rest: f64 = left_rest.iter().zip(right_rest).map(|(a, b)| a * b).sum();
            sums.iter().sum::<f64>() + rest
        },
    )
}

/// `to += factor * from`.
fn axpy(to: &mut [f64], factor: f64, from: &[f64]) {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from),
    );
}

/// `A B` for `left` A (rows of N values) and `right` B (N x `columns`), row-major.
pub fn product(left: &[f64], right: &[f64], columns: usize) -> Vec<f64> {
    let size = right.len() / columns.max(1);
    let mut result = vec![0.0; left.len() / size.max(1) * columns];
    result.par_chunks_mut(columns.max(1)).zip(left.par_chunks(size.max(1))).for_each(
        |(values, row)| {
            for (&factor, from) in row.iter().zip(right.chunks_exact(columns.max(1))) {
                axpy(values, factor, from);
            }
        },
    );
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
        for size in [1, 2, 7, 33, 300] {
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
    fn refuses_matrices_that_are_not_positive_definite() {
        for matrix in [[1.0, 2.0, 2.0, 1.0], [0.0; 4], [f64::NAN, 0.0, 0.0, 1.0]] {
            assert!(CholeskyInverse::new(&matrix, 2).is_err(), "{matrix:?}");
        }
    }
}
