//! The importer of the quantizer: its very source, compiled without the crate around it.
//!
//! The quantizer brings a tensor library whose instrumented build takes half an hour; these modules need none of it. What
//! else they use of their crate is declared here under the same names.

use std::sync::LazyLock;

use fresnel_runtime::model::config::VitConfig;

use crate::import::{Checkpoint, HubConfig};

/// Reads any bytes as a `config.json`.
///
/// # Panics
/// When that does, or when what it accepts is no valid model.
pub fn config_json(bytes: &[u8]) {
    let Ok(hub) = HubConfig::parse(bytes) else { return };
    let Ok(config) = hub.vit_config() else { return };
    config.validate().expect("a valid configuration");
    if let Ok(preprocessing) = hub.preprocessing(&config) {
        preprocessing.validate(&config).expect("valid preprocessing");
    }
}

/// The model that [`import_safetensors`] asks for.
static CONFIG: LazyLock<VitConfig> = LazyLock::new(|| {
    let config = br#"{"architecture": "vit_tiny_patch16_224", "num_classes": 2, "model_args":
        {"img_size": 2, "patch_size": 1, "embed_dim": 2, "depth": 1, "num_heads": 1, "mlp_ratio": 1}}"#;
    let hub = HubConfig::parse(config).expect("a configuration");
    hub.vit_config().expect("a small model")
});

/// Reads bytes as a safetensors file of a small model; the length of its header is set right, the first byte deciding where
/// the header ends.
///
/// # Panics
/// When reading does, or when what it accepts is not the model's tensors in finite numbers.
pub fn import_safetensors(bytes: &[u8]) {
    read(bytes);
    // A header of JSON and zeros behind it, with a length that fits.
    if let Some((&zeros, header)) = bytes.split_first() {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(header);
        file.resize(file.len() + 4 * usize::from(zeros), 0);
        read(&file);
    }
}

fn read(file: &[u8]) {
    if let Ok(checkpoint) = Checkpoint::parse(file, &CONFIG) {
        let tensors = CONFIG.tensors();
        assert_eq!(checkpoint.iter().count(), tensors.len());
        for spec in tensors {
            let tensor = checkpoint.get(&spec.name).expect("the tensor");
            let shape: Vec<usize> = spec.shape.iter().map(|&side| side as usize).collect();
            assert_eq!(tensor.shape, shape);
            assert_eq!(tensor.values.len(), shape.iter().product::<usize>());
            assert!(tensor.values.iter().all(|value| value.is_finite()));
        }
    }
}
