//! The device layer: data there and back, errors that are errors.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::super::shader::{ParameterSpace, Template};
use super::super::*;
use super::test_gpu;

const SCALE: &str = "
struct Parameters { count: u32, factor: f32 }
$PARAMETERS
@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read_write> output: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    if id.x < parameters.count { output[id.x] = parameters.factor * input[id.x]; }
}
";

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Scale {
    count: u32,
    factor: f32,
}

fn scale_kernel(gpu: &Gpu) -> Result<Kernel, GpuError> {
    let source = KernelSource {
        name: "scale",
        text: &Template::new(gpu.parameter_space(), &[SCALE]).render(),
        buffers: &[Access::Read, Access::Write],
        parameter_bytes: 8,
    };
    gpu.kernel(&source)
}

/// Doubles `values`, many dispatches in a row.
fn scaled(gpu: &Gpu, values: &[f32], times: usize) -> Result<Vec<f32>, GpuError> {
    let kernel = scale_kernel(gpu)?;
    let buffers = [gpu.buffer_of("a", values)?, gpu.buffer("b", size_of_val(values) as u64)?];
    let there = gpu.bind(&kernel, &[buffers[0].whole(), buffers[1].whole()])?;
    let back = gpu.bind(&kernel, &[buffers[1].whole(), buffers[0].whole()])?;
    let mut recorder = Recorder::new(gpu, "scale")?;
    for step in 0..times {
        let arguments = if step % 2 == 0 { &there } else { &back };
        let parameters = Scale { count: values.len() as u32, factor: 2.0 };
        recorder.dispatch(arguments, &parameters, [values.len().div_ceil(64) as u32, 1, 1]);
    }
    let readback = recorder.read_back(&buffers[times % 2], 0..values.len())?;
    recorder.submit()?;
    readback.wait()
}

#[test]
fn data_comes_back_as_it_was() {
    let Some(gpu) = test_gpu() else { return };
    let bytes: Vec<u8> = (0..1001).map(|index| (index % 251) as u8).collect();
    let buffer = gpu.buffer_of("bytes", &bytes).unwrap();
    assert_eq!(buffer.bytes(), 1001);
    for range in [0..1001, 0..0, 3..7, 998..1001, 1001..1001] {
        assert_eq!(gpu.download::<u8>(&buffer, range.clone()).unwrap(), bytes[range]);
    }
    gpu.upload(&buffer, 4, &[7_u8, 8, 9, 10]).unwrap();
    assert_eq!(gpu.download::<u8>(&buffer, 3..9).unwrap(), [3, 7, 8, 9, 10, 8]);
    let error = gpu.download::<u32>(&buffer, 250..251).unwrap_err();
    assert!(matches!(error, GpuError::Length { .. }), "{error}");
    let error = gpu.upload(&buffer, 1000, &[1_u32]).unwrap_err();
    assert!(matches!(error, GpuError::Length { .. }), "{error}");
}

#[test]
fn dispatches_run_in_order_with_parameters_of_their_own() {
    let Some(gpu) = test_gpu() else { return };
    let values: Vec<f32> = (0..100).map(|index| index as f32).collect();
    let doubled: Vec<f32> = values.iter().map(|value| value * 64.0).collect();
    assert_eq!(scaled(&gpu, &values, 6).unwrap(), doubled);
    // More than one block of parameters, and the blocks used again.
    let gpu = gpu.with(|capabilities| capabilities.immediates = false);
    for _ in 0..2 {
        assert_eq!(scaled(&gpu, &values, 6).unwrap(), doubled);
        let zeros = vec![0.0; 100];
        assert_eq!(scaled(&gpu, &zeros, 1000).unwrap(), zeros);
    }
    let one = scaled(&gpu, &[2.0_f32.powi(-120)], 240).unwrap();
    assert_eq!(one, [2.0_f32.powi(120)]);
}

#[test]
fn a_kernel_is_compiled_once_and_refused_when_wrong() {
    let Some(gpu) = test_gpu() else { return };
    scale_kernel(&gpu).unwrap();
    scale_kernel(&gpu).unwrap();
    assert_eq!(gpu.kernels().len(), 1);
    let source = KernelSource { name: "wrong", text: "fn", buffers: &[], parameter_bytes: 0 };
    let error = gpu.kernel(&source).unwrap_err();
    assert!(matches!(&error, GpuError::Refused { what, .. } if what == "wrong"), "{error}");
    // The device is none the worse for it.
    assert_eq!(scaled(&gpu, &[1.5], 1).unwrap(), [3.0]);
}

#[test]
fn more_than_the_device_offers_is_refused() {
    let Some(gpu) = test_gpu() else { return };
    let limits = gpu.capabilities().limits.clone();
    for bytes in [limits.max_storage_buffer_binding_size + 1, u64::MAX] {
        let error = gpu.buffer("too large", bytes).unwrap_err();
        assert!(matches!(error, GpuError::Limit { needed, .. } if needed == bytes), "{error}");
    }
    let kernel = scale_kernel(&gpu).unwrap();
    let buffers = [gpu.buffer("a", 4).unwrap(), gpu.buffer("b", 4).unwrap()];
    let arguments = gpu.bind(&kernel, &[buffers[0].whole(), buffers[1].whole()]).unwrap();
    let mut recorder = Recorder::new(&gpu, "too many").unwrap();
    let most = limits.max_compute_workgroups_per_dimension;
    recorder.dispatch(&arguments, &Scale { count: 0, factor: 0.0 }, [most + 1, 1, 1]);
    let error = recorder.submit().unwrap_err();
    assert!(matches!(error, GpuError::Limit { .. }), "{error}");
}

