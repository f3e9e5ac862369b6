//! The hub's `config.json`: architecture, `model_args` and the preprocessing in `pretrained_cfg`.
//!
//! Every argument of timm's `VisionTransformer` that changes the forward pass is applied; those
//! that act in training only are accepted and ignored; an argument that is not understood is an
//! error, since ignoring it would change the answer silently.

use std::path::Path;

use fresnel_runtime::format::{CropMode, Interpolation, Preprocessing};
use fresnel_runtime::model::config::{Activation, Pooling, VitConfig};
use fresnel_runtime::{Error, ErrorKind, input_file};
use serde_json::{Map, Value};

use super::architecture;

/// A `config.json` larger than this is not a model configuration.
const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// Arguments that change training or initialisation, never inference.
const TRAINING_ONLY: [&str; 9] = [
    "drop_rate",
    "pos_drop_rate",
    "patch_drop_rate",
    "proj_drop_rate",
    "attn_drop_rate",
    "drop_path_rate",
    "weight_init",
    "fix_init",
    "pretrained",
];

/// A parsed `config.json`.
#[derive(Debug, Clone)]
pub struct HubConfig {
    /// timm's name of the architecture, with or without a tag.
    pub architecture: String,
    /// Class names in index order, from `label_names` or `id2label`; may be empty.
    pub class_names: Vec<String>,
    num_classes: Option<u32>,
    global_pool: Option<String>,
    model_args: Map<String, Value>,
    pretrained_cfg: Map<String, Value>,
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

fn unsigned(field: &str, value: &Value) -> Result<u32, Error> {
    value.as_u64().and_then(|number| u32::try_from(number).ok()).ok_or_else(|| {
        invalid(format!("`{field}`: expected a non-negative integer, found {value}"))
    })
}

fn boolean(field: &str, value: &Value) -> Result<bool, Error> {
    value
        .as_bool()
        .ok_or_else(|| invalid(format!("`{field}`: expected true or false, found {value}")))
}

fn float(field: &str, value: &Value) -> Result<f64, Error> {
    value
        .as_f64()
        .filter(|number| number.is_finite())
        .ok_or_else(|| invalid(format!("`{field}`: expected a number, found {value}")))
}

fn text<'a>(field: &str, value: &'a Value) -> Result<&'a str, Error> {
    value.as_str().ok_or_else(|| invalid(format!("`{field}`: expected a string, found {value}")))
}

/// One side, or a pair (height, width).
fn size(field: &str, value: &Value) -> Result<[u32; 2], Error> {
    match value.as_array().map(Vec::as_slice) {
        Some([height, width]) => Ok([unsigned(field, height)?, unsigned(field, width)?]),
        Some(_) => Err(invalid(format!("`{field}`: expected one or two integers, found {value}"))),
        None => Ok([unsigned(field, value)?; 2]),
    }
}

fn object(root: &Map<String, Value>, field: &str) -> Result<Map<String, Value>, Error> {
    match root.get(field) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(map)) => Ok(map.clone()),
        Some(other) => Err(invalid(format!("`{field}`: expected an object, found {other}"))),
    }
}

