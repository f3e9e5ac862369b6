//! Models with random weights in timm's names and shapes, for speed work where no checkpoint is at
//! hand.

use std::collections::BTreeMap;
use std::path::Path;

use fresnel_runtime::cli::{Failure, check_output, write_file};
use fresnel_runtime::model::config::VitConfig;
use fresnel_runtime::{Error, ErrorKind};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::import::architecture;

/// Half the width of the weights' uniform distribution: a standard deviation of 0.02, timm's own.
const HALF_WIDTH: f32 = 0.034_641;

/// Writes `model.safetensors` and `config.json` of architecture `name` into `directory`, which is
/// created; weights depend on `seed` alone.
///
/// # Errors
/// Fails for an unknown architecture, when a file exists already and `force` is not set, and when
/// writing fails.
pub fn write(name: &str, directory: &Path, seed: u64, force: bool) -> Result<VitConfig, Failure> {
    let config = architecture::defaults(name)?;
    config.validate()?;
    let (weights_path, config_path) =
        (directory.join("model.safetensors"), directory.join("config.json"));
    std::fs::create_dir_all(directory)
        .map_err(|error| Error::io("can't create the directory", error).at_path(directory))?;
    for path in [&weights_path, &config_path] {
        check_output(path, &[], force)?;
    }

    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)> = config
        .tensors()
        .into_iter()
        .map(|spec| {
            let shape: Vec<usize> = spec.shape.iter().map(|&extent| extent as usize).collect();
            let length = shape.iter().product();
            let values = match spec.name.rsplit('.').next() {
                Some("bias") => vec![0.0; length],
                // Normalizations start as the identity.
                Some("weight") if spec.name.contains("norm") => vec![1.0; length],
                Some("gamma") => vec![0.1; length],
                _ => (0..length).map(|_| random.random_range(-HALF_WIDTH..HALF_WIDTH)).collect(),
            };
            (spec.name, (shape, values))
        })
        .collect();
    let views = tensors
        .iter()
        .map(|(name, (shape, values))| {
            TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values))
                .map(|view| (name.as_str(), view))
                .map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()).at_tensor(name))
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let bytes = safetensors::serialize(views, None)
        .map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()))?;
    let hub = serde_json::json!({
        "architecture": name,
        "num_classes": config.num_classes,
        "global_pool": "token",
        "pretrained_cfg": {
            "input_size": [config.in_channels, config.image_size[0], config.image_size[1]],
            "interpolation": "bicubic",
            "crop_pct": 0.9,
            "crop_mode": "center",
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        },
    });
    let hub = format!("{hub:#}\n");
    for (path, bytes) in [(&weights_path, &bytes[..]), (&config_path, hub.as_bytes())] {
        write_file(path, bytes, force).map_err(|error| Failure::io(path, &error))?;
    }
    Ok(config)
}
