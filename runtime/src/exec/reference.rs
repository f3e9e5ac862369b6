//! The oracle of the forward pass: plain loops in `f64`, written from the definition of the model.
//!
//! Nothing here is shared with the fast path: no kernels, no fused epilogues, no tricks, so that a
//! mistake in one is not repeated in the other. It is public for tests of other crates; a forward
//! of a large model takes minutes.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::format::Container;
use crate::model::config::{Activation, Pooling, VitConfig};
use crate::model::decoded::values;

/// Dense tensors by timm name, in row-major order.
pub type Tensors = BTreeMap<String, Vec<f64>>;

/// All tensors that `container`'s config demands, codes expanded to `scale * code + offset`.
///
/// # Errors
/// When a tensor is missing from the container.
pub fn tensors(container: &Container) -> Result<Tensors, Error> {
    let specs = container.manifest().config.tensors();
    specs
        .into_iter()
        .map(|spec| {
            let values = values(container, &spec.name)?;
            Ok((spec.name, values.into_iter().map(f64::from).collect()))
        })
        .collect()
}

/// Logits (or features) `[batch, outputs]` of `pixels` `[batch, channels, height, width]`.
///
/// # Panics
/// When a tensor that `config` demands is missing or too short: the caller passes a valid model.
pub fn forward(config: &VitConfig, tensors: &Tensors, pixels: &[f64], batch: usize) -> Vec<f64> {
    let image = pixels.len() / batch.max(1);
    (0..batch)
        .flat_map(|b| Oracle { config, tensors }.image(&pixels[b * image..(b + 1) * image]))
        .collect()
}

struct Oracle<'a> {
    config: &'a VitConfig,
    tensors: &'a Tensors,
}

/// Rows of equal length: one per token.
type Rows = Vec<Vec<f64>>;