impl HubConfig {
    /// Reads and parses a `config.json`.
    ///
    /// # Errors
    /// Fails when the file is missing, too large, not JSON, or its fields have wrong types.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = input_file::read(path, MAX_CONFIG_BYTES)?;
        Self::parse(&bytes).map_err(|error| error.at_path(path))
    }

    /// Parses the bytes of a `config.json`.
    ///
    /// # Errors
    /// As [`HubConfig::read`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let root: Value = serde_json::from_slice(bytes)
            .map_err(|error| invalid(format!("expected a JSON model configuration: {error}")))?;
        let Value::Object(root) = root else {
            return Err(invalid("expected a JSON object at the top level".to_owned()));
        };
        let architecture = root
            .get("architecture")
            .ok_or_else(|| {
                invalid("`architecture` is missing: expected timm's model name".to_owned())
            })
            .and_then(|value| text("architecture", value))?
            .to_owned();
        let optional = |field: &str| root.get(field).filter(|value| !value.is_null());
        // timm's older form has these fields at the top level.
        let pretrained_cfg = match root.get("pretrained_cfg") {
            None | Some(Value::Null) => root.clone(),
            Some(_) => object(&root, "pretrained_cfg")?,
        };
        let mut names = class_names(&root)?;
        if names.is_empty() {
            names = class_names(&pretrained_cfg)?;
        }
        Ok(Self {
            architecture,
            class_names: names,
            num_classes: optional("num_classes")
                .map(|value| unsigned("num_classes", value))
                .transpose()?,
            global_pool: optional("global_pool")
                .map(|value| text("global_pool", value).map(str::to_owned))
                .transpose()?,
            model_args: object(&root, "model_args")?,
            pretrained_cfg,
        })
    }

    /// The network's shape: the name's defaults, then the configuration's own fields.
    ///
    /// # Errors
    /// Fails for an unknown architecture, an argument that is not understood, or a shape that is
    /// not consistent.
    pub fn vit_config(&self) -> Result<VitConfig, Error> {
        let mut config = architecture::defaults(&self.architecture)?;
        self.apply_pretrained(&mut config)?;
        let mut pooling = match (&self.global_pool, self.pretrained("global_pool")) {
            (Some(pooling), _) => pooling.clone(),
            (None, Some(value)) => text("global_pool", value)?.to_owned(),
            (None, None) => "token".to_owned(),
        };
        let mut fc_norm = None;
        let mut mlp_ratio = f64::from(config.mlp_hidden) / f64::from(config.embed_dim);
        for (field, value) in &self.model_args {
            // timm drops arguments that are null: the name's default stays.
            if value.is_null() || TRAINING_ONLY.contains(&field.as_str()) {
                continue;
            }
            match field.as_str() {
                "img_size" => config.image_size = size(field, value)?,
                "patch_size" => config.patch_size = size(field, value)?,
                "in_chans" => config.in_channels = unsigned(field, value)?,
                "num_classes" => config.num_classes = unsigned(field, value)?,
                "global_pool" => pooling = text(field, value)?.to_owned(),
                "embed_dim" => config.embed_dim = unsigned(field, value)?,
                "depth" => config.depth = unsigned(field, value)?,
                "num_heads" => config.num_heads = unsigned(field, value)?,
                "mlp_ratio" => mlp_ratio = float(field, value)?,
                "qkv_bias" => config.qkv_bias = boolean(field, value)?,
                "qk_norm" => config.qk_norm = boolean(field, value)?,
                "proj_bias" => config.proj_bias = boolean(field, value)?,
                "init_values" => config.layer_scale = float(field, value)? != 0.0,
                "class_token" => config.class_token = boolean(field, value)?,
                "pos_embed" => {
                    config.position_embedding = match text(field, value)? {
                        "learn" => true,
                        "" | "none" => false,
                        other => {
                            return Err(invalid(format!(
                                "`pos_embed`: expected learn or none, found `{other}`"
                            )));
                        }
                    };
                }
                "no_embed_class" => config.no_embed_class = boolean(field, value)?,
                "reg_tokens" => config.register_tokens = unsigned(field, value)?,
                "pre_norm" => config.pre_norm = boolean(field, value)?,
                "final_norm" => config.final_norm = boolean(field, value)?,
                "fc_norm" => fc_norm = Some(boolean(field, value)?),
                "pool_include_prefix" => config.pool_include_prefix = boolean(field, value)?,
                "act_layer" => config.activation = activation(value)?,
                "norm_layer" => config.norm_epsilon = norm_epsilon(value)?,
                // Off is what every model here does; on is a different network.
                "scale_attn_norm" | "scale_mlp_norm" | "dynamic_img_size" | "dynamic_img_pad"
                    if value == &Value::Bool(false) => {}
                _ => {
                    return Err(Error::new(
                        ErrorKind::Invalid,
                        format!(
                            "`model_args.{field}` = {value} is not understood; it may change the \
                             forward pass, so it is not ignored"
                        ),
                    ));
                }
            }
        }
        let hidden = (f64::from(config.embed_dim) * mlp_ratio).floor();
        if !(1.0..=f64::from(1 << 24)).contains(&hidden) {
            return Err(invalid(format!(
                "`mlp_ratio` = {mlp_ratio}: expected a hidden size from 1 to 2^24, found {hidden}"
            )));
        }
        // In range, checked above.
        config.mlp_hidden = hidden as u32;
        config.pooling = match pooling.as_str() {
            "token" => Pooling::Token,
            "avg" => Pooling::Average,
            "max" => Pooling::Max,
            "avgmax" => Pooling::AverageMax,
            other => {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    format!("`global_pool` = `{other}`: expected token, avg, max or avgmax"),
                ));
            }
        };
        config.fc_norm = fc_norm.unwrap_or(config.pooling != Pooling::Token);
        if !config.final_norm {
            config.fc_norm = false;
        }
        config.validate()?;
        Ok(config)
    }

    /// What timm takes from `pretrained_cfg` where no argument says otherwise: image size, channels
    /// and classes; the configuration's own `num_classes` wins.
    fn apply_pretrained(&self, config: &mut VitConfig) -> Result<(), Error> {
        if let Some(value) = self.pretrained("input_size") {
            let Some([channels, height, width]) = value.as_array().map(Vec::as_slice) else {
                return Err(invalid(format!(
                    "`input_size`: expected [channels, height, width], found {value}"
                )));
            };
            config.in_channels = unsigned("input_size", channels)?;
            config.image_size = [unsigned("input_size", height)?, unsigned("input_size", width)?];
        }
        if let Some(value) = self.pretrained("num_classes") {
            config.num_classes = unsigned("num_classes", value)?;
        }
        config.num_classes = self.num_classes.unwrap_or(config.num_classes);
        Ok(())
    }

    fn pretrained(&self, field: &str) -> Option<&Value> {
        self.pretrained_cfg.get(field).filter(|value| !value.is_null())
    }

    /// How timm's evaluation transform prepares images for this model.
    ///
    /// # Errors
    /// Fails for fields of wrong type, numbers out of their range, an unknown interpolation or crop mode.
    pub fn preprocessing(&self, config: &VitConfig) -> Result<Preprocessing, Error> {
        let get = |field: &str| self.pretrained(field);
        let crop_mode = match get("crop_mode") {
            None => CropMode::Center,
            Some(value) => match text("crop_mode", value)? {
                "center" => CropMode::Center,
                "squash" => CropMode::Squash,
                "border" => CropMode::Border,
                other => {
                    return Err(invalid(format!(
                        "`crop_mode`: expected center, squash or border, found `{other}`"
                    )));
                }
            },
        };
        let interpolation = match get("interpolation") {
            None => Interpolation::Bicubic,
            Some(value) => match text("interpolation", value)? {
                "bicubic" => Interpolation::Bicubic,
                "bilinear" => Interpolation::Bilinear,
                other => {
                    return Err(Error::new(
                        ErrorKind::Invalid,
                        format!("`interpolation` = `{other}`: expected bicubic or bilinear"),
                    ));
                }
            },
        };
        let crop_pct = match get("crop_pct") {
            None => 0.875,
            Some(value) => float("crop_pct", value)?,
        };
        let preprocessing = Preprocessing {
            // The network's own size: `pretrained_cfg` describes the checkpoint it came from.
            input_size: config.image_size,
            crop_pct: crop_pct as f32,
            crop_mode,
            interpolation,
            mean: channels("mean", get("mean"), [0.485, 0.456, 0.406])?,
            std: channels("std", get("std"), [0.229, 0.224, 0.225])?,
        };
        preprocessing.validate(config)?;
        Ok(preprocessing)
    }
}

