//! Products of cases that the kernels of the CPU are tested with, against the same oracle.

use half::f16;

use super::super::shader::{Element, Matrices, TileSize};
use super::super::*;
use super::test_gpu;
use crate::matmul::tests::cases::{Case, FILLS, Fill, Operands, check, wide};
use crate::samples::Samples;
use crate::{Activations, Arithmetic, Isa, Pool, Width, pack};

/// Largest error of a product in f32, relative to the sum of the magnitudes of its terms.
const F32_TOLERANCE: f64 = 3e-5;

/// The same for an integer product of quantised activations: a few roundings, whatever the number of terms.
const INTEGER_TOLERANCE: f64 = 1e-6;

/// The same for a product of activations that f16 holds exactly: sums in f32.
const HALF_TOLERANCE: f64 = 3e-5;

/// `(M, N, K)`: smaller than a tile, tails of every tile, group of codes and quad, more than one tile and step.
const SHAPES: [(usize, usize, usize); 6] =
    [(1, 1, 1), (1, 7, 3), (9, 17, 65), (3, 5, 300), (33, 70, 31), (131, 3, 70)];

/// A plan with the widths and shapes that it is tested with. The smallest tile has them all; what the larger ones do otherwise does
/// not depend on the width, and software takes seconds to compile one of them.
fn trials(gpu: &Gpu, variant: Variant) -> impl Iterator<Item = (Plan, Vec<Case>)> {
    let offered =
        move |size: &TileSize| match (Plan { variant, size: *size }).check(gpu.capabilities()) {
            Ok(()) => true,
            Err(error) => {
                println!("skipped: {variant} {size:?} on {}: {error}", gpu.summary());
                false
            }
        };
    TileSize::ALL.into_iter().filter(offered).map(move |size| {
        let cases = match size {
            TileSize::Small => cases(&Width::ALL, &SHAPES),
            TileSize::Deep | TileSize::Medium => cases(&[Width::Three], &SHAPES[2..3]),
            TileSize::Tall => cases(&[Width::Four], &SHAPES[5..]),
            TileSize::Large => cases(&[Width::Two], &SHAPES[4..]),
            TileSize::Huge => cases(&[Width::Three], &SHAPES[4..5]),
        };
        (Plan { variant, size }, cases)
    })
}

/// Every width and shape, and every fill with one of the shapes.
fn cases(widths: &[Width], shapes: &[(usize, usize, usize)]) -> Vec<Case> {
    let random = shapes.iter().map(|&shape| (shape, Fill::Random));
    let fills = FILLS.into_iter().skip(1).map(|fill| (shapes[shapes.len() / 2], fill));
    let fills: Vec<_> = random.chain(fills).collect();
    let cases = |&width| fills.iter().map(move |&(shape, fill)| Case::new(width, shape, fill, 1));
    widths.iter().flat_map(cases).collect()
}

/// Computes a product.
fn product(
    gpu: &Gpu,
    plan: Plan,
    activations: Operand<'_>,
    weights: &Matrix,
    epilogue: Epilogue<'_>,
    output: &Rows,
    rows: usize,
) -> Vec<f32> {
    let placement = Placement::IDENTITY;
    let descriptor = MatmulDescriptor { activations, weights, epilogue, output, placement };
    let matmul = Matmul::new(gpu, plan, &descriptor).unwrap();
    let mut recorder = Recorder::new(gpu, "product").unwrap();
    matmul.record(&mut recorder, rows).unwrap();
    recorder.submit().unwrap();
    output.read(gpu, rows).unwrap()
}

fn matrix(gpu: &Gpu, case: &Case) -> Matrix {
    let shape = (case.n, case.k);
    Matrix::from_codes(gpu, case.width, shape, &case.packed(), &case.scale, &case.offset).unwrap()
}

