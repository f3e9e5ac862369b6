//! Products of the cases that the kernels of the CPU are tested with, against the same oracle.

use half::f16;

use super::super::shader::{Element, TileSize};
use super::super::*;
use super::test_gpu;
use crate::matmul::tests::cases::{Case, Fill, Operands, SHAPES, cases, check, wide};
use crate::samples::Samples;
use crate::{Activations, Arithmetic, Isa, Pool, Width, reference};

/// Largest error of a product in f32, relative to the sum of the magnitudes of its terms.
const F32_TOLERANCE: f64 = 3e-5;

/// The same for an integer product of quantised activations: a few roundings, whatever the number of terms.
const INTEGER_TOLERANCE: f64 = 1e-6;

/// The same for a result that is rounded to half precision.
const HALF_RESULT: f64 = 1.0 / 2048.0;

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
    let descriptor =
        MatmulDescriptor { activations, weights, epilogue, output, placement: Placement::IDENTITY };
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

fn plans(variant: Variant) -> impl Iterator<Item = Plan> {
    TileSize::ALL.into_iter().map(move |size| Plan { variant, size })
}

/// Every case for one tile, every third one for the others.
fn chosen(plan: Plan, index: usize) -> bool {
    plan.size == TileSize::Medium || index % 3 == plan.size as usize / 2
}

#[test]
fn float_products_of_codes_agree_with_the_oracle() {
    let Some(gpu) = test_gpu() else { return };
    for (index, case) in cases().enumerate() {
        let operands = case.operands(wide(&case.a));
        let weights = matrix(&gpu, &case);
        let a = Rows::of(&gpu, "a", Element::F32, &case.a, case.k).unwrap();
        let out = Rows::new(&gpu, "out", Element::F32, case.m, case.n).unwrap();
        for plan in plans(Variant::Tiled).filter(|plan| chosen(*plan, index)) {
            let y =
                product(&gpu, plan, Operand::Rows(&a), &weights, Epilogue::default(), &out, case.m);
            check(&format!("{plan}, {}", case.name(Isa::Scalar)), &operands, F32_TOLERANCE, &y);
        }
    }
}

#[test]
fn products_of_float_matrices_agree_with_the_oracle() {
    let Some(gpu) = test_gpu() else { return };
    for (seed, (m, n, k)) in SHAPES.into_iter().enumerate() {
        let mut samples = Samples::new(seed as u64);
        let a = samples.floats(m * k, 2.0);
        let singles = samples.floats(n * k, 1.0);
        let halves: Vec<f16> = singles.iter().map(|&value| f16::from_f32(value)).collect();
        let widened: Vec<f64> = halves.iter().map(|value| value.to_f64()).collect();
        let rows = Rows::of(&gpu, "a", Element::F32, &a, k).unwrap();
        let out = Rows::new(&gpu, "out", Element::F32, m, n).unwrap();
        for (weights, matrix) in [
            (wide(&singles), Matrix::from_f32(&gpu, (n, k), &singles).unwrap()),
            (widened, Matrix::from_f16(&gpu, (n, k), &halves).unwrap()),
        ] {
            let magnitudes = weights.iter().map(|value| value.abs()).collect();
            let operands = Operands { m, n, k, a: wide(&a), magnitudes, weights };
            for plan in plans(Variant::Tiled).filter(|plan| chosen(*plan, seed)) {
                let y = product(
                    &gpu,
                    plan,
                    Operand::Rows(&rows),
                    &matrix,
                    Epilogue::default(),
                    &out,
                    m,
                );
                check(&format!("{plan}, {m} x {n} x {k}"), &operands, F32_TOLERANCE, &y);
            }
        }
    }
}

/// The activations of a case, quantised on the device and on the CPU.
fn quantized(gpu: &Gpu, pool: &Pool, case: &Case) -> (Quantized, Activations) {
    let codes = Quantized::new(gpu, case.m, case.k).unwrap();
    let numbers = Rows::of(gpu, "a", Element::F32, &case.a, case.k).unwrap();
    let mut recorder = Recorder::new(gpu, "quantise").unwrap();
    Quantize::new(gpu, &numbers, &codes).unwrap().record(&mut recorder, case.m).unwrap();
    recorder.submit().unwrap();
    (codes, case.pack(pool, Arithmetic::Int8))
}

#[test]
fn integer_products_are_exact() {
    let Some(gpu) = test_gpu() else { return };
    let pool = Pool::with_isa(1, Isa::Scalar).unwrap();
    for (index, case) in cases().enumerate() {
        let (codes, packed) = quantized(&gpu, &pool, &case);
        assert_eq!(codes.read(&gpu, case.m).unwrap(), packed.to_codes());
        let weights = matrix(&gpu, &case);
        let out = Rows::new(&gpu, "out", Element::F32, case.m, case.n).unwrap();
        let operands = case.operands(dequantized(&packed));
        for plan in plans(Variant::Integer).filter(|plan| chosen(*plan, index)) {
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

            let y = product(
                &gpu,
                plan,
                descriptor.activations,
                &weights,
                Epilogue::default(),
                &out,
                case.m,
            );
            check(&name, &operands, INTEGER_TOLERANCE, &y);
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