/// timm accepts activations by name; the model cards use these.
fn activation(value: &Value) -> Result<Activation, Error> {
    match text("act_layer", value)? {
        "" | "gelu" => Ok(Activation::GeluErf),
        "gelu_tanh" => Ok(Activation::GeluTanh),
        "quick_gelu" => Ok(Activation::QuickGelu),
        other => Err(Error::new(
            ErrorKind::Invalid,
            format!("`act_layer` = `{other}`: expected gelu, gelu_tanh or quick_gelu"),
        )),
    }
}

/// `LayerNorm`'s epsilon: 1e-6 in both of timm's layer normalizations.
fn norm_epsilon(value: &Value) -> Result<f32, Error> {
    match text("norm_layer", value)? {
        "" | "layernorm" | "layernormfp32" => Ok(1e-6),
        other => Err(invalid(format!("`norm_layer` = `{other}`: expected layernorm"))),
    }
}

/// Per-channel constants; one value stands for all channels of a grey model.
fn channels(field: &str, value: Option<&Value>, default: [f32; 3]) -> Result<[f32; 3], Error> {
    let Some(value) = value else { return Ok(default) };
    let numbers = match value.as_array() {
        Some(items) => items
            .iter()
            .map(|item| float(field, item).map(|number| number as f32))
            .collect::<Result<Vec<f32>, Error>>()?,
        None => vec![float(field, value)? as f32],
    };
    match numbers.as_slice() {
        [grey] => Ok([*grey; 3]),
        [red, green, blue] => Ok([*red, *green, *blue]),
        _ => Err(invalid(format!("`{field}`: expected one or three numbers, found {value}"))),
    }
}

fn class_names(root: &Map<String, Value>) -> Result<Vec<String>, Error> {
    if let Some(Value::Array(names)) = root.get("label_names") {
        return names.iter().map(|name| text("label_names", name).map(str::to_owned)).collect();
    }
    if let Some(other) = root.get("label_names").filter(|names| !names.is_null()) {
        return Err(invalid(format!("`label_names`: expected an array of strings, found {other}")));
    }
    if let Some(Value::Object(names)) = root.get("id2label") {
        return (0..names.len())
            .map(|index| {
                names
                    .get(&index.to_string())
                    .ok_or_else(|| invalid(format!("`id2label` has no entry `{index}`")))
                    .and_then(|name| text("id2label", name).map(str::to_owned))
            })
            .collect();
    }
    Ok(Vec::new())
}