/// Checks products with float activations, all of which f16 holds exactly.
fn check_float_products(gpu: &Gpu, plan: Plan, cases: Vec<Case>, tolerance: f64) {
    for (index, mut case) in cases.into_iter().enumerate() {
        for value in &mut case.a {
            *value = f16::from_f32(*value).to_f32();
        }
        let operands = case.operands(wide(&case.a));
        let weights = matrix(gpu, &case);
        // One width will do for both: each costs a kernel.
        let halves = case.width == Width::Three && index % 2 == 0;
        let element = if halves { Element::F16 } else { Element::F32 };
        let a = Rows::of(gpu, "a", element, &case.a, case.k).unwrap();
        let out = Rows::new(gpu, "out", Element::F32, case.m, case.n).unwrap();
        let epilogue = Epilogue::default();
        let y = product(gpu, plan, Operand::Rows(&a), &weights, epilogue, &out, case.m);
        check(&format!("{plan}, {}", case.name(Isa::Scalar)), &operands, tolerance, &y);
    }
}

/// The same with float weights.
fn check_float_matrices(gpu: &Gpu, plan: Plan, tolerance: f64) {
    for &(m, n, k) in &SHAPES[..4] {
        let mut samples = Samples::new(2);
        let halves = |values: Vec<f32>| values.into_iter().map(f16::from_f32).collect::<Vec<f16>>();
        let singles =
            |values: &[f16]| values.iter().map(|value| value.to_f32()).collect::<Vec<f32>>();
        let (a, w) = (halves(samples.floats(m * k, 2.0)), halves(samples.floats(n * k, 1.0)));
        let (a, weights) = (singles(&a), singles(&w));
        let magnitudes = weights.iter().map(|value| f64::from(value.abs())).collect();
        let operands = Operands { m, n, k, a: wide(&a), weights: wide(&weights), magnitudes };
        let a = Rows::of(gpu, "a", Element::F32, &a, k).unwrap();
        let out = Rows::new(gpu, "out", Element::F32, m, n).unwrap();
        for matrix in [
            Matrix::from_f32(gpu, (n, k), &weights).unwrap(),
            Matrix::from_f16(gpu, (n, k), &w).unwrap(),
        ] {
            let epilogue = Epilogue::default();
            let y = product(gpu, plan, Operand::Rows(&a), &matrix, epilogue, &out, m);
            let name = format!("{plan}, {:?}, {m} x {n} x {k}", matrix.kind());
            check(&name, &operands, tolerance, &y);
        }
    }
}

fn small(variant: Variant) -> Plan {
    Plan { variant, size: TileSize::Small }
}

#[test]
fn tiled_products_agree_with_the_oracle() {
    let Some(gpu) = test_gpu() else { return };
    for (plan, cases) in trials(&gpu, Variant::Tiled) {
        check_float_products(&gpu, plan, cases, F32_TOLERANCE);
    }
    check_float_matrices(&gpu, small(Variant::Tiled), F32_TOLERANCE);
}

#[test]
fn products_on_emulated_cooperative_matrices_agree_with_the_oracle() {
    let Some(gpu) = test_gpu() else { return };
    let emulated =
        |edge| gpu.with(|capabilities| capabilities.cooperative = Some(Matrices::emulated(edge)));
    for (plan, cases) in trials(&emulated(16), Variant::Cooperative) {
        check_float_products(&emulated(16), plan, cases, HALF_TOLERANCE);
    }
    let plan = small(Variant::Cooperative);
    check_float_matrices(&emulated(16), plan, HALF_TOLERANCE);
    check_float_products(&emulated(8), plan, cases(&[Width::Two], &SHAPES), HALF_TOLERANCE);
}

#[test]
fn products_on_cooperative_matrices_agree_with_the_oracle() {
    let Some(gpu) = test_gpu() else { return };
    if gpu.capabilities().cooperative.is_none() {
        println!("skipped: {} has no cooperative matrices", gpu.summary());
        return;
    }
    for (plan, cases) in trials(&gpu, Variant::Cooperative) {
        check_float_products(&gpu, plan, cases, HALF_TOLERANCE);
    }
    check_float_matrices(&gpu, small(Variant::Cooperative), HALF_TOLERANCE);
}

/// The activations of a case, quantised on the device and on the CPU.
fn quantized(gpu: &Gpu, pool: &Pool, case: &Case) -> (Quantized, Activations) {
    let codes = Quantized::new(gpu, case.m, case.k).unwrap();
    let numbers = Rows::of(gpu, "a", Element::F32, &case.a, case.k).unwrap();
    let mut recorder = Recorder::new(gpu, "quantise").unwrap();
    let quantize = RowOperation::quantize(gpu, &numbers, &codes).unwrap();
    quantize.record(&mut recorder, case.m).unwrap();
    recorder.submit().unwrap();
    (codes, case.pack(pool, Arithmetic::Int8))
}

