//! What is done with a product, where it is put, and what is refused.

use super::super::shader::{Element, Matrices, TileSize};
use super::super::*;
use super::test_gpu;
use crate::matmul::tests::cases::{Case, Fill, wide};
use crate::samples::Samples;
use crate::{Activation, Arithmetic, Width, reference};

const SHAPE: (usize, usize, usize) = (5, 11, 20);

/// A product of [`SHAPE`] and what its epilogue adds.
struct Setup {
    gpu: Gpu,
    weights: Matrix,
    a: Rows,
    bias: Buffer,
    layer_scale: Buffer,
    residual: Rows,
    /// In f64: the product, bias, layer scale and residual.
    expected: [Vec<f64>; 4],
}

impl Setup {
    fn new(gpu: Gpu) -> Setup {
        let (m, n, k) = SHAPE;
        let case = Case::new(Width::Four, SHAPE, Fill::Random, 3);
        let mut samples = Samples::new(4);
        let bias = samples.floats(n, 1.0);
        let layer_scale = samples.floats(n, 1.0);
        let residual = samples.floats(m * n, 1.0);
        let product = reference::matmul(&wide(&case.a), m, &case.weights(), n, k);
        Setup {
            weights: Matrix::from_codes(
                &gpu,
                case.width,
                (n, k),
                &case.packed(),
                &case.scale,
                &case.offset,
            )
            .unwrap(),
            a: Rows::of(&gpu, "a", Element::F32, &case.a, k).unwrap(),
            bias: gpu.buffer_of("bias", &bias).unwrap(),
            layer_scale: gpu.buffer_of("layer scale", &layer_scale).unwrap(),
            residual: Rows::of(&gpu, "residual", Element::F32, &residual, n).unwrap(),
            expected: [product, wide(&bias), wide(&layer_scale), wide(&residual)],
            gpu,
        }
    }

    fn run(
        &self,
        variant: Variant,
        epilogue: Epilogue<'_>,
        output: &Rows,
        placement: Placement,
    ) -> Result<(), GpuError> {
        let descriptor = MatmulDescriptor {
            activations: Operand::Rows(&self.a),
            weights: &self.weights,
            epilogue,
            output,
            placement,
        };
        let matmul = Matmul::new(&self.gpu, Plan { variant, size: TileSize::Small }, &descriptor)?;
        let mut recorder = Recorder::new(&self.gpu, "product")?;
        matmul.record(&mut recorder, SHAPE.0)?;
        recorder.submit().map(|_| ())
    }
}

fn close(found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*found) - expected).abs();
        assert!(error <= tolerance * expected.abs().max(1.0), "{index}: {found} is not {expected}");
    }
}

#[test]
fn the_epilogue_is_applied_in_order() {
    let Some(gpu) = test_gpu() else { return };
    let emulated = Some(Matrices::emulated(16));
    let setup = Setup::new(gpu.with(|capabilities| capabilities.cooperative = emulated));
    let (m, n, _) = SHAPE;
    let [product, bias, layer_scale, residual] = &setup.expected;
    let functions = [None].into_iter().chain(Activation::ALL.map(Some));
    for (index, activation) in functions.enumerate() {
        let element = [Element::F32, Element::F16][index % 2];
        let variant = [Variant::Tiled, Variant::Cooperative][index / 2];
        let tolerance =
            if (element, variant) == (Element::F32, Variant::Tiled) { 2e-5 } else { 4e-3 };
        let epilogue = Epilogue {
            bias: Some(&setup.bias),
            activation,
            layer_scale: (index > 0).then_some(&setup.layer_scale),
            residual: match index {
                0 => None,
                1 => Some(Residual::Rows(&setup.residual)),
                _ => Some(Residual::InPlace),
            },
        };
        let expected: Vec<f64> = (0..m * n)
            .map(|at| {
                let y = product[at] + bias[at % n];
                let y = activation.map_or(y, |activation| reference::activation(activation, y));
                match index {
                    0 => y,
                    _ => y * layer_scale[at % n] + residual[at],
                }
            })
            .collect();
        let stream: Vec<f32> = residual.iter().map(|&value| value as f32).collect();
        let output = Rows::of(&setup.gpu, "out", element, &stream, n).unwrap();
        setup.run(variant, epilogue, &output, Placement::IDENTITY).unwrap();
        close(&output.read(&setup.gpu, m).unwrap(), &expected, tolerance);
    }
}

