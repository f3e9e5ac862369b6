pub(crate) mod cases;

use half::{bf16, f16};
use proptest::prelude::*;

use crate::samples::{Samples, in_blocks};
use crate::{
    Activation, Activations, Arithmetic, Epilogue, Isa, Layout, Matrix, MatrixError, Pool, Width,
    matmul, matmul_accumulators, matmul_to_half, reference,
};
use cases::*;

const NONE: Epilogue<'_> = Epilogue {
    bias: None,
    activation: None,
    layer_scale: None,
    residual: None,
    layout: Layout::Rows,
};

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn float_products_of_codes_agree_with_the_oracle_and_on_every_instruction_set() {
    for case in cases() {
        let operands = case.operands(wide(&case.a));
        let mut first: Option<Vec<u32>> = None;
        for isa in Isa::available() {
            let out = case.product(&pool(isa), Arithmetic::F32, &case.matrix(isa), &NONE);
            check(&case.name(isa), &operands, f32_tolerance(case.width.label()), &out);
            assert_eq!(first.get_or_insert_with(|| bits(&out)), &bits(&out), "{}", case.name(isa));
        }
    }
}

#[test]
fn products_of_float_matrices_agree_with_the_oracle_and_on_every_instruction_set() {
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
        let mut first: Option<[Vec<u32>; 2]> = None;
        for isa in Isa::available() {
            let pool = pool(isa);
            let packed = pack_plain(&pool, Arithmetic::F32, &a, k);
            let mut out = [vec![f32::NAN; m * n], vec![f32::NAN; m * n]];
            let name = format!("{isa}, {m} x {n} x {k}");
            let matrix = Matrix::from_f32(isa, n, k, &singles).unwrap();
            matmul(&pool, &packed, &matrix, &NONE, &mut out[0]);
            check(&name, &operands(wide(&singles)), f32_tolerance("32"), &out[0]);
            let matrix = Matrix::from_f16(isa, n, k, &halves).unwrap();
            matmul(&pool, &packed, &matrix, &NONE, &mut out[1]);
            check(&name, &operands(widened.clone()), f32_tolerance("16"), &out[1]);
            let out = out.map(|out| bits(&out));
            assert_eq!(first.get_or_insert_with(|| out.clone()), &out, "{name}");
        }
    }
}

#[test]
fn integer_products_are_exact_on_every_instruction_set() {
    for case in cases() {
        let mut first: Option<Vec<u32>> = None;
        for isa in Isa::available() {
            let name = case.name(isa);
            let pool = pool(isa);
            let packed = case.pack(&pool, Arithmetic::Int8);
            let matrix = case.matrix(isa);
            assert!(matrix.supports(Arithmetic::Int8));
            let mut integers = vec![i32::MIN; case.m * case.n];
            matmul_accumulators(&pool, &packed, &matrix, &mut integers);
            let integers: Vec<i64> = integers.into_iter().map(i64::from).collect();
            assert_eq!(integers, case.accumulators(&packed), "{name}");

            let out = case.product(&pool, Arithmetic::Int8, &matrix, &NONE);
            let operands = case.operands(dequantized(&packed));
            check(&name, &operands, INT8_TOLERANCE, &out);
            assert_eq!(first.get_or_insert_with(|| bits(&out)), &bits(&out), "{name}");
        }
    }
}

/// The numbers that quantised activations stand for.
fn dequantized(a: &Activations) -> Vec<f64> {
    let (codes, scales, zeros) = a.to_codes();
    let rows = codes.chunks(a.columns()).zip(zeros).zip(scales);
    rows.flat_map(|((row, zero), scale)| {
        row.iter().map(move |&q| f64::from(i32::from(q) - zero) * f64::from(scale))
    })
    .collect()
}

#[test]
fn half_precision_products_agree_with_the_oracle() {
    for case in cases() {
        let rounded: Vec<f64> =
            case.a.iter().map(|&value| bf16::from_f32(value).to_f64()).collect();
        let operands = case.operands(rounded);
        for isa in half_isas() {
            let out = case.product(&pool(isa), Arithmetic::Half, &case.matrix(isa), &NONE);
            check(&case.name(isa), &operands, HALF_TOLERANCE, &out);
        }
    }
}

/// Every arithmetic that multiplies a matrix.
fn arithmetics(matrix: &Matrix) -> impl Iterator<Item = Arithmetic> {
    Arithmetic::ALL.into_iter().filter(|&arithmetic| matrix.supports(arithmetic))
}

