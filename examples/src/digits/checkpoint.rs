//! Writes a digits model the way timm models lie on the hub: `model.safetensors` beside `config.json`.
//!
//! `timm.create_model(config["architecture"], num_classes=10, **config["model_args"])` followed by a
//! strict `load_state_dict` gives the same model in Python. `label_names`, the hub's field for them,
//! names the classes.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use super::archive::{CLASSES, SIDE};
use super::vision_transformer::{Architecture, NamedTensor};
use super::{Error, MEAN, STANDARD_DEVIATION};

/// Weights beside a configuration, by the hub's file name.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// Configuration, by the hub's file name.
pub const CONFIG_FILE: &str = "config.json";

/// Makes sure, before a long training, that it can be written to `directory`: creates the
/// directory and a file in it that is removed again.
///
/// # Errors
/// [`Error::Write`] when that fails, [`Error::Options`] when there is a model already and `force` is
/// not set.
pub fn prepare(directory: &Path, force: bool) -> Result<(), Error> {
    let existing = directory.join(WEIGHTS_FILE);
    if existing.exists() && !force {
        return Err(Error::Options(format!(
            "{} exists already; name another folder or replace it with --force",
            existing.display()
        )));
    }
    let trial = partial_path(&existing);
    fs::create_dir_all(directory)
        .and_then(|()| File::create(&trial))
        .and_then(|_| fs::remove_file(&trial))
        .map_err(|source| Error::Write { path: directory.to_owned(), source })
}

/// Writes both files into `directory`, which must exist. Each file is replaced as a whole or not at
/// all.
///
/// # Errors
/// [`Error::Write`] when a file cannot be written.
pub fn write(
    directory: &Path,
    architecture: Architecture,
    tensors: &[NamedTensor],
) -> Result<(), Error> {
    let mut config = serde_json::to_string_pretty(&config(architecture)).expect("JSON values");
    config.push('\n');
    write_file(&directory.join(WEIGHTS_FILE), &weights(tensors))?;
    write_file(&directory.join(CONFIG_FILE), config.as_bytes())
}

/// The hub configuration of a digits model.
#[must_use]
pub fn config(architecture: Architecture) -> Value {
    let label_names: Vec<String> = (0..CLASSES).map(|class| class.to_string()).collect();
    // Through text, since 0.1307 as f32 widened to f64 would be written with its rounding error.
    let decimal = |value: f32| value.to_string().parse::<f64>().expect("a decimal number");
    json!({
        "architecture": "vit_tiny_patch16_224",
        "num_classes": CLASSES,
        "num_features": architecture.embed_dim,
        "global_pool": "token",
        "model_args": {
            "img_size": SIDE,
            "patch_size": architecture.patch_size,
            "in_chans": 1,
            "embed_dim": architecture.embed_dim,
            "depth": architecture.depth,
            "num_heads": architecture.num_heads,
            "mlp_ratio": architecture.mlp_ratio,
        },
        "label_names": label_names,
        "pretrained_cfg": {
            "input_size": [1, SIDE, SIDE],
            "fixed_input_size": true,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": [decimal(MEAN)],
            "std": [decimal(STANDARD_DEVIATION)],
            "num_classes": CLASSES,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    })
}

/// The bytes of a safetensors file with `tensors` as f32. Equal tensors give equal bytes.
fn weights(tensors: &[NamedTensor]) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|tensor| tensor.values.iter().flat_map(|v| v.to_le_bytes()).collect())
        .collect();
    let views = tensors.iter().zip(&bytes).map(|(tensor, bytes)| {
        let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytes)
            .expect("the elements of a model's tensor fill its shape");
        (tensor.name.as_str(), view)
    });
    safetensors::serialize(views, None).expect("the names of a model's tensors make a small header")
}

