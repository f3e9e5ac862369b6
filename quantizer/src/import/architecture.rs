//! timm's names for Vision Transformers and the arguments each name stands for.
//!
//! Hub configurations mostly lack `model_args`, so the name carries the shape. A name is read by
//! its parts rather than looked up in a list:
//!
//! ```text
//! deit_{tiny,small,base}[_distilled]_patch{8,14,16,32}_{side}
//! deit3_{small,medium,base,large,huge}_patch{8,14,16,32}_{side}
//! vit_{tiny,small,base,large,huge}_patch{8,14,16,32}_{side}
//! vit_{tiny,small,base,large,huge}_patch14[_reg4]_dinov2
//! ```
//!
//! Source of the arguments per name: timm 1.0, `timm/models/vision_transformer.py` and `deit.py`.

use fresnel_runtime::model::config::{Activation, Pooling, VitConfig};
use fresnel_runtime::{Error, ErrorKind};

/// Image side of the DINOv2 models, whose names do not state it.
const DINOV2_IMAGE_SIZE: u32 = 518;

/// The architecture names understood, for messages and `--help`.
pub const KNOWN_NAMES: &str = "deit_{tiny,small,base}[_distilled]_patch{8,14,16,32}_{side}, \
deit3_{small,medium,base,large,huge}_patch{8,14,16,32}_{side}, \
vit_{tiny,small,base,large,huge}_patch{8,14,16,32}_{side}, \
vit_{tiny,small,base,large,huge}_patch14[_reg4]_dinov2";

/// timm's defaults for an architecture name; a pretrained tag after a dot is ignored.
///
/// The result has 1000 classes where timm has (DINOv2 has none).
///
/// # Errors
/// Fails for a name that is not a Vision Transformer of the family above.
pub fn defaults(name: &str) -> Result<VitConfig, Error> {
    let bare = name.split('.').next().unwrap_or(name);
    parse(bare).ok_or_else(|| {
        Error::new(
            ErrorKind::Invalid,
            format!("unknown architecture `{name}`: expected one of {KNOWN_NAMES}"),
        )
    })
}

fn parse(name: &str) -> Option<VitConfig> {
    let mut parts = name.split('_');
    let family = parts.next()?;
    let (embed_dim, depth, num_heads) = match (family, parts.next()?) {
        ("vit" | "deit", "tiny") => (192, 12, 3),
        (_, "small") => (384, 12, 6),
        ("deit3", "medium") => (512, 12, 8),
        (_, "base") => (768, 12, 12),
        ("vit" | "deit3", "large") => (1024, 24, 16),
        ("vit" | "deit3", "huge") => (1280, 32, 16),
        _ => return None,
    };
    let mut rest: Vec<&str> = parts.collect();
    let distilled = family == "deit" && rest.first() == Some(&"distilled");
    if distilled {
        rest.remove(0);
    }
    let patch: u32 = rest.first()?.strip_prefix("patch")?.parse().ok()?;
    if !matches!(patch, 8 | 14 | 16 | 32) {
        return None;
    }
    let (image_size, registers, dinov2) = match (family, &rest[1..]) {
        ("vit", ["dinov2"]) if patch == 14 => (DINOV2_IMAGE_SIZE, 0, true),
        ("vit", ["reg4", "dinov2"]) if patch == 14 => (DINOV2_IMAGE_SIZE, 4, true),
        ("vit" | "deit" | "deit3", [side]) => (side.parse().ok()?, 0, false),
        _ => return None,
    };
    Some(VitConfig {
        architecture: name.to_owned(),
        image_size: [image_size; 2],
        patch_size: [patch; 2],
        in_channels: 3,
        embed_dim,
        depth,
        num_heads,
        mlp_hidden: 4 * embed_dim,
        qkv_bias: true,
        proj_bias: true,
        qk_norm: false,
        class_token: true,
        distillation_token: distilled,
        register_tokens: registers,
        position_embedding: true,
        no_embed_class: family == "deit3" || registers > 0,
        pre_norm: false,
        layer_scale: family == "deit3" || dinov2,
        final_norm: true,
        fc_norm: false,
        pooling: Pooling::Token,
        pool_include_prefix: false,
        activation: Activation::GeluErf,
        norm_epsilon: 1e-6,
        num_classes: if dinov2 { 0 } else { 1000 },
    })
}
