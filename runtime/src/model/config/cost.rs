//! Parameters, multiplications and activations of one forward pass, as timm's tables count them.
//!
//! timm counts with fvcore, so that products of matrices count one for each multiplication, normalizations five
//! for each number, and softmax, GELU, scalings and sums nothing; activations are the outputs of products.

use super::VitConfig;

/// What fvcore counts for each number that a LayerNorm with gain and bias normalizes.
const NORM_COST: u64 = 5;

impl VitConfig {
    /// Number of parameters (timm: `param_count`).
    pub fn parameters(&self) -> u64 {
        let size = |shape: &[u32]| shape.iter().map(|&extent| u64::from(extent)).product::<u64>();
        self.tensors().iter().map(|spec| size(&spec.shape)).sum()
    }

    /// Multiplications and additions of one image (timm: `gmacs`, there in 10^9).
    pub fn multiply_accumulates(&self) -> u64 {
        let [tokens, patches, dim, hidden, depth] = self.extents();
        let [height, width] = self.patch_size.map(u64::from);
        let patch_embedding = patches * dim * u64::from(self.in_channels) * height * width;
        let linear = tokens * (4 * dim * dim + 2 * dim * hidden);
        let attention = 2 * tokens * tokens * dim;
        let norms = if self.qk_norm { 4 } else { 2 };
        let block = linear + attention + norms * NORM_COST * tokens * dim;
        let mut normalized = 0;
        if self.pre_norm {
            normalized += tokens * dim;
        }
        if self.has_norm() {
            normalized += tokens * dim;
        }
        if self.has_fc_norm() {
            normalized += dim;
        }
        patch_embedding + depth * block + NORM_COST * normalized + dim * self.classifier_outputs()
    }

    /// Numbers that products give for one image (timm: `macts`, there in 10^6).
    pub fn activations(&self) -> u64 {
        let [tokens, patches, dim, hidden, depth] = self.extents();
        // Queries, keys and values; weighted values; the projection; the second layer of the MLP.
        let block = tokens * (6 * dim + hidden) + u64::from(self.num_heads) * tokens * tokens;
        patches * dim + depth * block + self.classifier_outputs()
    }

    /// Tokens, patches, width of a token, hidden width of the MLP, and blocks.
    fn extents(&self) -> [u64; 5] {
        [self.tokens(), self.patches(), self.embed_dim, self.mlp_hidden, self.depth].map(u64::from)
    }

    /// Outputs of all heads; none of a model without one.
    fn classifier_outputs(&self) -> u64 {
        let heads = if self.distillation_token { 2 } else { 1 };
        heads * u64::from(self.num_classes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::deit_tiny;
    use super::*;

    /// Against `benchmark-infer-fp32-nchw-pt240-cpu-i9_10940x-dynamo.csv` of timm's `results` folder.
    #[test]
    fn counts_are_those_of_the_tables_of_timm() {
        let tiny = deit_tiny();
        let small = VitConfig { embed_dim: 384, num_heads: 6, mlp_hidden: 1536, ..tiny.clone() };
        let deit3 = VitConfig { no_embed_class: true, layer_scale: true, ..small.clone() };
        let distilled = VitConfig { distillation_token: true, ..tiny.clone() };
        let large_pictures = VitConfig { image_size: [384, 384], ..tiny.clone() };
        for (config, expected) in [
            (tiny, "5.72 1.26 5.97"),
            (small, "22.05 4.61 11.95"),
            (deit3, "22.06 4.61 11.95"),
            (distilled, "5.91 1.27 6.01"),
            (large_pictures, "5.79 4.70 25.39"),
        ] {
            let millions = |count: u64| count as f64 / 1e6;
            let found = format!(
                "{:.2} {:.2} {:.2}",
                millions(config.parameters()),
                millions(config.multiply_accumulates()) / 1e3,
                millions(config.activations())
            );
            assert_eq!(found, expected, "{config:?}");
        }
    }
}
