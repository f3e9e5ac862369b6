//! The output end of the forward pass on the CPU: final norm, pooling, pooled norm and classifiers.

use std::sync::Arc;

use fresnel_kernels::{Arithmetic, Epilogue, Layout, Pool, Rows, ops};

use super::arena::Arena;
use super::cpu::{Executor, Multiply, Out};
use super::patches::{Sizes, pool};
use super::profile::Operation;
use crate::model::config::{Pooling, VitConfig};
use crate::model::weights::{Linear, Norm};

impl Executor {
    /// From the residual stream of `count` images to `out`, logits or features.
    pub(super) fn head(&mut self, arithmetic: Arithmetic, count: usize, out: &mut [f32]) {
        let weights = Arc::clone(&self.weights);
        let Self { config, pool: threads, arena, clock, sizes, .. } = self;
        let Arena { x, y, wide, packed, .. } = arena;
        let mut multiply = Multiply { pool: threads, arithmetic, packed, clock };
        let mut classify = |rows: &[f32], head: &Option<Linear>, out: &mut [f32]| match head {
            Some(linear) => {
                let laps = [Operation::Pooling, Operation::Head];
                let rows = Rows::Plain { values: rows, columns: sizes.dim, layout: Layout::Rows };
                multiply.run(laps, &rows, linear, Epilogue::default(), Out::Single(out));
            }
            None => {
                out.copy_from_slice(rows);
                multiply.clock.lap(Operation::Pooling, 0);
            }
        };

        let used = used_tokens(config, sizes);
        let stream = &x[..count * sizes.tokens() * sizes.dim];
        let tokens = &mut y[..count * used * sizes.dim];
        gather(sizes, stream, used, tokens);
        let tokens = match &weights.norm {
            Some(norm) => {
                let normalized = &mut x[..tokens.len()];
                normalize(threads, norm, tokens, normalized);
                &*normalized
            }
            None => &*tokens,
        };
        let images = tokens.chunks_exact(used * sizes.dim);
        let (pooled, distilled) = wide.split_at_mut(count * sizes.dim);
        if config.distillation_token {
            // The class token's and the distillation token's predictions, averaged.
            let distilled = &mut distilled[..count * sizes.dim];
            let rows =
                pooled.chunks_exact_mut(sizes.dim).zip(distilled.chunks_exact_mut(sizes.dim));
            for (image, (class, distillation)) in images.zip(rows) {
                class.copy_from_slice(&image[..sizes.dim]);
                distillation.copy_from_slice(&image[sizes.dim..]);
            }
            classify(pooled, &weights.head, out);
            let others = &mut y[..out.len()];
            classify(distilled, &weights.head_distilled, others);
            for (value, other) in out.iter_mut().zip(others) {
                *value = (*value + *other) / 2.0;
            }
            return;
        }
        for (image, row) in images.zip(pooled.chunks_exact_mut(sizes.dim)) {
            pool(config, sizes, image, row);
        }
        match &weights.fc_norm {
            Some(norm) => {
                let normed = &mut y[..count * sizes.dim];
                normalize(threads, norm, pooled, normed);
                classify(normed, &weights.head, out);
            }
            None => classify(pooled, &weights.head, out),
        }
    }
}

/// How many tokens of an image, from the first, its features are made from.
fn used_tokens(config: &VitConfig, sizes: &Sizes) -> usize {
    if config.distillation_token {
        2
    } else if config.pooling == Pooling::Token {
        1
    } else {
        sizes.tokens()
    }
}

/// Copies the first `used` tokens of each image out of the stream, row-major.
fn gather(sizes: &Sizes, stream: &[f32], used: usize, tokens: &mut [f32]) {
    let layout = sizes.stream_layout();
    for (image, tokens) in tokens.chunks_exact_mut(used * sizes.dim).enumerate() {
        for (index, token) in tokens.chunks_exact_mut(sizes.dim).enumerate() {
            layout.gather(stream, image * sizes.tokens() + index, token);
        }
    }
}

/// LayerNorm over every row of `x`.
pub(super) fn normalize(pool: &Pool, norm: &Norm, x: &[f32], out: &mut [f32]) {
    ops::layer_norm(pool, x, &norm.gamma, &norm.beta, norm.epsilon, out);
}
