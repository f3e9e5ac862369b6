//! The end of a pass: final norm, pooling, pooled norm and classifier.

use fresnel_kernels::gpu::shader::Element;
use fresnel_kernels::gpu::shader::operations::PoolShape;
use fresnel_kernels::gpu::{
    Epilogue, Placement, Pooling as PoolingStep, Residual, RowGroups, RowOperation, Rows,
    row_stride,
};

use super::builder::{Builder, Product};
use crate::error::Error;
use crate::exec::profile::Operation;
use crate::model::config::{Pooling, VitConfig};
use crate::model::weights::{Gpu, Linear};

/// Adds the steps from the stream to the outputs, `[images, outputs]`, and returns these.
pub(super) fn record(builder: &mut Builder<'_>, config: &VitConfig) -> Result<Rows, Error> {
    let weights = builder.weights;
    // Only tokens that are pooled are normalised.
    let pooled = pooled_tokens(builder, config);
    let tokens = match &weights.norm {
        Some(norm) => normalized_tokens(builder, &pooled, [&norm.gamma, &norm.beta], norm.epsilon)?,
        None => pooled,
    };
    let heads = weights.head.as_ref().zip(weights.head_distilled.as_ref());
    if let (true, Some((head, distilled))) = (config.distillation_token, heads) {
        return distilled_logits(builder, &tokens, head, distilled);
    }
    let (mean, maximum) = match config.pooling {
        Pooling::Token | Pooling::Average => (true, false),
        Pooling::Max => (false, true),
        Pooling::AverageMax => (true, true),
    };
    let mut features = tokens.pool(builder, mean, maximum)?;
    if let Some(norm) = &weights.fc_norm {
        let normed = new_rows(builder, "features", builder.sizes.dim)?;
        let groups = RowGroups::dense(builder.sizes.dim);
        let gains = [&norm.gamma, &norm.beta];
        let step = RowOperation::layer_norm(
            &builder.gpu,
            norm.epsilon,
            &features,
            groups,
            gains,
            &normed,
        )?;
        builder.step(Operation::Pooling, 0, move |recorder, images| step.record(recorder, images));
        features = normed;
    }
    match &weights.head {
        Some(head) => {
            let logits = new_rows(builder, "logits", builder.sizes.outputs)?;
            classify(builder, head, &features, &logits, Epilogue::default())?;
            Ok(logits)
        }
        None => Ok(features),
    }
}

/// Tokens of each image in some rows.
struct Tokens {
    rows: Rows,
    /// Rows of an image.
    per_image: usize,
    /// The first that is meant, and how many are.
    first: usize,
    count: usize,
}

fn pooled_tokens(builder: &Builder<'_>, config: &VitConfig) -> Tokens {
    let (per_image, prefix) = (builder.sizes.tokens(), builder.sizes.prefix);
    let skipped = if config.pool_include_prefix { 0 } else { prefix };
    let (first, count) = match config.pooling {
        _ if config.distillation_token => (0, 2),
        Pooling::Token => (0, 1),
        Pooling::Average | Pooling::Max | Pooling::AverageMax => (skipped, per_image - skipped),
    };
    Tokens { rows: builder.stream.clone(), per_image, first, count }
}

fn normalized_tokens(
    builder: &mut Builder<'_>,
    tokens: &Tokens,
    gains: [&fresnel_kernels::gpu::Buffer; 2],
    epsilon: f32,
) -> Result<Tokens, Error> {
    let (count, stride) = (tokens.count, row_stride(builder.sizes.dim));
    let rows = builder.single_rows("normalised tokens", builder.images * count)?;
    let groups = RowGroups {
        base: (tokens.first * stride) as u32,
        group: count as u32,
        outer: (tokens.per_image * stride) as u32,
        inner: stride as u32,
        per_vector: count as u32,
    };
    let step = RowOperation::layer_norm(&builder.gpu, epsilon, &tokens.rows, groups, gains, &rows)?;
    builder
        .step(Operation::Pooling, 0, move |recorder, images| step.record(recorder, images * count));
    Ok(Tokens { rows, per_image: count, first: 0, count })
}

impl Tokens {
    /// Features of each image, `[images, dim]`.
    fn pool(&self, builder: &mut Builder<'_>, mean: bool, maximum: bool) -> Result<Rows, Error> {
        let [width, tokens, first, count] =
            [builder.sizes.dim, self.per_image, self.first, self.count].map(|size| size as u32);
        let shape = PoolShape { width, tokens, first, count, mean, maximum };
        let out = new_rows(builder, "pooled features", builder.sizes.dim)?;
        let step = PoolingStep::new(&builder.gpu, &shape, &self.rows, &out)?;
        builder.step(Operation::Pooling, 0, move |recorder, images| step.record(recorder, images));
        Ok(out)
    }

    /// One of them.
    fn one(&self, index: usize) -> Tokens {
        Tokens { rows: self.rows.clone(), first: self.first + index, count: 1, ..*self }
    }
}

/// The class token's and the distillation token's predictions, averaged.
fn distilled_logits(
    builder: &mut Builder<'_>,
    tokens: &Tokens,
    head: &Linear<Gpu>,
    distilled: &Linear<Gpu>,
) -> Result<Rows, Error> {
    let outputs = builder.sizes.outputs;
    let logits = new_rows(builder, "logits", outputs)?;
    let half = builder.gpu.buffer_of("halves", &vec![0.5_f32; outputs])?;
    let epilogue = Epilogue { layer_scale: Some(&half), ..Epilogue::default() };
    let class = tokens.one(0).pool(builder, true, false)?;
    classify(builder, head, &class, &logits, epilogue)?;
    let distillation = tokens.one(1).pool(builder, true, false)?;
    let epilogue = Epilogue { residual: Some(Residual::InPlace), ..epilogue };
    classify(builder, distilled, &distillation, &logits, epilogue)?;
    Ok(logits)
}

fn classify(
    builder: &mut Builder<'_>,
    linear: &Linear<Gpu>,
    features: &Rows,
    logits: &Rows,
    epilogue: Epilogue<'_>,
) -> Result<(), Error> {
    let input = builder.quantized(Operation::Pooling, linear, features.clone(), 1)?;
    builder.product(Product {
        operation: Operation::Head,
        linear,
        input: &input,
        output: logits,
        rows: 1,
        epilogue,
        placement: Placement::IDENTITY,
    })
}

/// A row for each image, in single precision.
fn new_rows(builder: &Builder<'_>, name: &str, columns: usize) -> Result<Rows, Error> {
    Ok(Rows::new(&builder.gpu, name, Element::F32, builder.images, columns)?)
}
