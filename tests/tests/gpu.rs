//! Models on a GPU, through the command line and against timm and the CPU. On a machine without one, a software renderer will
//! do; with neither, the tests say that they are skipped, which `FRESNEL_REQUIRE_GPU=1` makes a failure.

use std::fs;
use std::path::{Path, PathBuf};

use fresnel_quantizer::device::Device;
use fresnel_quantizer::digits::{self, Digits};
use fresnel_runtime::{Compute, Model, Session, SessionOptions};
use fresnel_tests::programs::fresnel;
use fresnel_tests::scratch::Scratch;
use fresnel_tests::{devices, fixture, real_data};
use safetensors::SafeTensors;

/// Largest difference to timm, as a share of the largest logit.
const TIMM_TOLERANCE: f32 = 1e-4;

/// Digits that are classified: a software renderer has its pace.
const DIGITS: usize = 200;

fn has_gpu(test: &str) -> bool {
    devices(test).len() > 1
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}

fn tensor(path: &Path, name: &str) -> Vec<f32> {
    let bytes = fs::read(path).expect("a safetensors file");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let view = file.tensor(name).expect("the tensor");
    view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Largest difference, as a share of the largest number expected.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |worst, one| if one <= worst { worst } else { one }) / largest
}

fn first_classes(logits: &[f32], classes: usize) -> Vec<usize> {
    let first = |row: &[f32]| (0..classes).max_by(|&a, &b| row[a].total_cmp(&row[b]));
    logits.chunks(classes).map(|row| first(row).expect("a class")).collect()
}

fn quantize(scratch: &Scratch, checkpoint: &Path, bits: &str) -> String {
    let file = scratch.text(&format!("{bits}.fresnel"));
    let flags = ["--method", "rtn", "--device", "cpu", "--force"];
    fresnel(&[&["quantize", text(checkpoint), "--bits", bits, "-o", &file], &flags[..]].concat())
        .success();
    file
}

