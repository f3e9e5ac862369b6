//! The input and output ends of the forward pass: embedded patches to tokens, tokens to pooled features.

use fresnel_kernels::Layout;

use crate::model::config::{Pooling, VitConfig};
use crate::model::weights::Weights;

/// Sizes of one model in elements, computed once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) patch_height: usize,
    pub(crate) patch_width: usize,
    /// Patches per image.
    pub(crate) patches: usize,
    /// Tokens before the patches.
    pub(crate) prefix: usize,
    pub(crate) dim: usize,
    pub(crate) heads: usize,
    pub(crate) hidden: usize,
    pub(crate) outputs: usize,
}

impl Sizes {
    /// The sizes of a valid config.
    pub(crate) fn new(config: &VitConfig) -> Self {
        Self {
            channels: config.in_channels as usize,
            height: config.image_size[0] as usize,
            width: config.image_size[1] as usize,
            patch_height: config.patch_size[0] as usize,
            patch_width: config.patch_size[1] as usize,
            patches: config.patches() as usize,
            prefix: config.prefix_tokens() as usize,
            dim: config.embed_dim as usize,
            heads: config.num_heads as usize,
            hidden: config.mlp_hidden as usize,
            outputs: config.output_features() as usize,
        }
    }

    /// Numbers per image.
    pub(crate) fn image(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Tokens per image.
    pub(crate) fn tokens(&self) -> usize {
        self.prefix + self.patches
    }

    /// How the residual stream lies in memory on the CPU.
    pub(crate) fn stream_layout(&self) -> Layout {
        Layout::of(self.dim)
    }
}

/// Fills the residual stream of some images: prefix tokens, embedded patches, positions. `row` is room for a token.
pub(crate) fn assemble(
    config: &VitConfig,
    weights: &Weights,
    sizes: &Sizes,
    embedded: &[f32],
    row: &mut [f32],
    stream: &mut [f32],
) {
    let layout = sizes.stream_layout();
    let prefix = [&weights.class_token, &weights.distillation_token, &weights.register_tokens];
    let prefix = || {
        let tokens = prefix.into_iter().filter_map(|tokens| tokens.as_deref());
        tokens.flat_map(|tokens| tokens.chunks_exact(sizes.dim))
    };
    let skipped = if config.no_embed_class { sizes.prefix } else { 0 };
    let tokens = sizes.tokens();
    for index in 0..stream.len() / sizes.dim {
        let (image, token) = (index / tokens, index % tokens);
        match token.checked_sub(sizes.prefix) {
            Some(patch) => layout.gather(embedded, image * sizes.patches + patch, row),
            None => row.copy_from_slice(prefix().nth(token).unwrap_or_default()),
        }
        let positioned = token.checked_sub(skipped);
        if let (Some(positions), Some(place)) = (&weights.position_embedding, positioned) {
            let position = &positions[place * sizes.dim..][..sizes.dim];
            row.iter_mut().zip(position).for_each(|(value, p)| *value += p);
        }
        layout.scatter(stream, index, row);
    }
}

/// Pools the tokens `[tokens, dim]` of one image into `pooled` `[dim]`, as timm's `global_pool_nlc`.
pub(crate) fn pool(config: &VitConfig, sizes: &Sizes, x: &[f32], pooled: &mut [f32]) {
    let skipped = if config.pool_include_prefix { 0 } else { sizes.prefix };
    let rows = || x.chunks_exact(sizes.dim).skip(skipped);
    let mean = |out: &mut [f32]| {
        out.fill(0.0);
        for row in rows() {
            out.iter_mut().zip(row).for_each(|(sum, v)| *sum += v);
        }
        let count = rows().len() as f32;
        out.iter_mut().for_each(|sum| *sum /= count);
    };
    let maximum = |i: usize| rows().map(|row| row[i]).fold(f32::NEG_INFINITY, f32::max);
    match config.pooling {
        Pooling::Token => pooled.copy_from_slice(&x[..sizes.dim]),
        Pooling::Average => mean(pooled),
        Pooling::Max => {
            pooled.iter_mut().enumerate().for_each(|(i, out)| *out = maximum(i));
        }
        Pooling::AverageMax => {
            mean(pooled);
            for (i, out) in pooled.iter_mut().enumerate() {
                *out = 0.5 * (*out + maximum(i));
            }
        }
    }
}
