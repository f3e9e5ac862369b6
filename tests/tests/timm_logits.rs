//! The float model in the runtime against timm's own logits, through the command line.

use std::fs;
use std::path::{Path, PathBuf};

use fresnel_quantizer::device::read;
use fresnel_quantizer::import::{self, Source};
use fresnel_quantizer::vit::Vit;
use fresnel_tests::programs::fresnel;
use fresnel_tests::{devices, fixture, real_data};
use safetensors::SafeTensors;

/// Largest difference to timm, as a share of the largest logit.
const TOLERANCE: f32 = 1e-4;

fn tensor(path: &Path, name: &str) -> Vec<f32> {
    let bytes = fs::read(path).expect("a safetensors file");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let view = file.tensor(name).expect("the tensor");
    view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

/// Stores the checkpoint in `folder` at 32 bits, runs it on `reference`'s input and compares.
fn assert_reproduces(folder: &Path, reference: &Path) {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let (file, output) = (scratch.path().join("m.fresnel"), scratch.path().join("o.safetensors"));
    let text = |path: &Path| path.to_str().expect("a UTF-8 path").to_owned();
    fresnel(&["quantize", &text(folder), "--bits", "32", "-o", &text(&file)]).success();
    fresnel(&[
        "run",
        &text(&file),
        "--input",
        &text(reference),
        "--output",
        &text(&output),
        "--compute",
        "f32",
    ])
    .success();
    let (found, expected) = (tensor(&output, "logits"), tensor(reference, "logits"));
    assert_eq!(found.len(), expected.len(), "{}: number of logits", folder.display());
    let difference: Vec<f32> = found.iter().zip(&expected).map(|(a, b)| a - b).collect();
    let relative = largest(&difference) / largest(&expected);
    println!("{}: {relative:.1e} of the largest logit", folder.display());
    assert!(relative <= TOLERANCE, "{}: off by {relative:e}", folder.display());
}

fn tiny_variants() -> Vec<PathBuf> {
    let mut folders: Vec<_> = fs::read_dir(fixture("tiny_variants"))
        .expect("fixtures")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    assert!(folders.len() >= 3, "{} variants", folders.len());
    folders
}

/// The forward pass that calibration and tuning use, on every device of the host.
#[test]
fn the_quantizers_own_forward_pass_reproduces_timm() {
    for folder in tiny_variants() {
        let source = Source::locate(&folder, None).expect("a checkpoint");
        let model = import::load(&source).expect("a model");
        let reference = folder.join("reference.safetensors");
        let (pixels, expected) = (tensor(&reference, "input"), tensor(&reference, "logits"));
        let images = expected.len() / model.config.output_features() as usize;
        for device in devices("the quantizer's forward pass") {
            let vit = Vit::load(&device, &model);
            let stream = vit.embedding.forward(&device, pixels.clone(), images);
            let found = read(vit.logits(stream)).expect("logits");
            let difference: Vec<f32> = found.iter().zip(&expected).map(|(a, b)| a - b).collect();
            let relative = largest(&difference) / largest(&expected);
            println!("{} on {device}: {relative:.1e}", folder.display());
            assert!(relative <= TOLERANCE, "{} on {device}: {relative:e}", folder.display());
        }
    }
}

#[test]
fn small_models_of_every_kind_reproduce_timm() {
    for folder in tiny_variants() {
        assert_reproduces(&folder, &folder.join("reference.safetensors"));
    }
}

#[test]
fn deit_tiny_and_its_layer_scale_twin_reproduce_timm() {
    let Some(data) = real_data("DeiT-Tiny against timm's logits") else { return };
    let deit = data.join("models/deit_tiny_patch16_224");
    let reference = deit.join("reference.safetensors");
    assert_reproduces(&deit, &reference);
    assert_reproduces(&data.join("models/deit_tiny_layerscale_synthetic"), &reference);
}
