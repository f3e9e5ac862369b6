//! Tests of the configuration against facts about timm's models.

use super::*;

/// DeiT-Tiny, which tests change to what they need.
pub(crate) fn deit_tiny() -> VitConfig {
    VitConfig {
        architecture: "deit_tiny_patch16_224".to_owned(),
        image_size: [224, 224],
        patch_size: [16, 16],
        in_channels: 3,
        embed_dim: 192,
        depth: 12,
        num_heads: 3,
        mlp_hidden: 768,
        qkv_bias: true,
        proj_bias: true,
        qk_norm: false,
        class_token: true,
        distillation_token: false,
        register_tokens: 0,
        position_embedding: true,
        no_embed_class: false,
        pre_norm: false,
        layer_scale: false,
        final_norm: true,
        fc_norm: false,
        pooling: Pooling::Token,
        pool_include_prefix: false,
        activation: Activation::GeluErf,
        norm_epsilon: 1e-6,
        num_classes: 1000,
    }
}

fn parameters(config: &VitConfig) -> u64 {
    config
        .tensors()
        .iter()
        .map(|spec| spec.shape.iter().map(|&d| u64::from(d)).product::<u64>())
        .sum()
}

fn shape(config: &VitConfig, name: &str) -> Option<Vec<u32>> {
    let spec = config.tensors().into_iter().find(|spec| spec.name == name)?;
    Some(spec.shape)
}

/// Parameter counts that timm 1.0.31 reports for models created by name.
#[test]
fn parameter_counts_are_those_of_timm() {
    let tiny = deit_tiny();
    assert_eq!(parameters(&tiny), 5_717_416);
    assert_eq!(tiny.tensors().len(), 152);

    let base = VitConfig { embed_dim: 768, num_heads: 12, mlp_hidden: 3072, ..deit_tiny() };
    assert_eq!(parameters(&base), 86_567_656);

    let base_distilled = VitConfig { distillation_token: true, ..base.clone() };
    assert_eq!(parameters(&base_distilled), 87_338_192);

    let deit3_small = VitConfig {
        embed_dim: 384,
        num_heads: 6,
        mlp_hidden: 1536,
        layer_scale: true,
        no_embed_class: true,
        ..deit_tiny()
    };
    assert_eq!(parameters(&deit3_small), 22_059_496);

    let dinov2_small = VitConfig {
        image_size: [518, 518],
        patch_size: [14, 14],
        register_tokens: 4,
        num_classes: 0,
        ..deit3_small
    };
    assert_eq!(parameters(&dinov2_small), 22_057_344);

    let clip_base = VitConfig {
        patch_size: [32, 32],
        pre_norm: true,
        num_classes: 512,
        activation: Activation::QuickGelu,
        ..base
    };
    assert_eq!(parameters(&clip_base), 87_849_728);
}

#[test]
fn names_and_shapes_are_those_of_timm() {
    let config = deit_tiny();
    assert_eq!(shape(&config, "pos_embed"), Some(vec![1, 197, 192]));
    assert_eq!(shape(&config, "patch_embed.proj.weight"), Some(vec![192, 3, 16, 16]));
    assert_eq!(shape(&config, "blocks.11.attn.qkv.weight"), Some(vec![576, 192]));
    assert_eq!(shape(&config, "blocks.0.mlp.fc2.weight"), Some(vec![192, 768]));
    assert_eq!(shape(&config, "head.weight"), Some(vec![1000, 192]));
    assert_eq!(shape(&config, "fc_norm.weight"), None);

    let config = VitConfig {
        qkv_bias: false,
        proj_bias: false,
        qk_norm: true,
        pre_norm: true,
        fc_norm: true,
        pooling: Pooling::Average,
        class_token: false,
        register_tokens: 2,
        num_classes: 0,
        ..deit_tiny()
    };
    config.validate().unwrap();
    for absent in [
        "cls_token",
        "patch_embed.proj.bias",
        "blocks.0.attn.qkv.bias",
        "blocks.0.attn.proj.bias",
        "blocks.0.mlp.fc1.bias",
        "blocks.0.mlp.fc2.bias",
        "norm.weight",
        "head.weight",
    ] {
        assert_eq!(shape(&config, absent), None, "{absent}");
    }
    assert_eq!(shape(&config, "reg_token"), Some(vec![1, 2, 192]));
    assert_eq!(shape(&config, "pos_embed"), Some(vec![1, 198, 192]));
    assert_eq!(shape(&config, "norm_pre.bias"), Some(vec![192]));
    assert_eq!(shape(&config, "fc_norm.weight"), Some(vec![192]));
    assert_eq!(shape(&config, "blocks.3.attn.q_norm.weight"), Some(vec![64]));

    let config = VitConfig { final_norm: false, fc_norm: true, ..deit_tiny() };
    assert_eq!(shape(&config, "norm.weight"), None);
    assert_eq!(shape(&config, "fc_norm.weight"), None);
}

