//! The hyper-parameters of a Vision Transformer and what follows from them: the number of tokens, and
//! the exact set of tensors.
//!
//! The family is timm's `VisionTransformer` and `VisionTransformerDistilled`: token order, tensor names
//! and shapes are timm's, so that a checkpoint is used without renaming.

mod cost;
mod tensor_set;

#[cfg(test)]
pub(crate) mod tests;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::format::limits;

pub(crate) use tensor_set::check_tensor_set;
pub use tensor_set::{Role, TensorSpec};

/// How the tokens after the last block become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Pooling {
    /// The class token (timm: `token`).
    Token,
    /// The mean over the tokens (`avg`).
    Average,
    /// The maximum over the tokens (`max`).
    Max,
    /// Half the sum of mean and maximum (`avgmax`).
    AverageMax,
}

/// The non-linearity of the MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Activation {
    /// GELU by the error function: `x * (1 + erf(x / sqrt(2))) / 2`.
    GeluErf,
    /// GELU by its usual tanh approximation.
    GeluTanh,
    /// `x * sigmoid(1.702 x)`.
    QuickGelu,
}

/// The hyper-parameters that determine the forward pass, under timm's meaning of each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VitConfig {
    /// timm's name of the architecture, such as `deit_tiny_patch16_224`; informative only.
    pub architecture: String,
    /// Height and width of the input, in pixels.
    pub image_size: [u32; 2],
    /// Height and width of a patch, in pixels; divides `image_size`.
    pub patch_size: [u32; 2],
    /// Channels of the input: 1 (grey) or 3 (red, green, blue).
    pub in_channels: u32,
    /// Width of a token.
    pub embed_dim: u32,
    /// Number of blocks.
    pub depth: u32,
    /// Attention heads; divides `embed_dim`.
    pub num_heads: u32,
    /// Hidden width of the MLP (timm: `int(embed_dim * mlp_ratio)`).
    pub mlp_hidden: u32,
    /// Whether `attn.qkv` has a bias.
    pub qkv_bias: bool,
    /// Whether `attn.proj`, `mlp.fc1` and `mlp.fc2` have biases (timm's `proj_bias` governs all three).
    pub proj_bias: bool,
    /// Whether queries and keys pass through a LayerNorm of `head_dim` each.
    pub qk_norm: bool,
    /// Whether a class token stands first.
    pub class_token: bool,
    /// Whether a distillation token follows the class token (`VisionTransformerDistilled`): the output is
    /// then the mean of `head` on the class token and `head_dist` on the distillation token.
    pub distillation_token: bool,
    /// Number of register tokens, between the class token and the patches.
    pub register_tokens: u32,
    /// Whether a learned position embedding is added.
    pub position_embedding: bool,
    /// Whether the position embedding covers the patches only, and is added before the prefix tokens are
    /// put in front (timm: `no_embed_class`).
    pub no_embed_class: bool,
    /// Whether a LayerNorm `norm_pre` follows the embedding; the patch embedding then has no bias.
    pub pre_norm: bool,
    /// Whether the branches are scaled by `ls1.gamma` and `ls2.gamma`.
    pub layer_scale: bool,
    /// Whether there is a last LayerNorm: `fc_norm` after pooling if `fc_norm` is set, else `norm` before it.
    pub final_norm: bool,
    /// Whether the last LayerNorm stands after the pooling.
    pub fc_norm: bool,
    /// How tokens become one vector.
    pub pooling: Pooling,
    /// Whether mean and maximum cover the prefix tokens too.
    pub pool_include_prefix: bool,
    /// The MLP's non-linearity.
    pub activation: Activation,
    /// The epsilon of every LayerNorm.
    pub norm_epsilon: f32,
    /// Number of classes; 0 for a model without head, whose output is the pooled features.
    pub num_classes: u32,
}

impl VitConfig {
    /// Rows and columns of patches. Defined for a configuration that [`validate`](Self::validate) accepts;
    /// otherwise the quotient rounded down, 0 for a patch side of 0.
    pub fn grid(&self) -> [u32; 2] {
        let [height, width] = self.image_size;
        let [patch_height, patch_width] = self.patch_size;
        [height.checked_div(patch_height).unwrap_or(0), width.checked_div(patch_width).unwrap_or(0)]
    }

    /// Number of patches: the product of [`grid`](Self::grid), saturating.
    pub fn patches(&self) -> u32 {
        let [rows, columns] = self.grid();
        rows.saturating_mul(columns)
    }

    /// Number of tokens before the patches: class, distillation and register tokens.
    pub fn prefix_tokens(&self) -> u32 {
        u32::from(self.class_token)
            .saturating_add(u32::from(self.distillation_token))
            .saturating_add(self.register_tokens)
    }

    /// Number of tokens in all.
    pub fn tokens(&self) -> u32 {
        self.prefix_tokens().saturating_add(self.patches())
    }

