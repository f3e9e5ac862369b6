//! From pixels to the residual stream: patch embedding, prefix tokens, position embedding.

use burn::tensor::{Tensor, TensorData};
use fresnel_runtime::model::config::VitConfig;

use super::{LayerNorm, Linear, matrix};
use crate::device::Device;
use crate::import::Checkpoint;

/// Everything before the first block.
#[derive(Debug, Clone)]
pub struct Embedding {
    patch: Linear,
    /// Class, then distillation or register tokens; rows of D.
    prefix: Option<Tensor<2>>,
    position: Option<Tensor<2>>,
    norm: Option<LayerNorm>,
    no_embed_class: bool,
    channels: usize,
    grid: [usize; 2],
    patch_size: [usize; 2],
    features: usize,
}

impl Embedding {
    /// Uploads the embedding of a model.
    ///
    /// # Panics
    /// Panics if `weights` lacks the patch embedding, which a loaded [`Checkpoint`] never does.
    pub fn load(device: &Device, weights: &Checkpoint, config: &VitConfig) -> Self {
        let features = config.embed_dim as usize;
        let prefix: Vec<Tensor<2>> = ["cls_token", "dist_token", "reg_token"]
            .iter()
            .filter_map(|name| matrix(device, weights, name, features))
            .collect();
        let pair = |size: [u32; 2]| [size[0] as usize, size[1] as usize];
        let [height, width] = pair(config.image_size);
        let [patch_height, patch_width] = pair(config.patch_size);
        Self {
            patch: Linear::load(device, weights, "patch_embed.proj")
                .expect("a checkpoint has a patch embedding"),
            prefix: (!prefix.is_empty()).then(|| Tensor::cat(prefix, 0)),
            position: matrix(device, weights, "pos_embed", features),
            norm: LayerNorm::load(device, weights, "norm_pre", config.norm_epsilon),
            no_embed_class: config.no_embed_class,
            channels: config.in_channels as usize,
            grid: [height / patch_height, width / patch_width],
            patch_size: [patch_height, patch_width],
            features,
        }
    }

    /// Replaces the patch embedding's weight (channels * height * width x D).
    pub fn set_patch_weight(&mut self, weight: Tensor<2>) {
        self.patch.weight = weight;
    }

    /// Takes out the normalization at the end (`norm_pre`), for callers that apply it themselves.
    pub fn take_norm(&mut self) -> Option<LayerNorm> {
        self.norm.take()
    }

    /// Embeds `images` images given as C x H x W pixels each, one after the other; the result is
    /// the residual stream, `[images * tokens, D]`.
    pub fn forward(&self, device: &Device, pixels: Vec<f32>, images: usize) -> Tensor<2> {
        let [rows, columns] = self.grid;
        let [height, width] = self.patch_size;
        let patches = rows * columns;
        let shape = [images, self.channels, rows, height, columns * width];
        let tensor: Tensor<5> = Tensor::from_data(TensorData::new(pixels, shape), device.burn());
        // Each patch becomes a row of channel x height x width values, the order of the weights.
        let flat: Tensor<2> = tensor
            .reshape([images * self.channels, rows, height, columns, width].map(|n| n as i64))
            .permute([0, 1, 3, 2, 4])
            .reshape([images, self.channels, patches, height * width].map(|n| n as i64))
            .permute([0, 2, 1, 3])
            .reshape([images * patches, self.channels * height * width].map(|n| n as i64));
        let mut stream: Tensor<3> =
            self.patch.forward(flat).reshape([images, patches, self.features].map(|n| n as i64));
        let positioned = |stream: Tensor<3>| match &self.position {
            Some(position) => stream + position.clone().unsqueeze::<3>(),
            None => stream,
        };
        if self.no_embed_class {
            stream = positioned(stream);
        }
        if let Some(prefix) = &self.prefix {
            let prefix = prefix.clone().unsqueeze::<3>().repeat_dim(0, images);
            stream = Tensor::cat(vec![prefix, stream], 1);
        }
        if !self.no_embed_class {
            stream = positioned(stream);
        }
        let [_, tokens, features] = stream.dims();
        let stream = stream.reshape([images * tokens, features].map(|n| n as i64));
        match &self.norm {
            Some(norm) => norm.forward(stream),
            None => stream,
        }
    }
}