#[test]
fn rows_are_put_where_the_placement_says() {
    let Some(gpu) = test_gpu() else { return };
    let setup = Setup::new(gpu);
    let (m, n, _) = SHAPE;
    let [product, _, _, residual] = &setup.expected;
    // Two rows of each three, and the first two of the residual for every group.
    let placement = Placement { group: 2, step: 3, first: 1 };
    let stream = vec![7.0; 8 * n];
    let output = Rows::of(&setup.gpu, "out", Element::F32, &stream, n).unwrap();
    let shared = setup.residual.reshaped(2, n).unwrap();
    let epilogue = Epilogue { residual: Some(Residual::Rows(&shared)), ..Epilogue::default() };
    setup.run(Variant::Tiled, epilogue, &output, placement).unwrap();
    let mut expected = vec![7.0; 8 * n];
    for (row, values) in product.chunks(n).enumerate() {
        for (column, value) in values.iter().enumerate() {
            expected[(row / 2 * 3 + 1 + row % 2) * n + column] =
                value + residual[row % 2 * n + column];
        }
    }
    assert_eq!(m, 5);
    close(&output.read(&setup.gpu, 8).unwrap(), &expected, 2e-5);
    // The last row would be row 7 of the output.
    let short = output.reshaped(7, n).unwrap();
    let error = setup.run(Variant::Tiled, Epilogue::default(), &short, placement).unwrap_err();
    assert!(matches!(error, GpuError::Length { .. }), "{error}");
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let Some(gpu) = test_gpu() else { return };
    let setup = Setup::new(gpu.with(|capabilities| capabilities.cooperative = None));
    let (m, n, _) = SHAPE;
    let output = Rows::new(&setup.gpu, "out", Element::F32, m, n).unwrap();
    let few = setup.gpu.buffer("bias", 4 * n as u64 - 4).unwrap();
    let wide = Rows::new(&setup.gpu, "out", Element::F32, m, n + 1).unwrap();
    let same = Epilogue { residual: Some(Residual::Rows(&output)), ..Epilogue::default() };
    let short = Epilogue { bias: Some(&few), ..Epilogue::default() };
    let none = Epilogue::default();
    let nowhere = Placement { group: 0, step: 0, first: 0 };
    let identity = Placement::IDENTITY;
    let length = |error: &GpuError| matches!(error, GpuError::Length { .. });
    let limit = |error: &GpuError| matches!(error, GpuError::Limit { .. });
    let refused = |error: &GpuError| matches!(error, GpuError::Refused { .. });
    for (variant, epilogue, output, placement, expected) in [
        (Variant::Tiled, short, &output, identity, &length as &dyn Fn(&GpuError) -> bool),
        (Variant::Tiled, none, &wide, identity, &length),
        (Variant::Tiled, none, &output, nowhere, &length),
        (Variant::Tiled, same, &output, identity, &refused),
        (Variant::Integer, none, &output, identity, &refused),
        (Variant::Cooperative, none, &output, identity, &limit),
    ] {
        let error = setup.run(variant, epilogue, output, placement).unwrap_err();
        assert!(expected(&error), "{error}");
    }
    // The device is none the worse for it.
    setup.run(Variant::Tiled, none, &output, identity).unwrap();
    close(&output.read(&setup.gpu, m).unwrap(), &setup.expected[0], 2e-5);
}

#[test]
fn large_products_are_cut_into_short_dispatches() {
    let Some(gpu) = test_gpu() else { return };
    // A tile of rows a dispatch, and a parameter block and a submission for each.
    let setup = Setup::new(gpu.with(|capabilities| {
        capabilities.limits.max_compute_workgroups_per_dimension = 1;
        capabilities.immediates = false;
    }));
    let (_, n, k) = SHAPE;
    let mut samples = Samples::new(9);
    let a = samples.floats(100 * k, 1.0);
    let case = Case::new(Width::Four, SHAPE, Fill::Random, 3);
    let expected = reference::matmul(&wide(&a), 100, &case.weights(), n, k);
    let a = Rows::of(&setup.gpu, "a", Element::F32, &a, k).unwrap();
    let output = Rows::new(&setup.gpu, "out", Element::F32, 100, n).unwrap();
    let descriptor = MatmulDescriptor {
        activations: Operand::Rows(&a),
        weights: &setup.weights,
        epilogue: Epilogue::default(),
        output: &output,
        placement: Placement::IDENTITY,
    };
    let plan = Plan { variant: Variant::Tiled, size: TileSize::Small };
    let matmul = Matmul::new(&setup.gpu, plan, &descriptor).unwrap();
    let mut recorder = Recorder::new(&setup.gpu, "product").unwrap();
    matmul.record(&mut recorder, 100).unwrap();
    recorder.submit().unwrap();
    close(&output.read(&setup.gpu, 100).unwrap(), &expected, 2e-5);
}

#[test]
fn a_plan_follows_from_the_device_and_the_shape() {
    let Some(gpu) = test_gpu() else { return };
    let mut capabilities = gpu.capabilities().clone();
    capabilities.device_type = wgpu::DeviceType::DiscreteGpu;
    capabilities.limits.max_compute_workgroup_storage_size = 48 << 10;
    capabilities.cooperative = Some(Matrices { edge: 16, subgroup: 32, emulated: false });
    let plan = |arithmetic, shape| Plan::choose(&capabilities, arithmetic, shape).to_string();
    assert_eq!(plan(Arithmetic::Half, [64 * 197, 768]), "cooperative-large");
    assert_eq!(plan(Arithmetic::Half, [1, 1000]), "cooperative-small");
    assert_eq!(plan(Arithmetic::Int8, [64 * 197, 768]), "integer-large");
    assert_eq!(plan(Arithmetic::F32, [197, 3072]), "tiled-medium");
    for text in ["cooperative-large", "integer-medium", "tiled-small"] {
        assert_eq!(text.parse::<Plan>().unwrap().to_string(), text);
    }
    assert!("tiled".parse::<Plan>().is_err());
    // A device with little workgroup memory, and one without cooperative matrices.
    capabilities.limits.max_compute_workgroup_storage_size = 16 << 10;
    let plan = Plan::choose(&capabilities, Arithmetic::Half, [64 * 197, 768]);
    assert!(plan.check(&capabilities).is_ok(), "{plan}");
    capabilities.cooperative = None;
    let plan = Plan::choose(&capabilities, Arithmetic::Half, [64 * 197, 768]);
    assert_eq!(plan.to_string(), "tiled-large");
}
