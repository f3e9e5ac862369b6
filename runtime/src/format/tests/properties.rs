//! Properties over random configurations and random bytes: no panic, and nothing invalid is accepted.

use proptest::prelude::*;

use super::fixture::{Parts, assemble, mixed_width, parts, seal_header, tensors};
use crate::format::{Container, Encoding, encode};
use crate::model::config::{Activation, Pooling, VitConfig};

/// Valid configurations of small models.
fn valid_config() -> impl Strategy<Value = VitConfig> {
    let sizes = (1..3_u32, 1..3_u32, 1..4_u32, 1..4_u32, 1..3_u32, 1..4_u32, 1..4_u32, 1..9_u32);
    let flags = any::<[bool; 12]>();
    (sizes, flags, 0..3_u32, 0..4_u32, 0..4_usize).prop_map(
        |(sizes, flags, registers, classes, pooling)| {
            let (rows, columns, height, width, depth, heads, head_dim, hidden) = sizes;
            let [
                grey,
                qkv_bias,
                proj_bias,
                qk_norm,
                class_token,
                distilled,
                position,
                no_embed,
                pre_norm,
                scale,
                norm,
                fc,
            ] = flags;
            VitConfig {
                architecture: "random".to_owned(),
                image_size: [rows * height, columns * width],
                patch_size: [height, width],
                in_channels: if grey { 1 } else { 3 },
                embed_dim: heads * head_dim,
                depth,
                num_heads: heads,
                mlp_hidden: hidden,
                qkv_bias,
                proj_bias,
                qk_norm,
                class_token: class_token || distilled || pooling == 0,
                distillation_token: distilled,
                register_tokens: if distilled { 0 } else { registers },
                position_embedding: position || distilled,
                no_embed_class: no_embed && !distilled,
                pre_norm,
                layer_scale: scale,
                final_norm: norm,
                fc_norm: fc && !distilled,
                pooling: if distilled {
                    Pooling::Token
                } else {
                    [Pooling::Token, Pooling::Average, Pooling::Max, Pooling::AverageMax][pooling]
                },
                pool_include_prefix: fc,
                activation: [Activation::GeluErf, Activation::GeluTanh, Activation::QuickGelu]
                    [pooling % 3],
                norm_epsilon: 1e-5,
                num_classes: classes,
            }
        },
    )
}

/// Reads `bytes`; what is accepted must be written back to the same bytes, unless it has extensions.
fn read_checked(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(container) = Container::from_bytes(bytes) {
        let manifest = container.manifest();
        manifest.config.validate().unwrap();
        for view in container.tensors() {
            prop_assert_eq!(crc32fast::hash(view.bytes), view.entry.crc32);
        }
        prop_assert_eq!(container.tensors().count(), manifest.tensors.len());
        prop_assert_eq!(container.file_bytes(), bytes.len() as u64);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn valid_models_survive(config in valid_config(), first in 0..7_usize) {
        config.validate().unwrap();
        let tensors = tensors(&config, |weight| match (weight + first) % 7 {
            5 => Encoding::F16,
            6 => Encoding::F32,
            width => mixed_width(width),
        });
        let bytes = encode(&parts(&config), &tensors).unwrap();
        let container = Container::from_bytes(&bytes).unwrap();
        prop_assert_eq!(&container.manifest().config, &config);
        for tensor in &tensors {
            prop_assert_eq!(container.tensor(&tensor.name).unwrap().bytes, tensor.bytes.as_ref());
        }
    }

    #[test]
    fn random_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), magic: bool) {
        let mut bytes = bytes;
        if magic && bytes.len() >= 64 {
            bytes[..8].copy_from_slice(&crate::format::header::MAGIC);
            seal_header(&mut bytes);
        }
        prop_assert!(Container::from_bytes(&bytes).is_err());
    }

    #[test]
    fn random_headers_are_refused(changes in prop::collection::vec((8..60_usize, any::<u8>()), 1..6)) {
        let mut file = super::fixture::file();
        for (at, byte) in changes {
            file[at] = byte;
        }
        seal_header(&mut file);
        read_checked(&file)?;
    }

    #[test]
    fn random_manifests_never_panic(manifest in prop::collection::vec(any::<u8>(), 1..400), minor in 0..2_u16) {
        prop_assert!(Container::from_bytes(assemble(&manifest, &[], minor, 0)).is_err());
    }

    #[test]
    fn changed_manifests_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        minor in 0..2_u16,
    ) {
        let parts = Parts::new();
        let mut manifest = postcard::to_allocvec(&parts.manifest).unwrap();
        for (at, byte) in changes {
            let at = at.index(manifest.len());
            manifest[at] = byte;
        }
        read_checked(&assemble(&manifest, &parts.data, minor, 0))?;
    }

    #[test]
    fn changed_data_never_panics(
        name in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        byte: u8,
    ) {
        let mut parts = Parts::new();
        let name = name.get(&parts.manifest.tensors).name.clone();
        parts.change_data(&name, |bytes| bytes[at.index(bytes.len())] = byte);
        read_checked(&parts.assemble())?;
    }

    #[test]
    fn any_configuration_is_judged_without_panic(
        sizes in any::<[u32; 13]>(),
        shifts in any::<[u8; 13]>(),
        flags in any::<[bool; 12]>(),
        epsilon: f32,
    ) {
        // Shifted so that small, middling and huge numbers are all likely.
        let mut numbers = sizes.into_iter().zip(shifts).map(|(size, shift)| size >> (shift % 32));
        let mut number = || numbers.next().unwrap();
        let mut parts = Parts::new();
        let config = &mut parts.manifest.config;
        config.image_size = [number(), number()];
        config.patch_size = [number(), number()];
        config.in_channels = number();
        config.embed_dim = number();
        config.depth = number();
        config.num_heads = number();
        config.mlp_hidden = number();
        config.register_tokens = number();
        config.num_classes = number();
        config.norm_epsilon = epsilon;
        [config.qkv_bias, config.proj_bias, config.qk_norm, config.class_token, config.distillation_token,
         config.position_embedding, config.no_embed_class, config.pre_norm, config.layer_scale,
         config.final_norm, config.fc_norm, config.pool_include_prefix] = flags;
        let _ = (config.tokens(), config.embedded_tokens(), config.head_dim(), config.output_features());
        prop_assert!(Container::from_bytes(parts.assemble()).is_err());
    }
}