/// Writes `bytes` to `path` by way of a sibling that is renamed once it is on disk, so that a reader
/// never sees half a file.
///
/// # Errors
/// [`Error::Write`]; the sibling is removed.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let partial = partial_path(path);
    let written = File::create(&partial)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&partial, path));
    written.map_err(|source| {
        // The error that matters is the first one.
        let _ = fs::remove_file(&partial);
        Error::Write { path: path.to_owned(), source }
    })
}

/// A hidden sibling of `path` that no other process uses.
fn partial_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.partial", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use safetensors::SafeTensors;

    use super::super::vision_transformer::VisionTransformer;
    use super::*;

    const SMALL: Architecture =
        Architecture { patch_size: 7, embed_dim: 8, depth: 2, num_heads: 2, mlp_ratio: 3 };

    fn tensors() -> Vec<NamedTensor> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        VisionTransformer::new(SMALL, &mut rng, &Device::flex()).tensors(SMALL)
    }

    #[test]
    fn writes_names_and_shapes_of_timm() {
        let bytes = weights(&tensors());
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut expected = vec![
            ("cls_token".to_owned(), vec![1, 1, 8]),
            ("pos_embed".to_owned(), vec![1, 17, 8]),
            ("patch_embed.proj.weight".to_owned(), vec![8, 1, 7, 7]),
            ("patch_embed.proj.bias".to_owned(), vec![8]),
            ("norm.weight".to_owned(), vec![8]),
            ("norm.bias".to_owned(), vec![8]),
            ("head.weight".to_owned(), vec![10, 8]),
            ("head.bias".to_owned(), vec![10]),
        ];
        for block in 0..2 {
            for (name, shape) in [
                ("norm1.weight", vec![8]),
                ("norm1.bias", vec![8]),
                ("attn.qkv.weight", vec![24, 8]),
                ("attn.qkv.bias", vec![24]),
                ("attn.proj.weight", vec![8, 8]),
                ("attn.proj.bias", vec![8]),
                ("norm2.weight", vec![8]),
                ("norm2.bias", vec![8]),
                ("mlp.fc1.weight", vec![24, 8]),
                ("mlp.fc1.bias", vec![24]),
                ("mlp.fc2.weight", vec![8, 24]),
                ("mlp.fc2.bias", vec![8]),
            ] {
                expected.push((format!("blocks.{block}.{name}"), shape));
            }
        }
        expected.sort();
        let mut found: Vec<(String, Vec<usize>)> =
            file.tensors().into_iter().map(|(name, view)| (name, view.shape().to_vec())).collect();
        found.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn equal_tensors_give_equal_bytes() {
        assert_eq!(weights(&tensors()), weights(&tensors()));
    }

    #[test]
    fn config_states_the_decimal_numbers_of_the_preprocessing() {
        let text = config(SMALL).to_string();
        assert!(text.contains("\"mean\":[0.1307]"), "{text}");
        assert!(text.contains("\"std\":[0.3081]"), "{text}");
    }

    #[test]
    fn an_existing_model_is_replaced_only_when_asked_for() {
        let directory = std::env::temp_dir().join(format!("fresnel-model-{}", std::process::id()));
        prepare(&directory, false).unwrap();
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
        write(&directory, SMALL, &tensors()).unwrap();
        assert!(matches!(prepare(&directory, false), Err(Error::Options(_))));
        prepare(&directory, true).unwrap();
        assert!(prepare(&directory.join(CONFIG_FILE), true).is_err());
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_nothing_behind() {
        let directory = std::env::temp_dir().join(format!("fresnel-digits-{}", std::process::id()));
        fs::create_dir_all(directory.join("taken/inside")).unwrap();
        // A file cannot be renamed over a directory that is not empty.
        let error = write_file(&directory.join("taken"), b"bytes").unwrap_err();
        assert!(error.to_string().starts_with("cannot write"), "{error}");
        let left: Vec<_> = fs::read_dir(&directory).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        fs::remove_dir_all(&directory).unwrap();
    }
}
