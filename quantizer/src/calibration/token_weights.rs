//! How much each token counts.
//!
//! A classifier that reads the class token alone still has a Gram matrix made of 197 tokens, of
//! which that one is half a per cent. Weighting the tokens by how much the answer depends on them
//! turns the layer error into something closer to the model's error: by a fixed factor on the class
//! token, or by the Fisher information of each layer's outputs ([`super::fisher`]).

use std::fmt;
use std::str::FromStr;

use burn::tensor::Tensor;
use fresnel_runtime::model::config::VitConfig;
use fresnel_runtime::{Error, ErrorKind};
use serde::Deserialize;

use super::fisher::Information;
use crate::device::Device;
use crate::vit::BlockLinear;

/// Exponent of the Fisher information in a token's weight: the square root keeps the few tokens of
/// very large information from standing for all of them.
const FISHER_EXPONENT: f64 = 0.5;
/// Added to the relative information, so that the square root is tame near zero.
const FISHER_FLOOR: f64 = 1e-3;
/// Added to every weight: tokens without information keep a say.
const FISHER_BASE: f64 = 0.1;

/// Which tokens count more.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(try_from = "String")]
pub enum TokenWeights {
    /// All tokens alike.
    #[default]
    Uniform,
    /// The class token (and a distillation token) counts this many times as much as the others.
    ClassToken(f64),
    /// Each token of each image by the Fisher information of the layer's output there.
    Fisher,
}

impl fmt::Display for TokenWeights {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => formatter.pad("none"),
            Self::ClassToken(factor) => write!(formatter, "class:{factor}"),
            Self::Fisher => formatter.pad("fisher"),
        }
    }
}

impl FromStr for TokenWeights {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => return Ok(Self::Uniform),
            "fisher" => return Ok(Self::Fisher),
            _ => {}
        }
        text.strip_prefix("class:")
            .and_then(|factor| factor.parse::<f64>().ok())
            .filter(|factor| factor.is_finite() && *factor > 0.0)
            .map(Self::ClassToken)
            .ok_or_else(|| format!("expected none, fisher, or class:F with F > 0, found `{text}`"))
    }
}

impl TryFrom<String> for TokenWeights {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl TokenWeights {
    /// The weights of a model's tokens; `information` is that of the images.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] when Fisher weights are asked for without information.
    pub fn table(
        self,
        config: &VitConfig,
        information: Option<&Information>,
    ) -> Result<WeightTable, Error> {
        let missing =
            || Error::new(ErrorKind::Input, "Fisher token weights without the tokens' information");
        Ok(match self {
            Self::Uniform => WeightTable::Uniform,
            Self::ClassToken(factor) => WeightTable::class_token(config, factor),
            Self::Fisher => WeightTable::fisher(information.ok_or_else(missing)?),
        })
    }
}

/// The weights themselves, with mean 1 in every layer.
#[derive(Debug, Clone, PartialEq)]
pub enum WeightTable {
    /// All tokens alike.
    Uniform,
    /// One image's tokens, the same in every image and layer.
    Image(Vec<f32>),
    /// All images' tokens for each linear layer of the blocks, in the order of quantization.
    Layers(Vec<Vec<f32>>),
}

impl WeightTable {
    /// The class token (and a distillation token) counts `factor` times as much as the others; all
    /// alike in models without a class token.
    pub fn class_token(config: &VitConfig, factor: f64) -> Self {
        if !config.class_token {
            return Self::Uniform;
        }
        let tokens = config.tokens() as usize;
        let classifying = 1 + usize::from(config.distillation_token);
        let mean = (classifying as f64 * factor + (tokens - classifying) as f64) / tokens as f64;
        let weight = |token| (if token < classifying { factor } else { 1.0 } / mean) as f32;
        Self::Image((0..tokens).map(weight).collect())
    }

    /// `(f / mean(f) + 0.001)^0.5 + 0.1`, brought to mean 1, of the information `f` of each layer's
    /// tokens; all alike in a layer whose outputs change nothing.
    pub fn fisher(information: &Information) -> Self {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let layer = |information: &Vec<f32>| {
            let information: Vec<f64> = information.iter().map(|&f| f64::from(f)).collect();
            let typical = mean(&information);
            if !(typical > 0.0 && typical.is_finite()) {
                return vec![1.0; information.len()];
            }
            let weights: Vec<f64> = information
                .iter()
                .map(|f| (f / typical + FISHER_FLOOR).powf(FISHER_EXPONENT) + FISHER_BASE)
                .collect();
            let typical = mean(&weights);
            weights.into_iter().map(|weight| (weight / typical) as f32).collect()
        };
        Self::Layers(information.layers.iter().map(layer).collect())
    }

    /// The weights of one layer's tokens.
    pub fn layer(&self, block: usize, layer: BlockLinear) -> LayerWeights<'_> {
        LayerWeights(match self {
            Self::Uniform => None,
            Self::Image(weights) => Some(weights),
            Self::Layers(layers) => {
                layers.get(block * BlockLinear::ALL.len() + layer as usize).map(Vec::as_slice)
            }
        })
    }
}

/// The weights of one layer's tokens, of one image or of all; by default all are alike.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LayerWeights<'a>(Option<&'a [f32]>);

impl LayerWeights<'_> {
    /// Weights of `count` token rows from row `first` on, m x 1; `None` where all are alike.
    pub fn rows(self, device: &Device, first: usize, count: usize) -> Option<Tensor<2>> {
        let weights = self.0.filter(|weights| !weights.is_empty())?;
        let rows = weights.iter().copied().cycle().skip(first % weights.len()).take(count);
        Some(device.matrix(rows.collect(), count, 1))
    }
}