fn checkpoints() -> Vec<PathBuf> {
    let entries = fs::read_dir(fixture("tiny_variants")).expect("fixtures");
    let folders = entries.map(|entry| entry.expect("an entry").path());
    let mut folders: Vec<_> = folders.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// The float model of a checkpoint on the GPU, by the command line, on `reference`'s input.
fn assert_reproduces_timm(folder: &Path, reference: &Path) {
    let scratch = Scratch::new();
    let file = quantize(&scratch, folder, "32");
    let output = scratch.text("logits.safetensors");
    let arguments = ["run", &file, "--input", text(reference), "--output", &output];
    let flags = ["--device", "gpu", "--compute", "f32", "--json"];
    let report = fresnel(&[&arguments[..], &flags].concat()).json();
    assert_ne!(report["device"], "cpu");
    let relative = difference(&tensor(Path::new(&output), "logits"), &tensor(reference, "logits"));
    println!("{}: {relative:.1e} of the largest logit", folder.display());
    assert!(relative <= TIMM_TOLERANCE, "{}: off by {relative:e}", folder.display());
}

#[test]
fn small_models_of_every_kind_reproduce_timm() {
    if !has_gpu("timm's logits on the GPU") {
        return;
    }
    for folder in checkpoints() {
        assert_reproduces_timm(&folder, &folder.join("reference.safetensors"));
    }
}

#[test]
fn deit_tiny_reproduces_timm() {
    let Some(data) = real_data("DeiT-Tiny on the GPU") else { return };
    if has_gpu("DeiT-Tiny on the GPU") {
        let folder = data.join("models/deit_tiny_patch16_224");
        assert_reproduces_timm(&folder, &folder.join("reference.safetensors"));
    }
}

#[test]
fn digits_are_classified_as_on_the_cpu() {
    let devices = devices("digits on the GPU");
    let Some(gpu) = devices.get(1) else { return };
    let scratch = Scratch::new();
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("../quantizer/assets/digits");
    let float = digits::model().expect("the model of digits");
    let pixels = Digits::evaluation().and_then(|digits| digits.pixels(&float)).expect("digits");
    let pixels = pixels[..DIGITS].concat();
    for bits in ["2", "4"] {
        let file = quantize(&scratch, &checkpoint, bits);
        let run = |device: &fresnel_runtime::Device, compute| {
            let model = Model::open_on(&file, device).expect("a model");
            let options = SessionOptions { compute, ..SessionOptions::default() };
            let mut session = Session::new(&model, options).expect("a session");
            session.run(&pixels, DIGITS).expect("logits")
        };
        let cpu = |compute| run(Device::cpu().runtime(), compute);
        let expected = cpu(Compute::F32);
        let exact = run(gpu.runtime(), Compute::F32);
        assert!(difference(&exact, &expected) <= TIMM_TOLERANCE, "{bits} bit");
        assert_eq!(first_classes(&exact, 10), first_classes(&expected, 10), "{bits} bit");
        // Half precision and bytes move a logit here and there, and with it the odd digit that is between two classes.
        for (compute, reference, most) in
            [(Compute::Half, &expected, 0.01), (Compute::Int8, &cpu(Compute::Int8), 0.06)]
        {
            let found = run(gpu.runtime(), compute);
            let error = difference(&found, reference);
            let pairs = first_classes(&found, 10);
            let same = pairs.iter().zip(first_classes(reference, 10)).filter(|(a, b)| **a == *b);
            let same = same.count();
            println!("{bits} bit, {compute}: {error:.1e}, {same} of {DIGITS} the same");
            assert!(error <= most, "{bits} bit, {compute}: {error:e}");
            assert!(same >= DIGITS - 2, "{bits} bit, {compute}: {same} of {DIGITS} the same");
        }
    }
}

#[test]
fn commands_run_on_the_device_they_are_told() {
    let with_gpu = has_gpu("commands on the GPU");
    let scratch = Scratch::new();
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("../quantizer/assets/digits");
    let file = quantize(&scratch, &checkpoint, "2");
    let samples = checkpoint.join("samples");
    let sample = fs::read_dir(&samples).expect("samples").next().expect("a digit").expect("one");
    let sample = sample.path();
    let listed = fresnel(&["devices", "--json"]).json();
    assert_eq!(listed["gpu_support"], true);
    assert!(listed["cpu"]["isa"].is_string());
    let gpus = listed["gpus"].as_array().expect("a list");
    assert_eq!(gpus.is_empty(), !with_gpu);

    // Drivers may have something to say on standard error, too.
    let refused = |device: &str, message: &str| {
        let finished = fresnel(&["classify", &file, text(&sample), "--device", device]);
        assert_eq!(finished.code, 5, "{}", finished.stderr);
        assert!(finished.stderr.contains(message), "{}", finished.stderr);
    };
    refused("gpu:no such adapter", "no such adapter");
    assert_eq!(fresnel(&["classify", &file, text(&sample), "--device", "cuda"]).code, 2);
    let auto = fresnel(&["classify", &file, text(&sample), "--device", "auto", "--json"]).json();
    if !with_gpu {
        assert_eq!(auto["device"], "cpu");
        refused("gpu", "no GPU can be used");
        return;
    }
    let name = gpus[0]["name"].as_str().expect("a name");
    for device in ["gpu", "gpu:0", &format!("gpu:{name}")] {
        let on = |device| {
            let arguments = ["classify", &file, text(&sample), "--top", "1", "--json"];
            fresnel(&[&arguments[..], &["--device", device]].concat()).json()
        };
        let (found, expected) = (on(device), on("cpu"));
        assert!(found["device"].as_str().expect("a device").contains(name), "{found}");
        let class = |result: &serde_json::Value| result["images"][0]["classes"][0]["index"].clone();
        assert_eq!(class(&found), class(&expected));
    }
    let bench =
        ["bench", &file, "--device", "cpu,gpu", "--compute", "f32,int8", "--iterations", "1"];
    let lines = fresnel(&[&bench[..], &["--batch", "3", "--profile", "--json"]].concat()).success();
    let devices: Vec<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .map(|row| row["device"].as_str().expect("a device").to_owned())
        .collect();
    assert_eq!(devices.iter().filter(|device| *device == "cpu").count(), 2);
    assert_eq!(devices.len(), 4);
}
