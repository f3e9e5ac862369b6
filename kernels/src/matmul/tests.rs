use half::f16;
use proptest::prelude::*;

use crate::samples::Samples;
use crate::{
    Activation, Arithmetic, Epilogue, Isa, Matrix, MatrixError, Pool, QuantizedActivations, Width,
    matmul_f32, matmul_int8, matmul_int8_accumulators, pack, reference,
};

/// `(M, N, K)`: rows around every tile height, tails of every panel and group, more than one block of rows and of inputs.
const SHAPES: [(usize, usize, usize); 18] = [
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
const F32_TOLERANCES: [(&str, f64); 7] = [
    ("1.58", 6e-7),
    ("2", 6e-7),
    ("3", 6e-7),
    ("4", 6e-7),
    ("8", 6e-7),
    ("16", 6e-7),
    ("32", 6e-7),
];

/// The same for an integer product of the quantised activations: a few roundings, whatever the number of terms.
const INT8_TOLERANCE: f64 = 3e-7;

/// What a matrix or its activations are filled with.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fill {
    Random,
    /// Largest codes against activations of largest magnitude.
    Extreme,
    /// Activation rows that are zero here and there, channels whose scale is zero.
    Zeros,
}

const FILLS: [Fill; 3] = [Fill::Random, Fill::Extreme, Fill::Zeros];

/// A product of codes, before it is laid out for an instruction set.
struct Case {
    width: Width,
    m: usize,
    n: usize,
    k: usize,
    codes: Vec<u8>,
    scale: Vec<f32>,
    offset: Vec<f32>,
    a: Vec<f32>,
}

impl Case {
    fn new(width: Width, (m, n, k): (usize, usize, usize), fill: Fill, seed: u64) -> Case {
        let mut samples = Samples::new(seed);
        let levels = width.levels();
        let mut codes = samples.codes(n * k, levels);
        let mut scale: Vec<f32> = (0..n).map(|_| 0.01 + samples.float(0.005)).collect();
        let offset = scale
            .iter()
            .map(|scale| -scale * (levels as f32 / 2.0 + samples.float(1.0)))
            .collect();
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
        Case {
            width,
            m,
            n,
            k,
            codes,
            scale,
            offset,
            a,
        }
    }

    fn packed(&self) -> Vec<u8> {
        pack::pack(self.width, self.n, self.k, &self.codes).unwrap()
    }

