use std::collections::BTreeMap;

use fresnel_runtime::ErrorKind;
use fresnel_runtime::format::{CropMode, Interpolation};
use fresnel_runtime::model::config::{Activation, Pooling};
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use super::*;

fn hub(fields: Value) -> Result<HubConfig, Error> {
    HubConfig::parse(fields.to_string().as_bytes())
}

fn config(fields: Value) -> Result<VitConfig, Error> {
    hub(fields)?.vit_config()
}

/// timm's parameter counts: a check on every default at once.
#[test]
fn names_stand_for_timms_models() {
    for (name, parameters) in [
        ("deit_tiny_patch16_224", 5_717_416_u64),
        ("deit_tiny_distilled_patch16_224.fb_in1k", 5_910_800),
        ("deit_small_patch16_224", 22_050_664),
        ("deit_base_patch16_384", 86_859_496),
        ("deit3_small_patch16_224", 22_059_496),
        ("deit3_base_patch16_384", 86_877_160),
        ("deit3_large_patch16_224", 304_374_760),
        ("vit_tiny_patch16_224", 5_717_416),
        ("vit_base_patch32_224", 88_224_232),
        ("vit_large_patch16_384", 304_715_752),
        ("vit_small_patch14_dinov2", 22_056_192),
        ("vit_base_patch14_reg4_dinov2", 86_582_016),
    ] {
        let config = architecture::defaults(name).expect(name);
        let count: u64 = config
            .tensors()
            .iter()
            .map(|spec| spec.shape.iter().map(|&extent| u64::from(extent)).product::<u64>())
            .sum();
        assert_eq!(count, parameters, "{name}");
    }
}

#[test]
fn other_names_are_refused() {
    for name in [
        "",
        "resnet50",
        "vit",
        "vit_tiny",
        "vit_tiny_patch16",
        "vit_tiny_patch15_224",
        "vit_tiny_patch16_224_in21k",
        "deit_large_patch16_224",
        "vit_giant_patch14_dinov2",
        "vit_base_patch16_dinov2",
        "swin_tiny_patch4_window7_224",
    ] {
        let error = architecture::defaults(name).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{name}");
    }
}

#[test]
fn arguments_change_the_forward_pass() {
    let config = config(json!({
        "architecture": "vit_tiny_patch16_224",
        "num_classes": 5,
        "global_pool": "avg",
        "model_args": {
            "img_size": [96, 128], "patch_size": 8, "in_chans": 1, "embed_dim": 64, "depth": 3,
            "num_heads": 4, "mlp_ratio": 3.5, "qkv_bias": false, "qk_norm": true,
            "init_values": 1e-5, "class_token": false, "reg_tokens": 2, "no_embed_class": true,
            "pre_norm": true, "act_layer": "gelu_tanh", "drop_path_rate": 0.1,
            "dynamic_img_size": false
        }
    }))
    .expect("a configuration");
    assert_eq!((config.image_size, config.patch_size), ([96, 128], [8, 8]));
    assert_eq!(
        (config.in_channels, config.embed_dim, config.depth, config.num_heads),
        (1, 64, 3, 4)
    );
    assert_eq!((config.mlp_hidden, config.num_classes), (224, 5));
    assert_eq!((config.qkv_bias, config.qk_norm, config.layer_scale), (false, true, true));
    assert_eq!((config.class_token, config.register_tokens), (false, 2));
    assert_eq!((config.no_embed_class, config.pre_norm), (true, true));
    assert_eq!((config.pooling, config.fc_norm), (Pooling::Average, true));
    assert_eq!(config.activation, Activation::GeluTanh);
}

#[test]
fn pretrained_cfg_states_size_and_classes_where_arguments_do_not() {
    let size_and_classes = |fields: Value| {
        let config = config(fields).expect("a configuration");
        (config.image_size, config.in_channels, config.num_classes)
    };
    let pretrained = json!({"input_size": [1, 384, 320], "num_classes": 21});
    assert_eq!(
        size_and_classes(json!({
            "architecture": "vit_tiny_patch16_224", "pretrained_cfg": pretrained
        })),
        ([384, 320], 1, 21)
    );
    assert_eq!(
        size_and_classes(json!({
            "architecture": "vit_tiny_patch16_224", "pretrained_cfg": pretrained,
            "num_classes": 3, "model_args": {"img_size": 64, "in_chans": 3}
        })),
        ([64, 64], 3, 3)
    );
}

