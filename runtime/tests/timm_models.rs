//! The forward pass against timm's: models with inputs and outputs that timm computed, stored as
//! 32-bit models in memory. They lie outside of the repository, in the folder that `FRESNEL_SHARED`
//! names (by default `shared` beside the workspace); where there is none, the checks are skipped.

mod fixture;

use std::borrow::Cow;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use fixture::deit_tiny;
use fresnel_runtime::format::{
    CropMode, Encoding, Interpolation, ManifestParts, Preprocessing, TensorData, encode,
};
use fresnel_runtime::model::config::VitConfig;
use fresnel_runtime::{Compute, Model, Session, SessionOptions};
use safetensors::{Dtype, SafeTensors};

/// Largest error, as a part of the largest logit.
const TOLERANCE: f32 = 1e-4;

fn models() -> Option<PathBuf> {
    let shared = match std::env::var_os("FRESNEL_SHARED") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
    };
    let models = shared.join("models");
    if !models.is_dir() {
        // Not `println!`, which the test runner keeps to itself when a test passes.
        let _ = writeln!(std::io::stderr(), "skipped: no folder {}", models.display());
        return None;
    }
    Some(models)
}

/// The sizes that the tiny variants share.
fn tiny() -> VitConfig {
    VitConfig {
        image_size: [64, 64],
        embed_dim: 96,
        depth: 2,
        mlp_hidden: 384,
        num_classes: 10,
        ..deit_tiny()
    }
}

fn load(path: &Path, config: VitConfig) -> std::sync::Arc<Model> {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors: Vec<TensorData> = file
        .iter()
        .map(|(name, tensor)| {
            assert_eq!(tensor.dtype(), Dtype::F32, "{name}");
            TensorData {
                name: name.to_owned(),
                shape: tensor.shape().iter().map(|&size| size as u32).collect(),
                encoding: Encoding::F32,
                bytes: Cow::Borrowed(tensor.data()),
            }
        })
        .collect();
    let parts = ManifestParts {
        preprocessing: Preprocessing {
            input_size: config.image_size,
            crop_pct: 0.9,
            crop_mode: CropMode::Center,
            interpolation: Interpolation::Bicubic,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        },
        config,
        class_names: Vec::new(),
        recipe: Vec::new(),
        provenance: Vec::new(),
        measured: Vec::new(),
        metadata: Vec::new(),
    };
    Model::from_bytes(encode(&parts, &tensors).unwrap()).unwrap()
}

fn tensor(path: &Path, name: &str) -> (Vec<usize>, Vec<f32>) {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor(name).unwrap();
    let numbers = tensor.data().as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk));
    (tensor.shape().to_vec(), numbers.collect())
}

fn check(weights: &str, reference: &str, config: VitConfig) {
    let Some(models) = models() else { return };
    let model = load(&models.join(weights).join("model.safetensors"), config);
    let reference = models.join(reference).join("reference.safetensors");
    let (shape, input) = tensor(&reference, "input");
    let (_, expected) = tensor(&reference, "logits");
    let options = SessionOptions { compute: Compute::F32, ..Default::default() };
    let found = Session::new(&model, options).unwrap().run(&input, shape[0]).unwrap();
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0, |max: f32, value| max.max(value.abs()));
    let error = found.iter().zip(&expected).map(|(f, e)| (f - e).abs()).fold(0.0, f32::max);
    println!("{weights}: error {:.2e} of the largest logit", error / largest);
    assert!(error < TOLERANCE * largest, "{weights}: {error} of {largest}");
}

#[test]
fn deit_tiny_matches_timm() {
    check("deit_tiny_patch16_224", "deit_tiny_patch16_224", deit_tiny());
}

/// The same function with LayerScale, so the same reference.
#[test]
fn deit_tiny_with_layer_scale_matches_timm() {
    let config = VitConfig { layer_scale: true, ..deit_tiny() };
    check("deit_tiny_layerscale_synthetic", "deit_tiny_patch16_224", config);
}

#[test]
fn deit3_like_matches_timm() {
    let config = VitConfig { layer_scale: true, no_embed_class: true, ..tiny() };
    check("tiny_variants/deit3_like", "tiny_variants/deit3_like", config);
}

#[test]
fn distilled_matches_timm() {
    let config = VitConfig { distillation_token: true, ..tiny() };
    check("tiny_variants/distilled", "tiny_variants/distilled", config);
}

#[test]
fn dinov2_with_registers_matches_timm() {
    let config = VitConfig {
        image_size: [70, 70],
        patch_size: [14, 14],
        layer_scale: true,
        no_embed_class: true,
        register_tokens: 4,
        num_classes: 0,
        ..tiny()
    };
    check("tiny_variants/dinov2_reg4", "tiny_variants/dinov2_reg4", config);
}