impl Oracle<'_> {
    fn get(&self, name: &str) -> Option<&[f64]> {
        self.tensors.get(name).map(Vec::as_slice)
    }

    fn image(&self, pixels: &[f64]) -> Vec<f64> {
        let mut x = self.embed(pixels);
        if self.config.pre_norm {
            x = self.norm(&x, "norm_pre");
        }
        for block in 0..self.config.depth {
            x = self.block(&x, &format!("blocks.{block}"));
        }
        if self.config.final_norm && !self.config.fc_norm {
            x = self.norm(&x, "norm");
        }
        self.head(&x)
    }

    /// Convolution of stride = kernel size, then the prefix tokens and the position embedding.
    fn embed(&self, pixels: &[f64]) -> Rows {
        let c = self.config;
        let (height, width) = (c.image_size[0] as usize, c.image_size[1] as usize);
        let (patch_h, patch_w) = (c.patch_size[0] as usize, c.patch_size[1] as usize);
        let (channels, dim) = (c.in_channels as usize, c.embed_dim as usize);
        let weight = &self.tensors["patch_embed.proj.weight"];
        let bias = self.get("patch_embed.proj.bias");
        let mut patches = Rows::new();
        for row in 0..height / patch_h {
            for column in 0..width / patch_w {
                let mut token = bias.map_or(vec![0.0; dim], <[f64]>::to_vec);
                for (out, value) in token.iter_mut().enumerate() {
                    for channel in 0..channels {
                        for y in 0..patch_h {
                            for x in 0..patch_w {
                                let pixel = (channel * height + row * patch_h + y) * width
                                    + column * patch_w
                                    + x;
                                let w = ((out * channels + channel) * patch_h + y) * patch_w + x;
                                *value += weight[w] * pixels[pixel];
                            }
                        }
                    }
                }
                patches.push(token);
            }
        }
        let mut prefix = Rows::new();
        for name in ["cls_token", "dist_token", "reg_token"] {
            if let Some(tokens) = self.get(name) {
                prefix.extend(tokens.chunks(dim).map(<[f64]>::to_vec));
            }
        }
        let position = self.get("pos_embed");
        if c.no_embed_class {
            add_rows(&mut patches, position, dim);
            prefix.extend(patches);
            prefix
        } else {
            prefix.extend(patches);
            add_rows(&mut prefix, position, dim);
            prefix
        }
    }

    fn norm(&self, x: &[Vec<f64>], name: &str) -> Rows {
        let gamma = &self.tensors[&format!("{name}.weight")];
        let beta = &self.tensors[&format!("{name}.bias")];
        let epsilon = f64::from(self.config.norm_epsilon);
        x.iter()
            .map(|row| {
                let n = row.len() as f64;
                let mean = row.iter().sum::<f64>() / n;
                let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
                let scaled = |(i, v): (usize, &f64)| {
                    (v - mean) / (variance + epsilon).sqrt() * gamma[i] + beta[i]
                };
                row.iter().enumerate().map(scaled).collect()
            })
            .collect()
    }

    fn linear(&self, x: &[Vec<f64>], name: &str) -> Rows {
        let weight = &self.tensors[&format!("{name}.weight")];
        let bias = self.get(&format!("{name}.bias"));
        x.iter()
            .map(|row| {
                weight
                    .chunks(row.len())
                    .enumerate()
                    .map(|(out, w)| {
                        let dot: f64 = w.iter().zip(row).map(|(w, v)| w * v).sum();
                        dot + bias.map_or(0.0, |b| b[out])
                    })
                    .collect()
            })
            .collect()
    }

    fn block(&self, x: &[Vec<f64>], name: &str) -> Rows {
        let mut y = self.norm(x, &format!("{name}.norm1"));
        y = self.attention(&y, &format!("{name}.attn"));
        let x = self.residual(x, y, &format!("{name}.ls1.gamma"));
        let mut y = self.norm(&x, &format!("{name}.norm2"));
        y = self.linear(&y, &format!("{name}.mlp.fc1"));
        for value in y.iter_mut().flatten() {
            *value = activate(self.config.activation, *value);
        }
        y = self.linear(&y, &format!("{name}.mlp.fc2"));
        self.residual(&x, y, &format!("{name}.ls2.gamma"))
    }

    fn residual(&self, x: &[Vec<f64>], mut y: Rows, gamma: &str) -> Rows {
        let gamma = self.get(gamma);
        for (row, base) in y.iter_mut().zip(x) {
            for (i, value) in row.iter_mut().enumerate() {
                *value = base[i] + gamma.map_or(1.0, |g| g[i]) * *value;
            }
        }
        y
    }

    fn attention(&self, x: &[Vec<f64>], name: &str) -> Rows {
        let heads = self.config.num_heads as usize;
        let dim = self.config.embed_dim as usize;
        let size = dim / heads;
        let qkv = self.linear(x, &format!("{name}.qkv"));
        let mut out = vec![vec![0.0; dim]; x.len()];
        for head in 0..heads {
            let part = |which: usize| -> Rows {
                let start = which * dim + head * size;
                qkv.iter().map(|row| row[start..start + size].to_vec()).collect()
            };
            let (mut q, mut k, v) = (part(0), part(1), part(2));
            if self.config.qk_norm {
                q = self.norm(&q, &format!("{name}.q_norm"));
                k = self.norm(&k, &format!("{name}.k_norm"));
            }
            for (token, query) in q.iter().enumerate() {
                let scores: Vec<f64> = k
                    .iter()
                    .map(|key| {
                        let dot: f64 = query.iter().zip(key).map(|(a, b)| a * b).sum();
                        dot / (size as f64).sqrt()
                    })
                    .collect();
                let weights = softmax(&scores);
                for (weight, value) in weights.iter().zip(&v) {
                    for (i, v) in value.iter().enumerate() {
                        out[token][head * size + i] += weight * v;
                    }
                }
            }
        }
        self.linear(&out, &format!("{name}.proj"))
    }

    fn head(&self, x: &[Vec<f64>]) -> Vec<f64> {
        let c = self.config;
        let classify = |row: Vec<f64>, name: &str| -> Vec<f64> {
            if c.num_classes == 0 { row } else { self.linear(&[row], name).remove(0) }
        };
        if c.distillation_token {
            let class = classify(x[0].clone(), "head");
            let distilled = classify(x[1].clone(), "head_dist");
            return class.iter().zip(&distilled).map(|(a, b)| (a + b) / 2.0).collect();
        }
        let mut pooled = self.pool(x);
        if c.final_norm && c.fc_norm {
            pooled = self.norm(&[pooled], "fc_norm").remove(0);
        }
        classify(pooled, "head")
    }

    fn pool(&self, x: &[Vec<f64>]) -> Vec<f64> {
        let prefix = usize::from(self.config.class_token)
            + usize::from(self.config.distillation_token)
            + self.config.register_tokens as usize;
        let tokens = if self.config.pool_include_prefix { x } else { &x[prefix..] };
        let column = |i: usize| tokens.iter().map(move |row| row[i]);
        let mean = |i: usize| column(i).sum::<f64>() / tokens.len() as f64;
        let max = |i: usize| column(i).fold(f64::NEG_INFINITY, f64::max);
        let dim = self.config.embed_dim as usize;
        match self.config.pooling {
            Pooling::Token => x[0].clone(),
            Pooling::Average => (0..dim).map(mean).collect(),
            Pooling::Max => (0..dim).map(max).collect(),
            Pooling::AverageMax => (0..dim).map(|i| 0.5 * (mean(i) + max(i))).collect(),
        }
    }
}

fn add_rows(rows: &mut Rows, addend: Option<&[f64]>, dim: usize) {
    let Some(addend) = addend else { return };
    for (row, add) in rows.iter_mut().zip(addend.chunks(dim)) {
        for (value, a) in row.iter_mut().zip(add) {
            *value += a;
        }
    }
}

fn softmax(scores: &[f64]) -> Vec<f64> {
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|p| p / sum).collect()
}

fn activate(activation: Activation, x: f64) -> f64 {
    use std::f64::consts::{FRAC_1_SQRT_2, PI};
    match activation {
        Activation::GeluErf => 0.5 * x * (1.0 + erf(x * FRAC_1_SQRT_2)),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
        }
        Activation::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
    }
}

/// `erf` by its series with positive terms, `2/sqrt(pi) e^(-x^2) sum 2^n x^(2n+1) / (2n+1)!!`.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-18 * sum.abs() {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

#[cfg(test)]
mod tests {
    use super::erf;

    #[test]
    fn erf_matches_tabulated_values() {
        for (x, expected) in [
            (0.0, 0.0),
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (-2.0, -0.995_322_265_018_952_7),
            (3.5, 0.999_999_256_901_628),
            (9.0, 1.0),
        ] {
            assert!((erf(x) - expected).abs() < 1e-14, "erf({x}) = {}", erf(x));
        }
    }
}
