//! Measured plans: the fastest of those measured, as many as there is time for.

use std::time::Duration;

use super::super::shader::Element;
use super::super::*;
use super::test_gpu;
use crate::matmul::tests::cases::{Case, Fill};
use crate::{Arithmetic, Width};

const SHAPE: (usize, usize, usize) = (33, 70, 64);
const PLENTY: Duration = Duration::from_secs(3600);

/// A product of [`SHAPE`].
struct Product {
    weights: Matrix,
    a: Rows,
    codes: Quantized,
    output: Rows,
}

impl Product {
    fn new(gpu: &Gpu) -> Product {
        let (m, n, k) = SHAPE;
        let case = Case::new(Width::Two, SHAPE, Fill::Random, 3);
        let (shape, packed) = ((n, k), case.packed());
        let (scale, offset) = (&case.scale, &case.offset);
        Product {
            weights: Matrix::from_codes(gpu, case.width, shape, &packed, scale, offset).unwrap(),
            a: Rows::of(gpu, "a", Element::F32, &case.a, k).unwrap(),
            codes: Quantized::new(gpu, m, k).unwrap(),
            output: Rows::new(gpu, "out", Element::F32, m, n).unwrap(),
        }
    }

    fn descriptor(&self, arithmetic: Arithmetic) -> MatmulDescriptor<'_> {
        MatmulDescriptor {
            activations: match arithmetic {
                Arithmetic::Int8 => Operand::Quantized(&self.codes),
                Arithmetic::Half | Arithmetic::F32 => Operand::Rows(&self.a),
            },
            weights: &self.weights,
            epilogue: Epilogue::default(),
            output: &self.output,
            placement: Placement::IDENTITY,
        }
    }
}

/// The plan of a tuner, for a share of everything.
fn plan(tuner: &mut Autotuner, product: &Product, arithmetic: Arithmetic) -> Plan {
    tuner.plan(arithmetic, &product.descriptor(arithmetic), SHAPE.0, 1.0).unwrap()
}

#[test]
fn the_fastest_plan_is_taken_and_remembered() {
    let Some(gpu) = test_gpu() else { return };
    let product = Product::new(&gpu);
    for by_device in [true, false] {
        // The clock of the host where the device has none.
        let gpu = gpu.with(|capabilities| capabilities.timestamps &= by_device);
        for arithmetic in [Arithmetic::Int8, Arithmetic::F32] {
            let mut tuner = Autotuner::new(&gpu, PLENTY);
            let chosen = plan(&mut tuner, &product, arithmetic);
            assert_eq!(tuner.untimed(), 0);
            assert!(tuner.left() < PLENTY);
            let timings = gpu.timings();
            let of_product = timings.iter().filter(|timing| timing.arithmetic() == arithmetic);
            let fastest =
                of_product.clone().min_by(|a, b| a.row_seconds.total_cmp(&b.row_seconds)).unwrap();
            assert_eq!(chosen, fastest.plan);
            assert!(of_product.clone().all(|timing| timing.row_seconds > 0.0));
            let candidates = Plan::candidates(gpu.capabilities(), arithmetic);
            let timed: Vec<Plan> = of_product.map(|timing| timing.plan).collect();
            assert_eq!(timed.len(), candidates.len());
            assert!(candidates.iter().all(|plan| timed.contains(plan)));
            // What is known costs nothing.
            let mut again = Autotuner::new(&gpu, Duration::ZERO);
            assert_eq!(plan(&mut again, &product, arithmetic), chosen);
            assert_eq!((again.untimed(), gpu.timings().len()), (0, timings.len()));
        }
    }
}

#[test]
fn what_there_is_no_time_for_is_left_for_later() {
    let Some(gpu) = test_gpu() else { return };
    let product = Product::new(&gpu);
    let rows = [SHAPE.0, SHAPE.1];
    let fallback = Plan::choose(gpu.capabilities(), Arithmetic::Int8, rows);
    let all = Plan::candidates(gpu.capabilities(), Arithmetic::Int8).len();
    let mut none = Autotuner::new(&gpu, Duration::ZERO);
    assert_eq!(plan(&mut none, &product, Arithmetic::Int8), fallback);
    assert_eq!((none.untimed(), gpu.timings().len()), (all, 0));
    // A trial that takes longer than there was is the last.
    let mut short = Autotuner::new(&gpu, Duration::from_nanos(1));
    assert_eq!(plan(&mut short, &product, Arithmetic::Int8), fallback);
    assert_eq!((short.untimed(), gpu.timings().len()), (all - 1, 1));
    assert_eq!(short.left(), Duration::ZERO);
    // The same product has the same plan, whatever was measured since.
    let mut later = Autotuner::new(&gpu, PLENTY);
    plan(&mut later, &product, Arithmetic::Int8);
    assert_eq!((later.untimed(), gpu.timings().len()), (0, all));
    assert_eq!(plan(&mut short, &product, Arithmetic::Int8), fallback);
    // Half of nothing is nothing, but what is left over comes to the next.
    let mut shared = Autotuner::new(&gpu, PLENTY);
    let descriptor = product.descriptor(Arithmetic::F32);
    shared.plan(Arithmetic::F32, &descriptor, 1, 0.0).unwrap();
    assert_eq!(shared.untimed(), Plan::candidates(gpu.capabilities(), Arithmetic::F32).len());
    shared.plan(Arithmetic::F32, &descriptor, SHAPE.0, 1.0).unwrap();
    assert!(gpu.timings().len() > all);
}

#[test]
fn half_precision_may_be_computed_in_f32_and_codes_only_as_codes() {
    let Some(gpu) = test_gpu() else { return };
    let variants = |gpu: &Gpu, arithmetic| {
        let plans = Plan::candidates(gpu.capabilities(), arithmetic);
        let mut variants: Vec<_> = plans.into_iter().map(|plan| plan.variant).collect();
        variants.dedup();
        variants
    };
    let card = gpu.with(|capabilities| {
        capabilities.limits.max_compute_workgroup_storage_size = 48 << 10;
        let edge = 16;
        capabilities.cooperative = Some(shader::Matrices { edge, subgroup: 32, emulated: false });
    });
    assert_eq!(variants(&card, Arithmetic::Half), [Variant::Cooperative, Variant::Tiled]);
    let plain = gpu.with(|capabilities| capabilities.cooperative = None);
    assert_eq!(variants(&plain, Arithmetic::Half), [Variant::Tiled]);
    for gpu in [&card, &plain] {
        assert_eq!(variants(gpu, Arithmetic::Int8), [Variant::Integer]);
        assert_eq!(variants(gpu, Arithmetic::F32), [Variant::Tiled]);
    }
}
