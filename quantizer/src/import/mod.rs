//! Reading a float Vision Transformer as timm publishes it: `model.safetensors` with timm's
//! tensor names, and the hub's `config.json` beside it.
//!
//! The importer is the quantizer's attack surface: every size is checked before it is used, every
//! tensor is compared with the exact set that the configuration demands, and weights that are not
//! finite are refused by name.

pub mod architecture;
pub mod checkpoint;
pub mod hub_config;
mod unique_names;

use std::path::{Path, PathBuf};

use fresnel_runtime::format::Preprocessing;
use fresnel_runtime::model::config::VitConfig;
use fresnel_runtime::{Error, ErrorKind};

pub use checkpoint::Checkpoint;
pub use hub_config::HubConfig;

/// A float model ready for quantization.
#[derive(Debug, Clone)]
pub struct FloatModel {
    /// The network's shape.
    pub config: VitConfig,
    /// How its images are prepared.
    pub preprocessing: Preprocessing,
    /// Class names in index order; empty when the configuration names none.
    pub class_names: Vec<String>,
    /// All tensors, by timm name.
    pub weights: Checkpoint,
    /// SHA-256 of the checkpoint's bytes, as hexadecimal digits.
    pub source_sha256: String,
}

/// The two files that make up a timm checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The weights, a safetensors file.
    pub weights: PathBuf,
    /// The hub's `config.json`.
    pub config: PathBuf,
}

impl Source {
    /// Finds weights and configuration for `model`, a safetensors file or a directory that holds
    /// `model.safetensors` and `config.json`; `config` names the configuration where it lies
    /// elsewhere. Other files in the directory are ignored.
    ///
    /// # Errors
    /// Fails when either file is missing, or the name says that it is no safetensors file.
    pub fn locate(model: &Path, config: Option<&Path>) -> Result<Self, Error> {
        let extension = model.extension().and_then(|extension| extension.to_str());
        let instead = match extension.unwrap_or_default() {
            "fresnel" => "a quantized model; start from the float checkpoint that it was made of",
            "pth" | "pt" | "bin" | "pkl" => {
                "a pickled one; save it as model.safetensors with safetensors.torch.save_file"
            }
            _ => "",
        };
        if !instead.is_empty() {
            let message = format!("expected a safetensors checkpoint, found {instead}");
            return Err(Error::new(ErrorKind::Input, message).at_path(model));
        }
        let (weights, default_config) = if model.is_dir() {
            (model.join("model.safetensors"), model.join("config.json"))
        } else {
            (model.to_path_buf(), model.with_file_name("config.json"))
        };
        let config = config.map_or(default_config, Path::to_path_buf);
        for (path, what) in [
            (&weights, "expected a safetensors checkpoint here"),
            (
                &config,
                "expected the hub's config.json here; name it with --config if it lies elsewhere",
            ),
        ] {
            if !path.is_file() {
                return Err(
                    Error::new(ErrorKind::Io, format!("file not found: {what}")).at_path(path)
                );
            }
        }
        Ok(Self { weights, config })
    }
}

/// Reads, checks and widens a timm checkpoint.
///
/// # Errors
/// Fails with the path, and the tensor or the configuration field, of whatever is missing,
/// malformed, not finite or not understood.
pub fn load(source: &Source) -> Result<FloatModel, Error> {
    let hub = HubConfig::read(&source.config)?;
    let mut digest = String::new();
    let mut model = FloatModel::from_parts(&hub, |config| {
        let (weights, sha256) = Checkpoint::read(&source.weights, config)?;
        digest = sha256;
        Ok(weights)
    })
    .map_err(|error| if error.path().is_none() { error.at_path(&source.config) } else { error })?;
    model.source_sha256 = digest;
    Ok(model)
}

impl FloatModel {
    /// Puts a configuration and the weights that `weights` finds for it together.
    ///
    /// # Errors
    /// As [`HubConfig::vit_config`] and [`HubConfig::preprocessing`], and as `weights`.
    pub fn from_parts(
        hub: &HubConfig,
        weights: impl FnOnce(&VitConfig) -> Result<Checkpoint, Error>,
    ) -> Result<Self, Error> {
        let config = hub.vit_config()?;
        let (names, classes) = (hub.class_names.len(), config.num_classes as usize);
        if names > 0 && names != classes {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("expected names of {classes} classes, found {names}"),
            ));
        }
        Ok(Self {
            preprocessing: hub.preprocessing(&config)?,
            class_names: hub.class_names.clone(),
            weights: weights(&config)?,
            source_sha256: String::new(),
            config,
        })
    }
}

#[cfg(test)]
mod tests;