    /// Number of tokens that the position embedding covers.
    pub fn embedded_tokens(&self) -> u32 {
        if self.no_embed_class { self.patches() } else { self.tokens() }
    }

    /// Width of an attention head; 0 where there are no heads.
    pub fn head_dim(&self) -> u32 {
        self.embed_dim.checked_div(self.num_heads).unwrap_or(0)
    }

    /// Width of the output: the classes, or `embed_dim` for a model without head.
    pub fn output_features(&self) -> u32 {
        if self.num_classes == 0 { self.embed_dim } else { self.num_classes }
    }

    /// Whether the last LayerNorm is `norm`, before the pooling.
    pub fn has_norm(&self) -> bool {
        self.final_norm && !self.fc_norm
    }

    /// Whether the last LayerNorm is `fc_norm`, after the pooling.
    pub fn has_fc_norm(&self) -> bool {
        self.final_norm && self.fc_norm
    }

    /// Checks that the configuration describes a model that can run, within the stated limits.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`] for a number beyond its limit (see [`limits`]), [`ErrorKind::Invalid`] for a
    /// zero or an inconsistency; the message names the field.
    pub fn validate(&self) -> Result<(), Error> {
        self.validate_sizes()?;
        self.validate_tokens()?;
        if !(self.norm_epsilon.is_finite() && self.norm_epsilon > 0.0 && self.norm_epsilon <= 1.0) {
            return Err(invalid(format!(
                "norm_epsilon must be above 0 and at most 1, found {}",
                self.norm_epsilon
            )));
        }
        limited("num_classes", self.num_classes, limits::MAX_CLASSES)
    }

    fn validate_sizes(&self) -> Result<(), Error> {
        let name = &self.architecture;
        if name.is_empty()
            || name.len() > limits::MAX_NAME_BYTES
            || name.chars().any(char::is_control)
        {
            return Err(invalid(format!(
                "architecture must be 1 to {} bytes without control characters, found {} bytes",
                limits::MAX_NAME_BYTES,
                name.len()
            )));
        }
        for (field, sides, limit) in [
            ("image_size", self.image_size, limits::MAX_IMAGE_SIDE),
            ("patch_size", self.patch_size, limits::MAX_PATCH_SIDE),
        ] {
            for side in sides {
                positive(field, side, limit)?;
            }
        }
        for (image, patch) in self.image_size.into_iter().zip(self.patch_size) {
            if image.checked_rem(patch) != Some(0) {
                return Err(invalid(format!(
                    "patch_size {:?} must divide image_size {:?}",
                    self.patch_size, self.image_size
                )));
            }
        }
        if self.in_channels != 1 && self.in_channels != 3 {
            return Err(invalid(format!("in_channels must be 1 or 3, found {}", self.in_channels)));
        }
        positive("embed_dim", self.embed_dim, limits::MAX_EMBED_DIM)?;
        positive("depth", self.depth, limits::MAX_DEPTH)?;
        positive("num_heads", self.num_heads, limits::MAX_HEADS)?;
        positive("mlp_hidden", self.mlp_hidden, limits::MAX_MLP_HIDDEN)?;
        if self.embed_dim.checked_rem(self.num_heads) != Some(0) {
            return Err(invalid(format!(
                "num_heads {} must divide embed_dim {}",
                self.num_heads, self.embed_dim
            )));
        }
        Ok(())
    }

    fn validate_tokens(&self) -> Result<(), Error> {
        limited("register_tokens", self.register_tokens, limits::MAX_REGISTER_TOKENS)?;
        limited("the number of tokens", self.tokens(), limits::MAX_TOKENS)?;
        if self.pooling == Pooling::Token && !self.class_token {
            return Err(invalid("pooling by the class token needs class_token"));
        }
        // What timm's distilled model cannot run, or would run while ignoring the tensors concerned.
        if self.distillation_token {
            let conflict = if !self.class_token {
                Some("no class_token")
            } else if self.register_tokens > 0 {
                Some("register_tokens")
            } else if self.no_embed_class {
                Some("no_embed_class")
            } else if !self.position_embedding {
                Some("no position_embedding")
            } else if self.pooling != Pooling::Token {
                Some("a pooling other than token")
            } else if self.has_fc_norm() {
                Some("fc_norm")
            } else {
                None
            };
            if let Some(conflict) = conflict {
                return Err(invalid(format!(
                    "distillation_token cannot be combined with {conflict}"
                )));
            }
        }
        Ok(())
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, format!("wrong configuration: {}", message.into()))
}

fn limited(field: &str, value: u32, limit: u32) -> Result<(), Error> {
    if value > limit {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("wrong configuration: {field} must be at most {limit}, found {value}"),
        ));
    }
    Ok(())
}

fn positive(field: &str, value: u32, limit: u32) -> Result<(), Error> {
    if value == 0 {
        return Err(invalid(format!("{field} must not be zero")));
    }
    limited(field, value, limit)
}
