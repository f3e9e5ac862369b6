//! The GPU against the CPU: the same models, the same pixels.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fresnel_kernels::Arithmetic;

use crate::device::Device;
use crate::error::ErrorKind;
use crate::exec::synthetic::{file, pixels, plain_config};
use crate::exec::tests::{CHANGES, CODES};
use crate::format::{CodeWidth, Encoding};
use crate::model::config::{Pooling, VitConfig};
use crate::model::{Model, Placed};
use crate::session::{Compute, INT8_AGREEMENT, Session, SessionOptions};

/// Largest error, as a part of the largest output: sums are taken in another order than on the CPU.
const FLOAT_TOLERANCE: f32 = 1e-5;
/// f16 between the products, whose sums are f32.
const HALF_TOLERANCE: f32 = 5e-3;
/// Codes are those of the CPU, but queries, keys and values are not rounded to bytes, so that the difference is within what 8 bit
/// cost anyway; see the tolerance of the CPU against its oracle.
const INTEGER_TOLERANCE: f32 = 0.1;

const BATCH: usize = 3;

/// A device of its own, so that one that is lost concerns nobody else. `None`, which is printed, without one; a failure with
/// `FRESNEL_REQUIRE_GPU=1`.
fn gpu() -> Option<Device> {
    match Device::gpu(None) {
        Ok(device) => Some(device),
        Err(error) if std::env::var("FRESNEL_REQUIRE_GPU").is_ok_and(|value| value == "1") => {
            panic!("{error}")
        }
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

fn options(compute: Compute) -> SessionOptions {
    SessionOptions { threads: 1, compute, ..Default::default() }
}

fn run(model: &Arc<Model>, compute: Compute, pixels: &[f32], batch: usize) -> Vec<f32> {
    Session::new(model, options(compute)).unwrap().run(pixels, batch).unwrap()
}

fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
    let errors = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    // NaN is not below any tolerance.
    errors.fold(0.0, |worst, error| if error <= worst { worst } else { error }) / largest
}

/// Every mode.
const ALL: [Compute; 3] = [Compute::F32, Compute::Half, Compute::Int8];

/// Compares a model on `device` with the same one on the CPU.
fn check(device: &Device, name: &str, bytes: &[u8], config: &VitConfig, modes: &[Compute]) {
    let cpu = Model::from_bytes(bytes).unwrap();
    let gpu = Model::from_bytes_on(bytes, device).unwrap();
    let input = pixels(config, BATCH);
    let float = run(&cpu, Compute::F32, &input, BATCH);
    for &compute in modes {
        let (expected, most) = match compute {
            Compute::Int8 => (&run(&cpu, Compute::Int8, &input, BATCH), INTEGER_TOLERANCE),
            Compute::Half => (&float, HALF_TOLERANCE),
            Compute::F32 | Compute::Auto => (&float, FLOAT_TOLERANCE),
        };
        let error = difference(&run(&gpu, compute, &input, BATCH), expected);
        assert!(error < most, "{name} in {compute}: {error:e}");
    }
}

#[test]
fn the_family_is_that_of_the_cpu() {
    let Some(device) = gpu() else { return };
    for (name, change) in CHANGES {
        let mut config = plain_config();
        change(&mut config);
        // Most of a software renderer's time is spent on shaders of new sizes; those that numbers of other kinds pass through
        // differently are these.
        let differs = ["plain", "qk norm", "pre norm", "distilled", "features"].contains(name);
        let modes = if differs { &ALL[..] } else { &ALL[..1] };
        let edge = Encoding::Codes(CodeWidth::Eight);
        let bytes = file(&config, Encoding::Codes(CodeWidth::Four), edge, &[]);
        check(&device, name, &bytes, &config, modes);
    }
}

#[test]
fn poolings_are_those_of_the_cpu() {
    let Some(device) = gpu() else { return };
    for pooling in [Pooling::Average, Pooling::Max, Pooling::AverageMax] {
        for (class_token, fc_norm, pool_include_prefix, num_classes) in [
            (true, false, false, 7),
            (true, true, true, 7),
            (false, false, true, 0),
            (false, true, false, 7),
        ] {
            let config = VitConfig {
                depth: 1,
                pooling,
                class_token,
                fc_norm,
                pool_include_prefix,
                num_classes,
                ..plain_config()
            };
            let bytes = file(&config, Encoding::F16, Encoding::F32, &[]);
            check(&device, &format!("{config:?}"), &bytes, &config, &ALL[..1]);
        }
    }
}

#[test]
fn every_width_is_that_of_the_cpu() {
    let Some(device) = gpu() else { return };
    let config = VitConfig { depth: 1, layer_scale: true, ..plain_config() };
    let codes = CODES.map(Encoding::Codes);
    for linear in codes.into_iter().chain([Encoding::F16, Encoding::F32]) {
        let bytes = file(&config, linear, linear, &[]);
        check(&device, &format!("{linear:?}"), &bytes, &config, &ALL);
    }
}

#[test]
fn heads_of_every_width_run() {
    let Some(device) = gpu() else { return };
    for (embed_dim, num_heads) in [(48, 3), (64, 1), (280, 2)] {
        let config = VitConfig { embed_dim, num_heads, depth: 1, qk_norm: true, ..plain_config() };
        let bytes = file(&config, Encoding::Codes(CodeWidth::Two), Encoding::F16, &[]);
        check(&device, &format!("{num_heads} heads of {embed_dim}"), &bytes, &config, &ALL);
    }
}

#[test]
fn an_image_has_the_same_result_in_any_batch() {
    let Some(device) = gpu() else { return };
    let config = plain_config();
    let bytes = file(&config, Encoding::Codes(CodeWidth::Three), Encoding::F16, &[]);
    let model = Model::from_bytes_on(bytes, &device).unwrap();
    let batch = 9;
    let input = pixels(&config, batch);
    let image = input.len() / batch;
    for compute in [Compute::F32, Compute::Int8] {
        let mut session = Session::new(&model, options(compute)).unwrap();
        assert!(session.run(&[], 0).unwrap().is_empty());
        let expected = session.run(&input, batch).unwrap();
        for (start, count) in [(0, 1), (2, 3), (batch - 2, 2)] {
            let found = session.run(&input[start * image..][..count * image], count).unwrap();
            let expected = &expected[start * 7..][..count * 7];
            assert!(difference(&found, expected) < FLOAT_TOLERANCE, "{compute}: {start}");
        }
    }
}

#[test]
fn batches_larger_than_a_pass_are_cut() {
    let Some(device) = gpu() else { return };
    let config = VitConfig { image_size: [4, 5], depth: 1, ..plain_config() };
    let bytes = file(&config, Encoding::Codes(CodeWidth::Three), Encoding::F16, &[]);
    let model = Model::from_bytes_on(bytes, &device).unwrap();
    let most = super::ROWS_PER_PASS / config.tokens() as usize;
    // Two passes and a rest, with images that repeat.
    let batch = 2 * most + 3;
    let input = pixels(&config, 5);
    let image = input.len() / 5;
    let many: Vec<f32> =
        (0..batch).flat_map(|index| &input[index % 5 * image..][..image]).copied().collect();
    let few = run(&model, Compute::F32, &input, 5);
    let found = run(&model, Compute::F32, &many, batch);
    let expected: Vec<f32> =
        (0..batch).flat_map(|index| &few[index % 5 * 7..][..7]).copied().collect();
    assert!(difference(&found, &expected) < FLOAT_TOLERANCE);
}

#[test]
fn a_lost_device_is_an_error_and_the_model_runs_on_after_opening_again() {
    let Some(device) = gpu() else { return };
    let config = plain_config();
    let bytes = file(&config, Encoding::Codes(CodeWidth::Four), Encoding::F16, &[]);
    let input = pixels(&config, BATCH);
    let model = Model::from_bytes_on(&bytes, &device).unwrap();
    let mut session = Session::new(&model, options(Compute::F32)).unwrap();
    let expected = session.run(&input, BATCH).unwrap();
    let Device::Gpu(gpu) = &device else { panic!("{device}") };
    // Behind the session's back, while it computes.
    let owned = gpu.device().clone();
    let destroyer = std::thread::spawn(move || owned.destroy());
    let outcome = (0..100).find_map(|_| session.run(&input, BATCH).err());
    destroyer.join().unwrap();
    let error = outcome.unwrap_or_else(|| session.run(&input, BATCH).unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Device, "{error}");
    for error in [
        session.run(&input, BATCH).unwrap_err(),
        Session::new(&model, options(Compute::F32)).unwrap_err(),
        Model::from_bytes_on(&bytes, &device).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Device, "{error}");
    }
    let again = Device::gpu(None).unwrap();
    for device in [again, Device::Cpu] {
        let model = Model::from_bytes_on(&bytes, &device).unwrap();
        let found = run(&model, Compute::F32, &input, BATCH);
        assert!(difference(&found, &expected) < FLOAT_TOLERANCE, "{device}");
    }
}

