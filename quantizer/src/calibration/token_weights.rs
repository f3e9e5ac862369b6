//! How much each token counts.
//!
//! A classifier that reads the class token alone still has a Gram matrix made of 197 tokens, of
//! which that one is half a per cent. Weighting the tokens by how much the answer depends on them
//! turns the layer error into something closer to the model's error.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Tensor;
use fresnel_runtime::model::config::VitConfig;
use serde::Deserialize;

use crate::device::Device;

/// Which tokens count more.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(try_from = "String")]
pub enum TokenWeights {
    /// All tokens alike.
    #[default]
    Uniform,
    /// The class token (and a distillation token) counts this many times as much as the others.
    ClassToken(f64),
}

impl fmt::Display for TokenWeights {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => formatter.pad("none"),
            Self::ClassToken(factor) => write!(formatter, "class:{factor}"),
        }
    }
}

impl FromStr for TokenWeights {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::Uniform);
        }
        text.strip_prefix("class:")
            .and_then(|factor| factor.parse::<f64>().ok())
            .filter(|factor| factor.is_finite() && *factor > 0.0)
            .map(Self::ClassToken)
            .ok_or_else(|| format!("expected none or class:F with F > 0, found `{text}`"))
    }
}

impl TryFrom<String> for TokenWeights {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl TokenWeights {
    /// Weights of `images` images' tokens, one row each, with mean 1; `None` where all are alike.
    pub fn rows(self, device: &Device, config: &VitConfig, images: usize) -> Option<Tensor<2>> {
        let Self::ClassToken(factor) = self else { return None };
        if !config.class_token {
            return None;
        }
        let tokens = config.tokens() as usize;
        let classifying = 1 + usize::from(config.distillation_token);
        let mean = (classifying as f64 * factor + (tokens - classifying) as f64) / tokens as f64;
        let image =
            (0..tokens).map(|token| (if token < classifying { factor } else { 1.0 } / mean) as f32);
        let weights = image.collect::<Vec<f32>>().repeat(images);
        Some(device.matrix(weights, images * tokens, 1))
    }
}