#[test]
fn null_arguments_leave_the_names_defaults() {
    let config = config(json!({
        "architecture": "deit3_small_patch16_224",
        "model_args": {"init_values": null, "pos_embed": null, "qkv_bias": null, "act_layer": null}
    }))
    .expect("a configuration");
    assert!(config.layer_scale && config.position_embedding && config.qkv_bias);
}

#[test]
fn the_older_flat_form_and_pretrained_pooling_are_read() {
    let flat = hub(json!({
        "architecture": "vit_tiny_patch16_224", "num_classes": 2, "input_size": [3, 64, 64],
        "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "crop_pct": 1.0,
        "interpolation": "bilinear"
    }))
    .expect("a configuration");
    let config = flat.vit_config().expect("a shape");
    let preprocessing = flat.preprocessing(&config).expect("preprocessing");
    assert_eq!((config.image_size, config.num_classes), ([64, 64], 2));
    assert_eq!((preprocessing.mean, preprocessing.crop_pct), ([0.5; 3], 1.0));
    assert_eq!(preprocessing.interpolation, Interpolation::Bilinear);

    let pooled = hub(json!({
        "architecture": "vit_tiny_patch16_224",
        "pretrained_cfg": {"global_pool": "avg", "label_names": ["a"], "num_classes": 1}
    }))
    .expect("a configuration");
    assert_eq!(pooled.vit_config().expect("a shape").pooling, Pooling::Average);
    assert_eq!(pooled.class_names, ["a"]);
}

#[test]
fn arguments_that_are_not_understood_are_errors() {
    for (argument, value) in [
        ("surprise", json!(1)),
        ("block_fn", json!("ParallelScalingBlock")),
        ("mlp_layer", json!("SwiGLU")),
        ("dynamic_img_size", json!(true)),
        ("scale_mlp_norm", json!(true)),
        ("act_layer", json!("silu")),
        ("norm_layer", json!("rmsnorm")),
    ] {
        let fields = json!({
            "architecture": "vit_tiny_patch16_224", "model_args": { argument: value }
        });
        let error = config(fields).expect_err(argument);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{argument}: {error}");
    }
}

#[test]
fn values_of_the_wrong_kind_are_errors() {
    for fields in [
        json!([]),
        json!({}),
        json!({"architecture": 3}),
        json!({"architecture": "vit_tiny_patch16_224", "num_classes": -1}),
        json!({"architecture": "vit_tiny_patch16_224", "model_args": []}),
        json!({"architecture": "vit_tiny_patch16_224", "model_args": {"depth": 1.5}}),
        json!({"architecture": "vit_tiny_patch16_224", "model_args": {"num_heads": 5}}),
        json!({"architecture": "vit_tiny_patch16_224", "model_args": {"mlp_ratio": 1e300}}),
        json!({"architecture": "vit_tiny_patch16_224", "model_args": {"img_size": [224]}}),
        json!({"architecture": "vit_tiny_patch16_224", "model_args": {"patch_size": 0}}),
        json!({"architecture": "vit_tiny_patch16_224", "model_args": {"class_token": false}}),
    ] {
        assert!(config(fields.clone()).is_err(), "{fields}");
    }
}

#[test]
fn preprocessing_follows_pretrained_cfg_and_has_timms_defaults() {
    let read = |cfg: Value| {
        let hub = hub(json!({"architecture": "vit_tiny_patch16_224", "pretrained_cfg": cfg}))?;
        let config = hub.vit_config()?;
        hub.preprocessing(&config)
    };
    let defaults = read(json!({})).expect("defaults");
    assert_eq!(defaults.input_size, [224, 224]);
    assert_eq!((defaults.crop_pct, defaults.crop_mode), (0.875, CropMode::Center));
    let given = read(json!({
        "crop_pct": 1.0, "crop_mode": "squash", "interpolation": "bilinear",
        "mean": [0.5, 0.4, 0.3], "std": [0.1]
    }))
    .expect("given values");
    assert_eq!((given.crop_pct, given.crop_mode), (1.0, CropMode::Squash));
    assert_eq!(given.interpolation, Interpolation::Bilinear);
    assert_eq!((given.mean, given.std), ([0.5, 0.4, 0.3], [0.1; 3]));
    for wrong in [
        json!({"crop_mode": "random"}),
        json!({"interpolation": "spline"}),
        json!({"mean": [1, 2]}),
        json!({"crop_pct": "all"}),
    ] {
        assert!(read(wrong.clone()).is_err(), "{wrong}");
    }
    for (field, value) in [
        ("crop_pct", json!(0)),
        ("crop_pct", json!(1.01)),
        ("crop_pct", json!(-0.9)),
        ("mean", json!([0.5, 1e5, 0.5])),
        ("mean", json!(1e39)),
        ("std", json!([0.5, 0.5, 0])),
        ("std", json!(-0.5)),
    ] {
        let error = read(json!({ field: value })).expect_err(field);
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(&format!("{field} must be in")), "{error}");
    }
}