/// Kernels that a session uses, and its outputs.
fn tuned(executor: &mut super::Executor, compute: Arithmetic, input: &[f32]) -> (String, Vec<f32>) {
    let mut out = Vec::new();
    executor.forward(compute, input, &mut out, |_| ()).unwrap();
    (executor.kernels(compute), out)
}

#[test]
fn measured_plans_are_used_and_compute_the_same() {
    let Some(device) = gpu() else { return };
    let Device::Gpu(gpu) = &device else { panic!("{device}") };
    let config = VitConfig { depth: 1, ..plain_config() };
    let bytes = file(&config, Encoding::Codes(CodeWidth::Four), Encoding::F16, &[]);
    let model = Model::from_bytes_on(bytes, &device).unwrap();
    let Placed::Gpu(weights) = model.placed() else { panic!("{device}") };
    let input = pixels(&config, BATCH);
    // The first and the last layer are floats. A code may round the other way where one differs in its last bit.
    let (compute, most) = (Arithmetic::Int8, 0.01);
    let executor = |autotune, budget| {
        let mut executor =
            super::Executor::new(model.config(), weights, 1, Some(autotune)).unwrap();
        executor.tuning.insert(BATCH.next_power_of_two(), budget);
        executor
    };
    let before = gpu.timings().len();
    let (chosen, expected) = tuned(&mut executor(false, Duration::MAX), compute, &input);
    // Where there is no time, nothing is measured.
    let (unmeasured, found) = tuned(&mut executor(true, Duration::ZERO), compute, &input);
    assert_eq!((unmeasured, found, gpu.timings().len()), (chosen, expected.clone(), before));
    let (measured, found) = tuned(&mut executor(true, Duration::from_secs(3600)), compute, &input);
    assert!(difference(&found, &expected) < most, "{compute:?}: {measured}");
    let timings = gpu.timings();
    for weight in [&weights.blocks[0].qkv.weight, &weights.blocks[0].fc2.weight] {
        let shape = [weight.out_features(), weight.in_features()];
        let of_product = timings
            .iter()
            .filter(|timing| (timing.arithmetic(), timing.shape()) == (compute, shape));
        let fastest = of_product.min_by(|a, b| a.row_seconds.total_cmp(&b.row_seconds));
        let plan = fastest.unwrap().plan.to_string();
        assert!(measured.contains(&plan), "{measured}: {plan} is the fastest");
    }
}