#[test]
fn integer_products_are_exact() {
    let Some(gpu) = test_gpu() else { return };
    let pool = Pool::with_isa(1, Isa::Scalar).unwrap();
    for (plan, cases) in trials(&gpu, Variant::Integer) {
        for case in cases {
            let (codes, packed) = quantized(&gpu, &pool, &case);
            let weights = matrix(&gpu, &case);
            let out = Rows::new(&gpu, "out", Element::F32, case.m, case.n).unwrap();
            let name = format!("{plan}, {}", case.name(Isa::Scalar));
            let descriptor = MatmulDescriptor {
                activations: Operand::Quantized(&codes),
                weights: &weights,
                epilogue: Epilogue::default(),
                output: &out,
                placement: Placement::IDENTITY,
            };
            let integers = Matmul::accumulators(&gpu, plan, &descriptor, out.buffer(), case.m);
            let mut recorder = Recorder::new(&gpu, "accumulators").unwrap();
            integers.unwrap().record(&mut recorder, case.m).unwrap();
            recorder.submit().unwrap();
            let stride = row_stride(case.n);
            let sums = gpu.download::<i32>(out.buffer(), 0..case.m * stride).unwrap();
            let sums = sums.chunks(stride).flat_map(|row| &row[..case.n]);
            let sums: Vec<i64> = sums.copied().map(i64::from).collect();
            assert_eq!(sums, case.accumulators(&packed), "{name}");

            let epilogue = Epilogue::default();
            let y = product(&gpu, plan, descriptor.activations, &weights, epilogue, &out, case.m);
            check(&name, &case.operands(dequantized(&packed)), INTEGER_TOLERANCE, &y);
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
fn activations_are_quantised_as_on_the_cpu() {
    let Some(gpu) = test_gpu() else { return };
    let pool = Pool::with_isa(1, Isa::Scalar).unwrap();
    let mut samples = Samples::new(5);
    // Rows of all magnitudes, odd ranges, halves between codes, and what is not finite.
    let mut rows: Vec<[f32; 19]> = (-37..38)
        .map(|power| std::array::from_fn(|_| samples.float(10.0_f32.powi(power))))
        .collect();
    rows.extend((0..40).map(|_| std::array::from_fn(|_| samples.float(3.0))));
    rows.push(std::array::from_fn(|index| index as f32 - 127.5));
    rows.push([0.0; 19]);
    rows.push([1e-38; 19]);
    rows.push([-5.0; 19]);
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
        let mut row = [-1e38; 19];
        row[18] = odd;
        rows.push(row);
    }
    let a = rows.concat();
    let case =
        Case { m: rows.len(), n: 1, k: 19, a, ..Case::new(Width::Two, (1, 1, 19), Fill::Zeros, 0) };
    let (codes, packed) = quantized(&gpu, &pool, &case);
    let (expected_codes, expected_scales, expected_zeros) = packed.to_codes();
    let QuantizedRows { codes, scales, zeros } = codes.read(&gpu, case.m).unwrap();
    let bits = |scales: Vec<f32>| -> Vec<u32> {
        scales.iter().map(|scale| if scale.is_nan() { 1 } else { scale.to_bits() }).collect()
    };
    assert_eq!(bits(scales), bits(expected_scales));
    assert_eq!(zeros, expected_zeros);
    assert_eq!(codes, expected_codes);
}

#[test]
fn a_matrix_takes_the_memory_of_its_codes() {
    let Some(gpu) = test_gpu() else { return };
    for (width, bits) in [
        (Width::Ternary, 2),
        (Width::Two, 2),
        (Width::Three, 3),
        (Width::Four, 4),
        (Width::Eight, 8),
    ] {
        let (n, k) = (8, 768);
        let packed = pack::pack(width, n, k, &vec![1; n * k]).unwrap();
        let matrix =
            Matrix::from_codes(&gpu, width, (n, k), &packed, &[1.0; 8], &[0.0; 8]).unwrap();
        assert_eq!(matrix.resident_bytes(), (n * k * bits / 8 + 12 * n) as u64, "{width:?}");
    }
}