/// A one-block model with every tensor in `dtype`, its values the tensor's index.
fn checkpoint_bytes(
    dtype: Dtype,
    config: &VitConfig,
    change: impl Fn(&mut BTreeMap<String, Vec<usize>>),
) -> Vec<u8> {
    let mut shapes: BTreeMap<String, Vec<usize>> = config
        .tensors()
        .into_iter()
        .map(|spec| (spec.name, spec.shape.iter().map(|&extent| extent as usize).collect()))
        .collect();
    change(&mut shapes);
    let data: BTreeMap<String, Vec<u8>> = shapes
        .iter()
        .enumerate()
        .map(|(index, (name, shape))| {
            let value = index as f32;
            let bytes = match dtype {
                Dtype::F16 => f16::from_f32(value).to_le_bytes().to_vec(),
                Dtype::BF16 => bf16::from_f32(value).to_le_bytes().to_vec(),
                Dtype::F32 => value.to_le_bytes().to_vec(),
                _ => value.to_le_bytes().repeat(2),
            };
            (name.clone(), bytes.repeat(shape.iter().product()))
        })
        .collect();
    let views: Vec<(&str, TensorView)> = shapes
        .iter()
        .map(|(name, shape)| {
            (name.as_str(), TensorView::new(dtype, shape.clone(), &data[name]).expect("a view"))
        })
        .collect();
    safetensors::serialize(views, None).expect("a safetensors file")
}

fn small() -> VitConfig {
    config(json!({
        "architecture": "vit_tiny_patch16_224", "num_classes": 3,
        "model_args": {"img_size": 16, "patch_size": 8, "embed_dim": 8, "depth": 1, "num_heads": 2}
    }))
    .expect("a configuration")
}

#[test]
fn half_precision_weights_are_widened() {
    let config = small();
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        let bytes = checkpoint_bytes(dtype, &config, |_| {});
        let checkpoint = Checkpoint::parse(&bytes, &config).expect("weights");
        for (index, (name, tensor)) in checkpoint.iter().enumerate() {
            assert!(tensor.values.iter().all(|&value| value == index as f32), "{dtype:?} {name}");
        }
    }
    let bytes = checkpoint_bytes(Dtype::F64, &config, |_| {});
    let error = Checkpoint::parse(&bytes, &config).expect_err("f64");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

/// The same name for two tensors: which of them counts would depend on the reader.
#[test]
fn names_that_stand_twice_are_refused() {
    let config = small();
    let bytes = checkpoint_bytes(Dtype::F32, &config, |_| {});
    let (length, rest) = bytes.split_first_chunk().expect("a header");
    let length = u64::from_le_bytes(*length);
    let again = br#"{"norm.bias":{"dtype":"F32","shape":[8],"data_offsets":[0,32]},"#;
    let twice = [&(length + again.len() as u64 - 1).to_le_bytes()[..], again, &rest[1..]].concat();
    let message = Checkpoint::parse(&twice, &config).expect_err("a name twice").to_string();
    assert!(message.contains("`norm.bias` stands twice"), "{message}");
}

#[test]
fn all_wrong_tensors_are_listed_in_one_error() {
    let config = small();
    let bytes = checkpoint_bytes(Dtype::F32, &config, |shapes| {
        shapes.remove("norm.bias");
        shapes.remove("blocks.0.mlp.fc1.weight");
        shapes.insert("teacher.weight".to_owned(), vec![2]);
        shapes.insert("head.weight".to_owned(), vec![4, 8]);
    });
    let message = Checkpoint::parse(&bytes, &config).expect_err("wrong tensors").to_string();
    for part in [
        "missing",
        "norm.bias",
        "blocks.0.mlp.fc1.weight",
        "unexpected",
        "teacher.weight",
        "head.weight (expected [3, 8], found [4, 8])",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
}

#[test]
fn class_names_come_from_either_field() {
    let names = |fields: Value| hub(fields).map(|hub| hub.class_names);
    assert_eq!(
        names(json!({"architecture": "a", "label_names": ["cat", "dog"]})).expect("names"),
        ["cat", "dog"]
    );
    assert_eq!(
        names(json!({"architecture": "a", "id2label": {"1": "dog", "0": "cat"}})).expect("names"),
        ["cat", "dog"]
    );
    assert!(names(json!({"architecture": "a", "id2label": {"7": "dog"}})).is_err());
}
