mod cases;

use half::f16;
use proptest::prelude::*;

use crate::samples::Samples;
use crate::{
    Activation, Arithmetic, Epilogue, Isa, Matrix, MatrixError, Pool, QuantizedActivations, Width,
    matmul_f32, matmul_int8, matmul_int8_accumulators, reference,
};
use cases::*;

#[test]
fn float_products_of_codes_agree_with_the_oracle() {
    let pool = pool();
    for case in cases() {
        let operands = case.operands(wide(&case.a));
        for isa in Isa::available() {
            let matrix = case.matrix(isa);
            let mut out = vec![f32::NAN; case.m * case.n];
            matmul_f32(&pool, &case.a, case.m, &matrix, &Epilogue::default(), &mut out);
            check(&case.name(isa), &operands, f32_tolerance(case.width.label()), &out);
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
        row.iter().map(move |&q| f64::from(i32::from(q) - zero) * f64::from(scale))
    })
    .collect()
}

#[test]
fn results_do_not_depend_on_threads_or_on_the_rows_beside() {
    let pools = [1, 2, 3].map(|threads| Pool::with_isa(threads, Isa::Scalar).unwrap());
    let mut quantized = QuantizedActivations::new();
    for width in Width::ALL {
        for shape in [(1, 5, 40), (9, 17, 65), (31, 100, 300), (197, 33, 70), (500, 3, 20)] {
            let case = Case::new(width, shape, Fill::Random, 7);
            let size = case.m * case.n;
            for isa in Isa::available() {
                let matrix = case.matrix(isa);
                let mut floats = vec![0.0; size];
                let mut integers = vec![0; size];
                for (index, pool) in pools.iter().enumerate() {
                    let mut out = vec![f32::NAN; size];
                    matmul_f32(pool, &case.a, case.m, &matrix, &Epilogue::default(), &mut out);
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
                matmul_f32(&pools[0], &case.a[last..], 1, &matrix, &epilogue, &mut alone);
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
    let residual = epilogue.residual.map_or(0.0, |values| f64::from(values[index]));
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
            matmul_f32(&pool, &a, case.m, &matrix, &Epilogue::default(), &mut out[0]);
            matmul_int8(&pool, &quantized, &matrix, &Epilogue::default(), &mut out[1]);
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
    assert!(matches!(from(2, 4, &[0; 3], &[0.0; 2]), MatrixError::Pack(_)));
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