#[test]
fn token_arithmetic() {
    let config = VitConfig {
        image_size: [224, 112],
        patch_size: [16, 8],
        register_tokens: 4,
        ..deit_tiny()
    };
    assert_eq!(config.grid(), [14, 14]);
    assert_eq!(config.patches(), 196);
    assert_eq!(config.prefix_tokens(), 5);
    assert_eq!(config.tokens(), 201);
    assert_eq!(config.embedded_tokens(), 201);
    assert_eq!(config.head_dim(), 64);
    assert_eq!(config.output_features(), 1000);
    let config = VitConfig { no_embed_class: true, num_classes: 0, ..config };
    assert_eq!(config.embedded_tokens(), 196);
    assert_eq!(config.output_features(), 192);
}

#[test]
fn wrong_configurations_are_refused() {
    type Change = fn(&mut VitConfig);
    let invalid: &[(&str, Change)] = &[
        ("architecture", |c| c.architecture.clear()),
        ("architecture", |c| c.architecture = "a\x1bb".to_owned()),
        ("architecture", |c| c.architecture = "x".repeat(129)),
        ("image_size", |c| c.image_size = [0, 224]),
        ("patch_size", |c| c.patch_size = [16, 0]),
        ("must divide image_size", |c| c.patch_size = [15, 16]),
        ("must divide image_size", |c| c.image_size = [224, 225]),
        ("must divide image_size", |c| c.image_size = [8, 8]),
        ("in_channels", |c| c.in_channels = 0),
        ("in_channels", |c| c.in_channels = 2),
        ("embed_dim", |c| c.embed_dim = 0),
        ("depth", |c| c.depth = 0),
        ("num_heads", |c| c.num_heads = 0),
        ("must divide embed_dim", |c| c.num_heads = 5),
        ("must divide embed_dim", |c| c.num_heads = 384),
        ("mlp_hidden", |c| c.mlp_hidden = 0),
        ("class_token", |c| c.class_token = false),
        ("norm_epsilon", |c| c.norm_epsilon = 0.0),
        ("norm_epsilon", |c| c.norm_epsilon = -1e-6),
        ("norm_epsilon", |c| c.norm_epsilon = f32::NAN),
        ("norm_epsilon", |c| c.norm_epsilon = f32::INFINITY),
        ("register_tokens", |c| (c.distillation_token, c.register_tokens) = (true, 1)),
        ("no_embed_class", |c| (c.distillation_token, c.no_embed_class) = (true, true)),
        ("position_embedding", |c| (c.distillation_token, c.position_embedding) = (true, false)),
        ("pooling", |c| (c.distillation_token, c.pooling) = (true, Pooling::Average)),
        ("fc_norm", |c| (c.distillation_token, c.fc_norm) = (true, true)),
    ];
    let limit: &[(&str, Change)] = &[
        ("image_size", |c| c.image_size = [u32::MAX; 2]),
        ("patch_size", |c| c.patch_size = [224, 512]),
        ("embed_dim", |c| c.embed_dim = u32::MAX),
        ("depth", |c| c.depth = u32::MAX),
        ("num_heads", |c| c.num_heads = u32::MAX),
        ("mlp_hidden", |c| c.mlp_hidden = u32::MAX),
        ("register_tokens", |c| c.register_tokens = u32::MAX),
        ("tokens", |c| (c.image_size, c.patch_size) = ([8192; 2], [1; 2])),
        ("num_classes", |c| c.num_classes = u32::MAX),
    ];
    for (kind, table) in [(ErrorKind::Invalid, invalid), (ErrorKind::Limit, limit)] {
        for (text, change) in table {
            let mut config = deit_tiny();
            change(&mut config);
            let error = config.validate().expect_err(text);
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(text), "{error} should name {text}");
        }
    }
}

#[test]
fn one_error_lists_every_difference() {
    let config = deit_tiny();
    let specs = config.tensors();
    let found: Vec<(&str, &[u32])> =
        specs.iter().map(|spec| (spec.name.as_str(), spec.shape.as_slice())).collect();
    config.check_tensors(found.iter().copied()).unwrap();
    // The order does not matter.
    config.check_tensors(found.iter().rev().copied()).unwrap();

    let mut wrong: Vec<(&str, &[u32])> = found
        .iter()
        .copied()
        .filter(|(name, _)| *name != "norm.bias" && *name != "cls_token")
        .collect();
    wrong.push(("head_dist.weight", &[1000, 192]));
    wrong.push(("head.bias", &[1000]));
    wrong.push(("bad\nname", &[1]));
    let at = wrong.iter().position(|(name, _)| *name == "pos_embed").unwrap();
    wrong[at].1 = &[1, 196, 192];
    let error = config.check_tensors(wrong).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(
        error.to_string(),
        "the tensors are not those that the configuration demands: missing (2): cls_token, norm.bias; \
         unexpected (2): head_dist.weight, bad\\nname; repeated (1): head.bias; \
         mis-shaped (1): pos_embed (expected [1, 197, 192], found [1, 196, 192])"
    );
}