#[test]
fn sessions_measure_where_they_are_told_to() {
    let Some(device) = gpu() else { return };
    let Device::Gpu(gpu) = &device else { panic!("{device}") };
    let config = VitConfig { depth: 1, ..plain_config() };
    let bytes = file(&config, Encoding::Codes(CodeWidth::Four), Encoding::F16, &[]);
    let model = Model::from_bytes_on(bytes, &device).unwrap();
    let input = pixels(&config, 1);
    for (gpu_autotune, measures) in
        [(Some(false), false), (None, !gpu.capabilities().is_software()), (Some(true), true)]
    {
        let options = SessionOptions { gpu_autotune, ..options(Compute::F32) };
        let mut session = Session::new(&model, options).unwrap();
        let start = Instant::now();
        session.run(&input, 1).unwrap();
        println!("first logits after {:?}", start.elapsed());
        assert_eq!(!gpu.timings().is_empty(), measures, "{gpu_autotune:?}");
        assert!(session.kernel().starts_with("tiled-"), "{}", session.kernel());
        assert!(session.kernel().ends_with("-w4"), "{}", session.kernel());
    }
}

#[test]
fn an_adapter_that_does_not_exist_is_named() {
    let error = Device::gpu(Some("no such adapter")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Device);
    assert!(error.to_string().contains("no such adapter"), "{error}");
}

#[test]
fn sessions_share_a_model_and_say_what_they_run() {
    let Some(device) = gpu() else { return };
    let config = plain_config();
    let measured = [(INT8_AGREEMENT, 99.0)];
    let bytes = file(&config, Encoding::Codes(CodeWidth::Two), Encoding::F16, &measured);
    let model = Model::from_bytes_on(bytes, &device).unwrap();
    assert_eq!(model.isa(), None);
    assert!(model.resident_bytes() > 0);
    assert_eq!(model.device().to_string(), device.to_string());
    assert!(model.kernels().iter().any(|layer| layer.integer == "integer-w2"));
    let input = pixels(&config, BATCH);
    let expected = run(&model, Compute::F32, &input, BATCH);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert_eq!(run(&model, Compute::F32, &input, BATCH), expected));
        }
    });
    let mut session = Session::new(&model, options(Compute::Auto)).unwrap();
    assert_ne!(session.compute(), Compute::Auto);
    let plain = session.run(&input, BATCH).unwrap();
    let (profiled, profile) = session.run_profiled(&input, BATCH).unwrap();
    assert_eq!(plain, profiled);
    use crate::exec::profile::Operation;
    for operation in [Operation::Patches, Operation::Qkv, Operation::Attention, Operation::Head] {
        assert!(profile.entry(operation).calls > 0, "{operation:?}");
    }
}

#[test]
fn pixels_that_are_not_finite_are_refused_and_large_ones_run() {
    let Some(device) = gpu() else { return };
    let config = plain_config();
    let bytes = file(&config, Encoding::Codes(CodeWidth::Two), Encoding::F16, &[]);
    let model = Model::from_bytes_on(bytes, &device).unwrap();
    for compute in ALL {
        let mut session = Session::new(&model, options(compute)).unwrap();
        let mut input = pixels(&config, 1);
        for value in [1e30, f32::MAX, 1e-40, 0.0] {
            input.fill(value);
            assert_eq!(session.run(&input, 1).unwrap().len(), 7);
        }
        input[3] = f32::NAN;
        assert_eq!(session.run(&input, 1).unwrap_err().kind(), ErrorKind::Input);
    }
}