    fn matrix(&self, isa: Isa) -> Matrix {
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
    fn weights(&self) -> Vec<f64> {
        let packed = self.packed();
        reference::dequantize(
            self.width,
            self.n,
            self.k,
            &packed,
            &self.scale,
            &self.offset,
        )
        .unwrap()
    }

    fn operands(&self, a: Vec<f64>) -> Operands {
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
    fn magnitudes(&self) -> Vec<f64> {
        let middle = f64::from(self.width.middle());
        let magnitude = |(index, &code): (usize, &u8)| {
            let scale = f64::from(self.scale[index / self.k]);
            let offset = f64::from(self.offset[index / self.k]);
            (scale * (f64::from(code) - middle)).abs() + (offset + scale * middle).abs()
        };
        self.codes.iter().enumerate().map(magnitude).collect()
    }

    /// `sum_k (q - zero) * code`, in i64.
    fn accumulators(&self, a: &QuantizedActivations) -> Vec<i64> {
        let mut out = Vec::new();
        for (row, zero) in a.codes().chunks(self.k).zip(a.zeros()) {
            for codes in self.codes.chunks(self.k) {
                let terms = row.iter().zip(codes);
                let terms =
                    terms.map(|(&q, &code)| (i64::from(q) - i64::from(*zero)) * i64::from(code));
                out.push(terms.sum());
            }
        }
        out
    }

    fn name(&self, isa: Isa) -> String {
        format!(
            "{isa}, {:?}, {} x {} x {}",
            self.width, self.m, self.n, self.k
        )
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// Every case, each with another seed.
fn cases() -> impl Iterator<Item = Case> {
    Width::ALL.into_iter().flat_map(|width| {
        SHAPES
            .into_iter()
            .enumerate()
            .flat_map(move |(seed, shape)| {
                FILLS.map(|fill| Case::new(width, shape, fill, seed as u64))
            })
    })
}

fn pool() -> Pool {
    Pool::with_isa(1, Isa::Scalar).unwrap()
}

/// Activations and weights in f64, with the magnitudes that bound the error of a product.
struct Operands {
    m: usize,
    n: usize,
    k: usize,
    a: Vec<f64>,
    weights: Vec<f64>,
    magnitudes: Vec<f64>,
}

/// Checks a product against the oracle.
fn check(name: &str, operands: &Operands, tolerance: f64, out: &[f32]) {
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

fn f32_tolerance(label: &str) -> f64 {
    let tolerance = F32_TOLERANCES.iter().find(|entry| entry.0 == label);
    tolerance.unwrap().1
}

#[test]
fn float_products_of_codes_agree_with_the_oracle() {
    let pool = pool();
    for case in cases() {
        let operands = case.operands(wide(&case.a));
        for isa in Isa::available() {
            let matrix = case.matrix(isa);
            let mut out = vec![f32::NAN; case.m * case.n];
            matmul_f32(
                &pool,
                &case.a,
                case.m,
                &matrix,
                &Epilogue::default(),
                &mut out,
            );
            check(
                &case.name(isa),
                &operands,
                f32_tolerance(case.width.label()),
                &out,
            );
        }
    }
}

#[test]
fn products_of_float_matrices_agree_with_the_oracle() {
    let pool = pool();
    for (seed, (m, n, k)) in SHAPES.into_iter().enumerate() {
        let mut samples = Samples::new(seed as u64);
        let a = samples.floats(m * k, 2.0);
        let singles = samples.floats(n * k, 1.0);
        let halves: Vec<f16> = singles.iter().map(|&value| f16::from_f32(value)).collect();
        let widened: Vec<f64> = halves.iter().map(|value| value.to_f64()).collect();
        let operands = |weights: Vec<f64>| Operands {
            m,
            n,
            k,
            a: wide(&a),
            magnitudes: weights.iter().map(|value| value.abs()).collect(),
            weights,
        };
        for isa in Isa::available() {
            let mut out = vec![f32::NAN; m * n];
            let name = format!("{isa}, {m} x {n} x {k}");
            let matrix = Matrix::from_f32(isa, n, k, &singles).unwrap();
            matmul_f32(&pool, &a, m, &matrix, &Epilogue::default(), &mut out);
            check(&name, &operands(wide(&singles)), f32_tolerance("32"), &out);
            let matrix = Matrix::from_f16(isa, n, k, &halves).unwrap();
            matmul_f32(&pool, &a, m, &matrix, &Epilogue::default(), &mut out);
            check(&name, &operands(widened.clone()), f32_tolerance("16"), &out);
        }
    }
}

#[test]
fn integer_products_are_exact_on_every_instruction_set() {
    let pool = pool();
    let mut quantized = QuantizedActivations::new();
    for case in cases() {
        for symmetric in [true, false] {
            if symmetric {
                quantized.quantize_symmetric(&pool, &case.a, case.m, case.k);
            } else {
                quantized.quantize_asymmetric(&pool, &case.a, case.m, case.k);
            }
            let expected = case.accumulators(&quantized);
            let operands = case.operands(dequantized(&quantized));
            let mut first: Option<Vec<u32>> = None;
            for isa in Isa::available() {
                let name = case.name(isa);
                let matrix = case.matrix(isa);
                assert!(matrix.supports_int8());
                let mut integers = vec![i32::MIN; case.m * case.n];
                matmul_int8_accumulators(&pool, &quantized, &matrix, &mut integers);
                let integers: Vec<i64> = integers.into_iter().map(i64::from).collect();
                assert_eq!(integers, expected, "{name}");

                let mut out = vec![f32::NAN; case.m * case.n];
                matmul_int8(&pool, &quantized, &matrix, &Epilogue::default(), &mut out);
                check(&name, &operands, INT8_TOLERANCE, &out);
                let bits: Vec<u32> = out.iter().map(|value| value.to_bits()).collect();
                assert_eq!(first.get_or_insert_with(|| bits.clone()), &bits, "{name}");
            }
        }
    }
}

/// The numbers that quantised activations stand for.
fn dequantized(a: &QuantizedActivations) -> Vec<f64> {
    let rows = a.codes().chunks(a.columns()).zip(a.zeros()).zip(a.scales());
    rows.flat_map(|((row, &zero), &scale)| {
        row.iter()
            .map(move |&q| f64::from(i32::from(q) - zero) * f64::from(scale))
    })
    .collect()
}

#[test]
fn results_do_not_depend_on_threads_or_on_the_rows_beside() {
    let pools = [1, 2, 3].map(|threads| Pool::with_isa(threads, Isa::Scalar).unwrap());
    let mut quantized = QuantizedActivations::new();
    for width in Width::ALL {
        for shape in [
            (1, 5, 40),
            (9, 17, 65),
            (31, 100, 300),
            (197, 33, 70),
            (500, 3, 20),
        ] {
            let case = Case::new(width, shape, Fill::Random, 7);
            let size = case.m * case.n;
            for isa in Isa::available() {
                let matrix = case.matrix(isa);
                let mut floats = vec![0.0; size];
                let mut integers = vec![0; size];
                for (index, pool) in pools.iter().enumerate() {
                    let mut out = vec![f32::NAN; size];
                    matmul_f32(
                        pool,
                        &case.a,
                        case.m,
                        &matrix,
                        &Epilogue::default(),
                        &mut out,
                    );
                    quantized.quantize_asymmetric(pool, &case.a, case.m, case.k);
                    let mut sums = vec![0; size];
                    matmul_int8_accumulators(pool, &quantized, &matrix, &mut sums);
                    if index == 0 {
                        (floats, integers) = (out, sums);
                    } else {
                        assert_eq!(floats, out, "{}", case.name(isa));
                        assert_eq!(integers, sums, "{}", case.name(isa));
                    }
                }
                let last = (case.m - 1) * case.k;
                let mut alone = vec![f32::NAN; case.n];
                let epilogue = Epilogue::default();
                matmul_f32(
                    &pools[0],
                    &case.a[last..],
                    1,
                    &matrix,
                    &epilogue,
                    &mut alone,
                );
                assert_eq!(floats[size - case.n..], alone, "{}", case.name(isa));
            }
        }
    }
}

#[test]
fn the_epilogue_is_applied_in_order() {
    let pool = pool();
    let mut quantized = QuantizedActivations::new();
    for shape in [(3, 5, 20), (14, 70, 33)] {
        let case = Case::new(Width::Four, shape, Fill::Random, 3);
        let mut samples = Samples::new(4);
        let bias = samples.floats(case.n, 1.0);
        let layer_scale = samples.floats(case.n, 1.0);
        let residual = samples.floats(case.m * case.n, 1.0);
        quantized.quantize_symmetric(&pool, &case.a, case.m, case.k);
        for isa in Isa::available() {
            let matrix = case.matrix(isa);
            let mut plain = [vec![0.0; residual.len()], vec![0.0; residual.len()]];
            let none = Epilogue::default();
            matmul_f32(&pool, &case.a, case.m, &matrix, &none, &mut plain[0]);
            matmul_int8(&pool, &quantized, &matrix, &none, &mut plain[1]);
            for activation in [None].into_iter().chain(Activation::ALL.map(Some)) {
                for with in 0..8 {
                    let epilogue = Epilogue {
                        bias: (with & 1 > 0).then_some(&bias),
                        activation,
                        layer_scale: (with & 2 > 0).then_some(&layer_scale),
                        residual: (with & 4 > 0).then_some(&residual),
                    };
                    let mut out = [vec![0.0; residual.len()], vec![0.0; residual.len()]];
                    matmul_f32(&pool, &case.a, case.m, &matrix, &epilogue, &mut out[0]);
                    matmul_int8(&pool, &quantized, &matrix, &epilogue, &mut out[1]);
                    for (plain, out) in plain.iter().zip(&out) {
                        for (index, (&plain, &out)) in plain.iter().zip(out).enumerate() {
                            let expected = expected_epilogue(&epilogue, plain, index, case.n);
                            let error = (f64::from(out) - expected).abs();
                            assert!(error < 2e-6, "{isa}: {out} instead of {expected}");
                        }
                    }
                }
            }
        }
    }
}

fn expected_epilogue(epilogue: &Epilogue<'_>, value: f32, index: usize, n: usize) -> f64 {
    let channel = |values: Option<&[f32]>, default| {
        values.map_or(default, |values| f64::from(values[index % n]))
    };
    let value = f64::from(value) + channel(epilogue.bias, 0.0);
    let value = match epilogue.activation {
        Some(activation) => reference::activation(activation, value),
        None => value,
    };
    let residual = epilogue
        .residual
        .map_or(0.0, |values| f64::from(values[index]));
    residual + channel(epilogue.layer_scale, 1.0) * value
}

#[test]
fn numbers_that_are_not_finite_stay_in_their_row() {
    let pool = pool();
    let case = Case::new(Width::Three, (14, 40, 37), Fill::Random, 5);
    for value in [f32::NAN, f32::INFINITY] {
        let mut a = case.a.clone();
        a[5 * case.k + 36] = value;
        let mut quantized = QuantizedActivations::new();
        quantized.quantize_symmetric(&pool, &a, case.m, case.k);
        for isa in Isa::available() {
            let matrix = case.matrix(isa);
            let mut out = [vec![0.0; case.m * case.n], vec![0.0; case.m * case.n]];
            matmul_f32(
                &pool,
                &a,
                case.m,
                &matrix,
                &Epilogue::default(),
                &mut out[0],
            );
            matmul_int8(
                &pool,
                &quantized,
                &matrix,
                &Epilogue::default(),
                &mut out[1],
            );
            for out in out {
                for (row, values) in out.chunks(case.n).enumerate() {
                    let finite = values.iter().all(|value| value.is_finite());
                    assert_eq!(finite, row != 5, "{isa}, row {row}");
                }
            }
        }
    }
}

#[test]
fn codes_stay_packed_in_memory() {
    let (n, k) = (768, 768);
    for isa in Isa::available() {
        for (width, bits) in [
            (Width::Ternary, 2),
            (Width::Two, 2),
            (Width::Three, 3),
            (Width::Four, 4),
            (Width::Eight, 8),
        ] {
            let case = Case::new(width, (1, n, k), Fill::Extreme, 0);
            let matrix = case.matrix(isa);
            assert_eq!(matrix.resident_bytes(), n * k * bits / 8 + 3 * 4 * n);
            assert_eq!(matrix.width(), Some(width));
            let name = matrix.kernel_name(Arithmetic::Int8);
            let start = format!("{isa}-w{}a8-", width.label());
            assert!(name.starts_with(&start), "{name}");
        }
    }
}

#[test]
fn matrices_that_make_no_sense_are_refused() {
    let isa = Isa::Scalar;
    let from = |n, k, packed: &[u8], scale: &[f32]| {
        Matrix::from_codes(isa, Width::Two, n, k, packed, scale, &[0.0; 2]).unwrap_err()
    };
    assert!(matches!(from(0, 4, &[], &[]), MatrixError::Empty { .. }));
    assert!(matches!(
        from(2, 4, &[0; 3], &[0.0; 2]),
        MatrixError::Pack(_)
    ));
    let error = from(2, 4, &[0; 2], &[0.0; 3]);
    assert_eq!(error.to_string(), "expected 2 scales, found 3");
    let large = from(usize::MAX / 2, 4, &[], &[]);
    assert!(matches!(large, MatrixError::TooLarge { .. }), "{large}");
    let error = Matrix::from_f32(isa, 2, 2, &[0.0; 5]).unwrap_err();
    assert_eq!(error.to_string(), "expected 4 weights, found 5");
    for isa in Isa::ALL.into_iter().filter(|isa| !isa.is_available()) {
        let error = Matrix::from_f32(isa, 1, 1, &[0.0]).unwrap_err();
        assert!(matches!(error, MatrixError::Isa(_)));
    }
}

#[test]
fn sums_that_could_overflow_are_not_multiplied_in_integers() {
    let most = i32::MAX as usize / (255 * 255);
    for (k, supported) in [(most, true), (most + 1, false)] {
        let case = Case::new(Width::Eight, (1, 1, k), Fill::Extreme, 0);
        assert_eq!(case.matrix(Isa::Scalar).supports_int8(), supported);
    }
    // The largest sum there is, -255 * 255 * k, is exact.
    let pool = pool();
    let mut case = Case::new(Width::Eight, (1, 1, most), Fill::Extreme, 0);
    case.a.fill(-1.0);
    let mut quantized = QuantizedActivations::new();
    quantized.quantize_asymmetric(&pool, &case.a, 1, most);
    for isa in Isa::available() {
        let mut out = [0];
        matmul_int8_accumulators(&pool, &quantized, &case.matrix(isa), &mut out);
        assert_eq!(i64::from(out[0]), -255 * 255 * most as i64, "{isa}");
    }
    let floats = Matrix::from_f32(Isa::Scalar, 1, 1, &[1.0]).unwrap();
    assert!(!floats.supports_int8());
}

#[test]
fn no_rows_are_no_work() {
    let pool = pool();
    let case = Case::new(Width::Two, (1, 3, 5), Fill::Random, 0);
    let matrix = case.matrix(Isa::best());
    matmul_f32(&pool, &[], 0, &matrix, &Epilogue::default(), &mut []);
    let mut quantized = QuantizedActivations::new();
    quantized.quantize_symmetric(&pool, &[], 0, 5);
    matmul_int8(&pool, &quantized, &matrix, &Epilogue::default(), &mut []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_shape_agrees_with_the_oracle(
        width in 0..Width::ALL.len(),
        shape in (1..30_usize, 1..80_usize, 1..90_usize),
        seed in any::<u64>(),
    ) {
        let pool = pool();
        let case = Case::new(Width::ALL[width], shape, Fill::Random, seed);
        let mut quantized = QuantizedActivations::new();
        quantized.quantize_asymmetric(&pool, &case.a, case.m, case.k);
        let sums = case.accumulators(&quantized);
        let operands = case.operands(wide(&case.a));
        for isa in Isa::available() {
            let matrix = case.matrix(isa);
            let mut out = vec![f32::NAN; case.m * case.n];
            matmul_f32(&pool, &case.a, case.m, &matrix, &Epilogue::default(), &mut out);
            check(&case.name(isa), &operands, f32_tolerance(case.width.label()), &out);
            let mut integers = vec![0; case.m * case.n];
            matmul_int8_accumulators(&pool, &quantized, &matrix, &mut integers);
            let integers: Vec<i64> = integers.into_iter().map(i64::from).collect();
            prop_assert_eq!(&integers, &sums);
        }
    }
}
