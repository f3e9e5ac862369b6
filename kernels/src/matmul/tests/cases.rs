//! The products that every kernel is tested with, and how they are judged.

use crate::samples::Samples;
use crate::{
    Activations, Arithmetic, Epilogue, Isa, Layout, Matrix, Pool, Rows, Width, matmul, pack,
    reference,
};

/// `(M, N, K)`: rows around every tile height, tails of every panel and group, more than one block of rows and of inputs.
pub(crate) const SHAPES: [(usize, usize, usize); 18] = [
    (1, 1, 1),
    (1, 7, 3),
    (1, 100, 257),
    (2, 33, 5),
    (3, 8, 16),
    (3, 5, 1100),
    (5, 31, 17),
    (6, 64, 512),
    (8, 16, 64),
    (9, 17, 65),
    (12, 96, 32),
    (13, 48, 300),
    (17, 40, 31),
    (25, 1, 1056),
    (196, 9, 20),
    (197, 33, 70),
    (198, 2, 1),
    (401, 3, 8),
];

/// Largest error of a float product, relative to the sum of the magnitudes of its terms. The terms of codes are those that
/// are summed: centred code and centred offset, each times the activation.
pub(crate) const F32_TOLERANCES: [(&str, f64); 7] = [
    ("1.58", 6e-7),
    ("2", 6e-7),
    ("3", 6e-7),
    ("4", 6e-7),
    ("8", 6e-7),
    ("16", 6e-7),
    ("32", 6e-7),
];

/// The same for an integer product of the quantised activations: a few roundings, whatever the number of terms.
pub(crate) const INT8_TOLERANCE: f64 = 3e-7;

/// The same for a product of activations rounded to bfloat16: the hardware's additions in float, in pairs.
pub(crate) const HALF_TOLERANCE: f64 = 1e-6;

/// What a matrix or its activations are filled with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fill {
    Random,
    /// Largest codes against activations of largest magnitude.
    Extreme,
    /// Activation rows that are zero here and there, channels whose scale is zero.
    Zeros,
}

pub(crate) const FILLS: [Fill; 3] = [Fill::Random, Fill::Extreme, Fill::Zeros];

/// A product of codes, before it is laid out for an instruction set.
pub(crate) struct Case {
    pub(crate) width: Width,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) codes: Vec<u8>,
    pub(crate) scale: Vec<f32>,
    pub(crate) offset: Vec<f32>,
    pub(crate) a: Vec<f32>,
}

impl Case {
    pub(crate) fn new(
        width: Width,
        (m, n, k): (usize, usize, usize),
        fill: Fill,
        seed: u64,
    ) -> Case {
        let mut samples = Samples::new(seed);
        let levels = width.levels();
        let mut codes = samples.codes(n * k, levels);
        let mut scale: Vec<f32> = (0..n).map(|_| 0.01 + samples.float(0.005)).collect();
        let offset =
            scale.iter().map(|scale| -scale * (levels as f32 / 2.0 + samples.float(1.0))).collect();
        let mut a = samples.floats(m * k, 2.0);
        match fill {
            Fill::Random => {}
            Fill::Extreme => {
                codes.fill((levels - 1) as u8);
                for (row, values) in a.chunks_mut(k).enumerate() {
                    values.fill(if row % 2 == 0 { 2.0 } else { -2.0 });
                }
            }
            Fill::Zeros => {
                for values in a.chunks_mut(k).step_by(2) {
                    values.fill(0.0);
                }
                for scale in scale.iter_mut().step_by(3) {
                    *scale = 0.0;
                }
            }
        }
        Case { width, m, n, k, codes, scale, offset, a }
    }

    pub(crate) fn packed(&self) -> Vec<u8> {
        pack::pack(self.width, self.n, self.k, &self.codes).unwrap()
    }

    pub(crate) fn matrix(&self, isa: Isa) -> Matrix {
        Matrix::from_codes(
            isa,
            self.width,
            self.n,
            self.k,
            &self.packed(),
            &self.scale,
            &self.offset,
        )
        .unwrap()
    }

    /// The weights, in f64.
    pub(crate) fn weights(&self) -> Vec<f64> {
        let packed = self.packed();
        reference::dequantize(self.width, self.n, self.k, &packed, &self.scale, &self.offset)
            .unwrap()
    }