#[test]
fn an_adapter_that_there_is_not_is_an_error_with_the_names_of_those_there_are() {
    for text in ["no such adapter", "9999"] {
        let selector: Selector = text.parse().unwrap();
        let Err(GpuError::NoAdapter { selector, found }) = Gpu::open(&selector) else {
            panic!("opened {text}")
        };
        assert_eq!((selector.as_str(), found.len()), (text, adapters().len()));
    }
}

#[test]
fn selectors_are_read_from_their_text() {
    for (text, expected) in [
        ("", Selector::Auto),
        ("Auto", Selector::Auto),
        ("2", Selector::Index(2)),
        ("Vulkan", Selector::Backend(wgpu::Backend::Vulkan)),
        ("GeForce", Selector::Name("GeForce".to_owned())),
    ] {
        assert_eq!(text.parse::<Selector>().unwrap(), expected);
    }
}

#[test]
fn what_was_never_submitted_is_not_read_back() {
    let Some(gpu) = test_gpu() else { return };
    let buffer = gpu.buffer_of("values", &[1.0_f32; 64]).unwrap();
    let mut recorder = Recorder::new(&gpu, "given up").unwrap();
    let readback = recorder.read_back::<f32>(&buffer, 0..64).unwrap();
    drop(recorder);
    let error = readback.wait().unwrap_err();
    assert!(matches!(error, GpuError::Refused { .. }), "{error}");
}

#[test]
fn a_lost_device_is_an_error_and_no_hang() {
    let Some(gpu) = test_gpu() else { return };
    let start = Instant::now();
    let buffer = gpu.buffer_of("values", &[1.0_f32; 64]).unwrap();
    let mut recorder = Recorder::new(&gpu, "in the middle").unwrap();
    let readback = recorder.read_back::<f32>(&buffer, 0..64).unwrap();
    // Behind our back, as a driver would.
    gpu.device().destroy();
    let submitted = recorder.submit().and_then(|_| readback.wait());
    assert!(matches!(submitted, Err(GpuError::Lost { .. })), "{submitted:?}");
    for error in [
        gpu.download::<f32>(&buffer, 0..64).unwrap_err(),
        gpu.upload(&buffer, 0, &[0.0_f32]).unwrap_err(),
        gpu.buffer("another", 64).unwrap_err(),
        gpu.clone().check().unwrap_err(),
    ] {
        assert!(matches!(error, GpuError::Lost { .. }), "{error}");
    }
    assert!(start.elapsed().as_secs() < 60);
}

/// With one thread a device that its owner destroys behind our back, with several one that is given up.
#[test]
fn a_device_lost_while_it_computes_is_an_error_without_a_panic() {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.location().is_some_and(|location| location.file().contains("wgpu")) {
            PANICS.fetch_add(1, Ordering::Relaxed);
        }
        hook(info);
    }));
    for delay in 0..20 {
        let Some(gpu) = test_gpu() else { return };
        let until_lost = || loop {
            if let Err(error) = scaled(&gpu, &[1.5; 1000], 100) {
                break error;
            }
        };
        let threads = 1 + delay % 2 * 2;
        let errors = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(until_lost)).collect();
            std::thread::sleep(Duration::from_micros(500 * delay));
            match threads {
                1 => gpu.device().destroy(),
                _ => gpu.destroy(),
            }
            workers.into_iter().map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
        });
        for error in errors {
            assert!(matches!(error, GpuError::Lost { .. }), "{error}");
        }
    }
    assert_eq!(PANICS.load(Ordering::Relaxed), 0);
}

#[test]
fn a_device_given_up_is_lost() {
    let Some(gpu) = test_gpu() else { return };
    gpu.clone().destroy();
    assert!(matches!(scaled_error(&gpu), GpuError::Lost { .. }));
}

fn scaled_error(gpu: &Gpu) -> GpuError {
    gpu.buffer("another", 64).unwrap_err()
}

#[test]
fn a_wrapped_device_works_and_reports_its_loss() {
    let Some(owner) = test_gpu() else { return };
    let gpu = Gpu::wrap(owner.device().clone(), owner.queue().clone(), &[]);
    assert_eq!(scaled(&gpu, &[1.5], 1).unwrap(), [3.0]);
    let buffer = gpu.buffer_of("values", &[1.0_f32; 64]).unwrap();
    owner.device().destroy();
    let error = gpu.download::<f32>(&buffer, 0..64).unwrap_err();
    assert!(matches!(error, GpuError::Lost { .. }), "{error}");
}

#[test]
fn parameters_are_declared_where_the_device_expects_them() {
    let text = |space| Template::new(space, &[SCALE]).render();
    assert!(text(ParameterSpace::Immediate).contains("var<immediate> parameters"));
    assert!(text(ParameterSpace::Uniform).contains("@group(1) @binding(0) var<uniform>"));
}