#[test]
fn outputs_in_blocks_are_those_in_rows() {
    let (m, n, k) = (37, 192, 70);
    let mut samples = Samples::new(11);
    let [bias, layer_scale] = [n, n].map(|count| samples.floats(count, 1.0));
    let residual = samples.floats(m * n, 1.0);
    let residual_blocks = in_blocks(&residual, n);
    let case = Case::new(Width::Three, (m, n, k), Fill::Random, 3);
    for isa in Isa::available() {
        for threads in [1, 3] {
            let pool = Pool::with_isa(threads, isa).unwrap();
            let matrix = case.matrix(isa);
            for arithmetic in arithmetics(&matrix) {
                let packed = case.pack(&pool, arithmetic);
                let product = |layout, residual| {
                    let epilogue = Epilogue {
                        bias: Some(&bias),
                        activation: Some(Activation::GeluErf),
                        layer_scale: Some(&layer_scale),
                        residual: Some(residual),
                        layout,
                    };
                    let mut single = vec![f32::NAN; m * n];
                    matmul(&pool, &packed, &matrix, &epilogue, &mut single);
                    let mut half = vec![f16::NAN; m * n];
                    matmul_to_half(&pool, &packed, &matrix, &epilogue, &mut half);
                    (single, half)
                };
                let (single, half) = product(Layout::Rows, &residual);
                let found = product(Layout::Blocks, &residual_blocks);
                let name = format!("{arithmetic:?}, {}", case.name(isa));
                assert_eq!(in_blocks(&single, n), found.0, "{name}");
                assert_eq!(in_blocks(&half, n), found.1, "{name}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "70 columns are not made of blocks")]
fn outputs_that_are_not_made_of_blocks_are_refused() {
    let case = Case::new(Width::Two, (3, 70, 40), Fill::Random, 1);
    let pool = pool(Isa::best());
    let epilogue = Epilogue { layout: Layout::Blocks, ..NONE };
    case.product(&pool, Arithmetic::F32, &case.matrix(Isa::best()), &epilogue);
}

#[test]
fn results_do_not_depend_on_threads_or_on_the_rows_beside() {
    for isa in Isa::available() {
        let pools = [1, 2, 3].map(|threads| Pool::with_isa(threads, isa).unwrap());
        for width in Width::ALL {
            for shape in [(1, 5, 40), (9, 17, 65), (31, 100, 300), (197, 33, 70), (500, 3, 20)] {
                let case = Case::new(width, shape, Fill::Random, 7);
                let matrix = case.matrix(isa);
                for arithmetic in arithmetics(&matrix) {
                    let [out, others @ ..] =
                        pools.each_ref().map(|pool| case.product(pool, arithmetic, &matrix, &NONE));
                    for other in others {
                        assert_eq!(out, other, "{arithmetic:?}, {}", case.name(isa));
                    }
                    let last = &case.a[(case.m - 1) * case.k..];
                    let packed = pack_plain(&pools[0], arithmetic, last, case.k);
                    let mut alone = vec![f32::NAN; case.n];
                    matmul(&pools[0], &packed, &matrix, &NONE, &mut alone);
                    let expected = &out[(case.m - 1) * case.n..];
                    assert_eq!(expected, alone, "{arithmetic:?}, {}", case.name(isa));
                }
            }
        }
    }
}

#[test]
fn the_epilogue_is_applied_in_order() {
    for shape in [(3, 5, 20), (14, 70, 33)] {
        let case = Case::new(Width::Four, shape, Fill::Random, 3);
        let mut samples = Samples::new(4);
        let bias = samples.floats(case.n, 1.0);
        let layer_scale = samples.floats(case.n, 1.0);
        let residual = samples.floats(case.m * case.n, 1.0);
        for isa in Isa::available() {
            let (pool, matrix) = (pool(isa), case.matrix(isa));
            for arithmetic in arithmetics(&matrix) {
                let plain = case.product(&pool, arithmetic, &matrix, &NONE);
                for activation in [None].into_iter().chain(Activation::ALL.map(Some)) {
                    for with in 0..8 {
                        let epilogue = Epilogue {
                            bias: (with & 1 > 0).then_some(&bias),
                            activation,
                            layer_scale: (with & 2 > 0).then_some(&layer_scale),
                            residual: (with & 4 > 0).then_some(&residual),
                            ..NONE
                        };
                        let out = case.product(&pool, arithmetic, &matrix, &epilogue);
                        for (index, (&plain, out)) in plain.iter().zip(out).enumerate() {
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

/// Products in half precision are the others, rounded.
#[test]
fn products_are_rounded_to_half_precision() {
    let case = Case::new(Width::Three, (21, 70, 50), Fill::Random, 8);
    let mut samples = Samples::new(9);
    let (bias, residual) = (samples.floats(case.n, 1e5), samples.floats(case.m * case.n, 1.0));
    let mut first: Option<Vec<f16>> = None;
    for isa in Isa::available() {
        let (pool, matrix) = (pool(isa), case.matrix(isa));
        let packed = case.pack(&pool, Arithmetic::Int8);
        for activation in [None].into_iter().chain(Activation::ALL.map(Some)) {
            for (bias, residual) in [(None, None), (Some(&bias[..]), Some(&residual[..]))] {
                let epilogue = Epilogue { bias, activation, residual, ..NONE };
                let exact = case.product(&pool, Arithmetic::Int8, &matrix, &epilogue);
                let mut out = vec![f16::NAN; exact.len()];
                matmul_to_half(&pool, &packed, &matrix, &epilogue, &mut out);
                for (out, exact) in out.iter().zip(exact) {
                    let exact = exact.clamp(-65504.0, 65504.0);
                    let error = (out.to_f32() - exact).abs();
                    assert!(error <= 2.6e-4 + exact.abs() / 2048.0, "{isa}: {out} for {exact}");
                    let rounded = f16::from_f32(exact);
                    assert!(activation == Some(Activation::GeluErf) || *out == rounded);
                }
            }
        }
        let mut out = vec![f16::NAN; case.m * case.n];
        let epilogue = Epilogue { activation: Some(Activation::GeluErf), ..NONE };
        matmul_to_half(&pool, &packed, &matrix, &epilogue, &mut out);
        assert_eq!(first.get_or_insert_with(|| out.clone()), &out, "{isa}");
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
    let mut case = Case::new(Width::Three, (14, 40, 37), Fill::Random, 5);
    for value in [f32::NAN, f32::INFINITY] {
        case.a[5 * case.k + 36] = value;
        for isa in Isa::available() {
            let matrix = case.matrix(isa);
            for arithmetic in arithmetics(&matrix) {
                let out = case.product(&pool(isa), arithmetic, &matrix, &NONE);
                for (row, values) in out.chunks(case.n).enumerate() {
                    let finite = values.iter().all(|value| value.is_finite());
                    assert_eq!(finite, row != 5, "{isa}, {arithmetic:?}, row {row}");
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "packed for different instruction sets")]
fn activations_of_another_instruction_set_are_refused() {
    let case = Case::new(Width::Two, (1, 3, 5), Fill::Random, 0);
    // A machine with one instruction set only cannot make the mistake.
    let Some(&other) = Isa::available().get(1) else {
        panic!("packed for different instruction sets is not possible here")
    };
    case.product(&pool(Isa::Scalar), Arithmetic::F32, &case.matrix(other), &NONE);
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
        assert_eq!(case.matrix(Isa::Scalar).supports(Arithmetic::Int8), supported);
    }
    // The largest sum there is, -255 * 255 * k, is exact.
    let mut case = Case::new(Width::Eight, (1, 1, most), Fill::Extreme, 0);
    case.a.fill(-1.0);
    for isa in Isa::available() {
        let pool = pool(isa);
        let mut out = [0];
        let packed = case.pack(&pool, Arithmetic::Int8);
        matmul_accumulators(&pool, &packed, &case.matrix(isa), &mut out);
        assert_eq!(i64::from(out[0]), -255 * 255 * most as i64, "{isa}");
    }
    let floats = Matrix::from_f32(Isa::Scalar, 1, 1, &[1.0]).unwrap();
    assert!(!floats.supports(Arithmetic::Int8));
}

#[test]
fn no_rows_are_no_work() {
    let case = Case::new(Width::Two, (1, 3, 5), Fill::Random, 0);
    let matrix = case.matrix(Isa::best());
    for arithmetic in arithmetics(&matrix) {
        let pool = pool(Isa::best());
        let packed = pack_plain(&pool, arithmetic, &[], 5);
        matmul(&pool, &packed, &matrix, &NONE, &mut []);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_shape_agrees_with_the_oracle(
        width in 0..Width::ALL.len(),
        shape in (1..30_usize, 1..80_usize, 1..90_usize),
        seed in any::<u64>(),
    ) {
        let case = Case::new(Width::ALL[width], shape, Fill::Random, seed);
        let operands = case.operands(wide(&case.a));
        for isa in Isa::available() {
            let (pool, matrix) = (pool(isa), case.matrix(isa));
            let out = case.product(&pool, Arithmetic::F32, &matrix, &NONE);
            check(&case.name(isa), &operands, f32_tolerance(case.width.label()), &out);
            let packed = case.pack(&pool, Arithmetic::Int8);
            let mut integers = vec![0; case.m * case.n];
            matmul_accumulators(&pool, &packed, &matrix, &mut integers);
            let integers: Vec<i64> = integers.into_iter().map(i64::from).collect();
            prop_assert_eq!(integers, case.accumulators(&packed));
        }
    }
}
