//! The exact set of tensors that a configuration demands, under timm's names and shapes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::VitConfig;
use crate::error::{Error, ErrorKind};

/// What a tensor is for, which decides how it may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The weight of a linear layer of a block: `attn.qkv`, `attn.proj`, `mlp.fc1`, `mlp.fc2`.
    Linear,
    /// The weight of the patch embedding or of a head.
    Edge,
    /// A bias, norm, token, position embedding or layer scale: never stored as codes.
    Other,
}

/// One tensor that a configuration demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// timm's name.
    pub name: String,
    /// Dimensions, outermost first; row-major.
    pub shape: Vec<u32>,
    /// What it is for.
    pub role: Role,
}

impl VitConfig {
    /// Every tensor of the model, in the order of the forward pass. This is also the order of the
    /// tensors in a file.
    ///
    /// The set is meaningful for a configuration that [`validate`](VitConfig::validate) accepts; its
    /// length is at most `18 * depth + 16`.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut set = TensorSet::default();
        let width = self.embed_dim;
        let [patch_height, patch_width] = self.patch_size;

        if self.class_token {
            set.other("cls_token", &[1, 1, width]);
        }
        if self.distillation_token {
            set.other("dist_token", &[1, 1, width]);
        }
        if self.register_tokens > 0 {
            set.other("reg_token", &[1, self.register_tokens, width]);
        }
        if self.position_embedding {
            set.other("pos_embed", &[1, self.embedded_tokens(), width]);
        }
        set.weight(
            "patch_embed.proj",
            Role::Edge,
            &[width, self.in_channels, patch_height, patch_width],
            !self.pre_norm,
        );
        if self.pre_norm {
            set.norm("norm_pre", width);
        }
        for block in 0..self.depth {
            self.block_tensors(&mut set, block);
        }
        if self.has_norm() {
            set.norm("norm", width);
        }
        if self.has_fc_norm() {
            set.norm("fc_norm", width);
        }
        if self.num_classes > 0 {
            set.weight("head", Role::Edge, &[self.num_classes, width], true);
            if self.distillation_token {
                set.weight("head_dist", Role::Edge, &[self.num_classes, width], true);
            }
        }
        set.specs
    }

    fn block_tensors(&self, set: &mut TensorSet, block: u32) {
        let width = self.embed_dim;
        let name = |part: &str| format!("blocks.{block}.{part}");
        set.norm(&name("norm1"), width);
        let qkv = [width.saturating_mul(3), width];
        set.weight(&name("attn.qkv"), Role::Linear, &qkv, self.qkv_bias);
        if self.qk_norm {
            set.norm(&name("attn.q_norm"), self.head_dim());
            set.norm(&name("attn.k_norm"), self.head_dim());
        }
        set.weight(&name("attn.proj"), Role::Linear, &[width, width], self.proj_bias);
        if self.layer_scale {
            set.other(&name("ls1.gamma"), &[width]);
        }
        set.norm(&name("norm2"), width);
        let hidden = self.mlp_hidden;
        set.weight(&name("mlp.fc1"), Role::Linear, &[hidden, width], self.proj_bias);
        set.weight(&name("mlp.fc2"), Role::Linear, &[width, hidden], self.proj_bias);
        if self.layer_scale {
            set.other(&name("ls2.gamma"), &[width]);
        }
    }

    /// Compares `found`, the names and shapes of the tensors at hand, with [`tensors`](Self::tensors).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`], one error that lists every missing, unexpected, repeated and mis-shaped
    /// tensor.
    pub fn check_tensors<'a>(
        &self,
        found: impl IntoIterator<Item = (&'a str, &'a [u32])>,
    ) -> Result<(), Error> {
        check_tensor_set(self.tensors(), found)
    }
}

/// Compares the tensors `found` with those `demanded`; time `n log n`.
pub(crate) fn check_tensor_set<'a>(
    demanded: Vec<TensorSpec>,
    found: impl IntoIterator<Item = (&'a str, &'a [u32])>,
) -> Result<(), Error> {
    let mut open: BTreeMap<String, (Vec<u32>, bool)> = BTreeMap::new();
    for spec in demanded {
        open.insert(spec.name, (spec.shape, false));
    }
    let (mut unexpected, mut repeated, mut misshaped) = (Vec::new(), Vec::new(), Vec::new());
    for (name, shape) in found {
        match open.get_mut(name) {
            // A name from a file may hold anything.
            None => unexpected.push(name.escape_debug().to_string()),
            Some((_, true)) => repeated.push(name.to_owned()),
            Some((demanded, seen)) => {
                *seen = true;
                if demanded != shape {
                    misshaped.push(format!("{name} (expected {demanded:?}, found {shape:?})"));
                }
            }
        }
    }
    let missing: Vec<String> =
        open.into_iter().filter(|(_, (_, seen))| !seen).map(|(name, _)| name).collect();

    let mut text = String::new();
    for (label, names) in [
        ("missing", missing),
        ("unexpected", unexpected),
        ("repeated", repeated),
        ("mis-shaped", misshaped),
    ] {
        if !names.is_empty() {
            let separator = if text.is_empty() { "" } else { "; " };
            // Writing to a string cannot fail.
            let _ = write!(text, "{separator}{label} ({}): {}", names.len(), names.join(", "));
        }
    }
    if text.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Invalid,
        format!("the tensors are not those that the configuration demands: {text}"),
    ))
}

/// The list being built.
#[derive(Default)]
struct TensorSet {
    specs: Vec<TensorSpec>,
}

impl TensorSet {
    fn push(&mut self, name: String, role: Role, shape: &[u32]) {
        self.specs.push(TensorSpec { name, shape: shape.to_vec(), role });
    }

    fn other(&mut self, name: &str, shape: &[u32]) {
        self.push(name.to_owned(), Role::Other, shape);
    }

    /// A LayerNorm: gain and bias.
    fn norm(&mut self, name: &str, width: u32) {
        self.other(&format!("{name}.weight"), &[width]);
        self.other(&format!("{name}.bias"), &[width]);
    }

    /// A weight whose first dimension is its outputs, and its bias.
    fn weight(&mut self, name: &str, role: Role, shape: &[u32], bias: bool) {
        self.push(format!("{name}.weight"), role, shape);
        if bias {
            let outputs = shape.first().copied().unwrap_or(0);
            self.other(&format!("{name}.bias"), &[outputs]);
        }
    }
}