    pub(crate) fn operands(&self, a: Vec<f64>) -> Operands {
        Operands {
            m: self.m,
            n: self.n,
            k: self.k,
            a,
            weights: self.weights(),
            magnitudes: self.magnitudes(),
        }
    }

    /// Magnitudes of what is multiplied by an activation: centred codes times scale, and the centred offset.
    pub(crate) fn magnitudes(&self) -> Vec<f64> {
        let middle = f64::from(self.width.middle());
        let magnitude = |(index, &code): (usize, &u8)| {
            let scale = f64::from(self.scale[index / self.k]);
            let offset = f64::from(self.offset[index / self.k]);
            (scale * (f64::from(code) - middle)).abs() + (offset + scale * middle).abs()
        };
        self.codes.iter().enumerate().map(magnitude).collect()
    }

    /// `sum_k (q - zero) * code`, in i64.
    pub(crate) fn accumulators(&self, a: &Activations) -> Vec<i64> {
        let mut out = Vec::new();
        let (codes, _, zeros) = a.to_codes();
        for (row, zero) in codes.chunks(self.k).zip(zeros) {
            for codes in self.codes.chunks(self.k) {
                let terms = row.iter().zip(codes);
                let terms =
                    terms.map(|(&q, &code)| (i64::from(q) - i64::from(zero)) * i64::from(code));
                out.push(terms.sum());
            }
        }
        out
    }

    /// The activations, packed.
    pub(crate) fn pack(&self, pool: &Pool, arithmetic: Arithmetic) -> Activations {
        pack_plain(pool, arithmetic, &self.a, self.k)
    }

    /// The product with the activations of the case.
    pub(crate) fn product(
        &self,
        pool: &Pool,
        arithmetic: Arithmetic,
        matrix: &Matrix,
        epilogue: &Epilogue<'_>,
    ) -> Vec<f32> {
        let mut out = vec![f32::NAN; self.m * self.n];
        matmul(pool, &self.pack(pool, arithmetic), matrix, epilogue, &mut out);
        out
    }

    pub(crate) fn name(&self, isa: Isa) -> String {
        format!("{isa}, {:?}, {} x {} x {}", self.width, self.m, self.n, self.k)
    }
}

pub(crate) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// Every case, each with another seed.
pub(crate) fn cases() -> impl Iterator<Item = Case> {
    Width::ALL.into_iter().flat_map(|width| {
        SHAPES.into_iter().enumerate().flat_map(move |(seed, shape)| {
            FILLS.map(|fill| Case::new(width, shape, fill, seed as u64))
        })
    })
}

/// One thread of an instruction set.
pub(crate) fn pool(isa: Isa) -> Pool {
    Pool::with_isa(1, isa).unwrap()
}

pub(crate) fn pack_plain(
    pool: &Pool,
    arithmetic: Arithmetic,
    values: &[f32],
    columns: usize,
) -> Activations {
    let mut packed = Activations::new();
    packed.pack(pool, arithmetic, &Rows::Plain { values, columns, layout: Layout::Rows });
    packed
}

/// The instruction sets whose products in half precision are tested.
pub(crate) fn half_isas() -> impl Iterator<Item = Isa> {
    Isa::available().into_iter().filter(|isa| isa.supports(Arithmetic::Half))
}

/// Activations and weights in f64, with the magnitudes that bound the error of a product.
pub(crate) struct Operands {
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) a: Vec<f64>,
    pub(crate) weights: Vec<f64>,
    pub(crate) magnitudes: Vec<f64>,
}

/// Checks a product against the oracle.
pub(crate) fn check(name: &str, operands: &Operands, tolerance: f64, out: &[f32]) {
    let Operands { m, n, k, .. } = *operands;
    let magnitudes: Vec<f64> = operands.a.iter().map(|value| value.abs()).collect();
    let expected = reference::matmul(&operands.a, m, &operands.weights, n, k);
    let bounds = reference::matmul(&magnitudes, m, &operands.magnitudes, n, k);
    for (index, ((&out, expected), bound)) in out.iter().zip(expected).zip(bounds).enumerate() {
        let error = (f64::from(out) - expected).abs();
        assert!(
            error <= tolerance * bound,
            "{name}: element {index} is {out} instead of {expected}, error {:.1e} of {bound}",
            error / bound,
        );
    }
}

pub(crate) fn f32_tolerance(label: &str) -> f64 {
    let tolerance = F32_TOLERANCES.iter().find(|entry| entry.0 == label);
    tolerance.unwrap().1
}
