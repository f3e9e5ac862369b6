//! From the last residual stream to logits: final normalization, pooling, classifier.

use burn::tensor::Tensor;
use fresnel_runtime::model::config::{Pooling, VitConfig};

use super::{LayerNorm, Linear};
use crate::device::Device;
use crate::import::Checkpoint;

/// Everything after the last block.
#[derive(Debug, Clone)]
pub struct Head {
    /// Before the pooling.
    pub(crate) norm: Option<LayerNorm>,
    /// After the pooling.
    pub(crate) fc_norm: Option<LayerNorm>,
    /// `head`, none in models without classifier.
    pub(crate) classifier: Option<Linear>,
    /// `head_dist`, on the distillation token.
    pub(crate) distilled: Option<Linear>,
    distillation: bool,
    pooling: Pooling,
    /// Tokens in front that mean and maximum leave out.
    skipped: usize,
    tokens: usize,
}

impl Head {
    /// Uploads the head of a model.
    pub fn load(device: &Device, weights: &Checkpoint, config: &VitConfig) -> Self {
        let norm = |name: &str| LayerNorm::load(device, weights, name, config.norm_epsilon);
        let linear = |name: &str| Linear::load(device, weights, name);
        Self {
            norm: norm("norm").filter(|_| config.has_norm()),
            fc_norm: norm("fc_norm").filter(|_| config.has_fc_norm()),
            classifier: linear("head").filter(|_| config.num_classes > 0),
            distilled: linear("head_dist").filter(|_| config.distillation_token),
            distillation: config.distillation_token,
            pooling: config.pooling,
            skipped: if config.pool_include_prefix { 0 } else { config.prefix_tokens() as usize },
            tokens: config.tokens() as usize,
        }
    }

    /// Logits, or pooled features in models without classifier: one row per image, from the
    /// residual stream (`[images * tokens, D]`).
    pub fn forward(&self, stream: Tensor<2>) -> Tensor<2> {
        let stream = match &self.norm {
            Some(norm) => norm.forward(stream),
            None => stream,
        };
        let [rows, features] = stream.dims();
        let images = rows / self.tokens;
        let tokens: Tensor<3> = stream.reshape([images, self.tokens, features].map(|n| n as i64));
        let token = |index: usize| -> Tensor<2> {
            tokens.clone().narrow(1, index, 1).reshape([images, features].map(|n| n as i64))
        };
        let classify = |row: Tensor<2>, head: &Option<Linear>| match head {
            Some(head) => head.forward(row),
            None => row,
        };
        if self.distillation {
            let class = classify(token(0), &self.classifier);
            return (class + classify(token(1), &self.distilled)) / 2.0;
        }
        let pooled = self.pool(&tokens, token);
        let pooled = match &self.fc_norm {
            Some(norm) => norm.forward(pooled),
            None => pooled,
        };
        classify(pooled, &self.classifier)
    }

    fn pool(&self, tokens: &Tensor<3>, token: impl Fn(usize) -> Tensor<2>) -> Tensor<2> {
        let [images, count, features] = tokens.dims();
        let pooled = || tokens.clone().narrow(1, self.skipped, count - self.skipped);
        let flat = |row: Tensor<3>| row.reshape([images, features].map(|n| n as i64));
        let mean = || flat(pooled().mean_dim(1));
        let max = || flat(pooled().max_dim(1));
        match self.pooling {
            Pooling::Token => token(0),
            Pooling::Average => mean(),
            Pooling::Max => max(),
            Pooling::AverageMax => (mean() + max()) * 0.5,
        }
    }
}
