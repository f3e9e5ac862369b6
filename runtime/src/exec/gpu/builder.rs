//! The steps of a pass, put together.
//!
//! Activations live in three buffers, each used by every layer for one thing after another:
//!
//! ```text
//! stream  [tokens, dim]                   residual stream, f32
//! narrow  [tokens, dim]                   normalised tokens; attention output
//! wide    [tokens, max(3 dim, hidden)]    patches; query, key, value; hidden layer of the MLP
//! ```
//!
//! In integer arithmetic the left operand of each product lies in buffers of codes beside them: norms and patches are written
//! there, attention and the hidden layer quantised by a step of their own. What is rounded further, and everything but the stream in half precision, is stored as f16. Bias, GELU, LayerScale and the residual are
//! in the products' epilogues, positions are the residual of the patch embedding, and its rows go to their places among
//! the tokens. Attention adds in f32 in every arithmetic; in integer arithmetic it reads f16, not bytes.

use std::collections::HashMap;
use std::ops::Range;

use fresnel_kernels::Arithmetic;
use fresnel_kernels::gpu::shader::Element;
use fresnel_kernels::gpu::shader::operations::{AttentionShape, PatchShape};
use fresnel_kernels::gpu::{
    self, Attention, Autotuner, Buffer, Epilogue, GpuError, Matmul, MatmulDescriptor, Operand,
    Placement, Plan, Prefix, Quantized, Recorder, Residual, RowGroups, RowOperation, Rows,
    row_stride,
};

use super::pass::{Step, numbers};
use crate::error::Error;
use crate::exec::patches::Sizes;
use crate::exec::profile::Operation;
use crate::model::weights::{Block, Gpu, Linear, Norm, Weights, gpu_arithmetic};

/// A pass in the making.
pub(super) struct Builder<'a> {
    pub(super) gpu: gpu::Gpu,
    pub(super) weights: &'a Weights<Gpu>,
    pub(super) sizes: Sizes,
    arithmetic: Arithmetic,
    pub(super) images: usize,
    pub(super) pixels: Buffer,
    /// `[images * tokens, dim]`
    pub(super) stream: Rows,
    narrow: Rows,
    wide: Rows,
    attention: AttentionShape,
    /// How normalised tokens and patches are stored, which products read.
    operand: Element,
    /// How queries, keys, values and the output of attention are.
    attended: Element,
    /// Codes, by their columns.
    codes: HashMap<usize, Quantized>,
    tuner: &'a mut Option<Autotuner>,
    pub(super) steps: Vec<Step>,
    /// Names of the kernels of the blocks' products, each once.
    pub(super) kernels: Vec<String>,
}

/// What a product multiplies.
pub(super) enum Input {
    Numbers(Rows),
    Codes(Quantized),
}

impl<'a> From<&'a Input> for Operand<'a> {
    fn from(input: &'a Input) -> Self {
        match input {
            Input::Numbers(rows) => rows.into(),
            Input::Codes(codes) => codes.into(),
        }
    }
}

/// What a product is for, and what is done with it.
pub(super) struct Product<'a> {
    pub(super) operation: Operation,
    pub(super) linear: &'a Linear<Gpu>,
    pub(super) input: &'a Input,
    pub(super) output: &'a Rows,
    /// Rows of an image.
    pub(super) rows: usize,
    pub(super) epilogue: Epilogue<'a>,
    pub(super) placement: Placement,
}

impl<'a> Builder<'a> {
    pub(super) fn new(
        weights: &'a Weights<Gpu>,
        sizes: Sizes,
        arithmetic: Arithmetic,
        images: usize,
        tuner: &'a mut Option<Autotuner>,
    ) -> Result<Self, Error> {
        let gpu = weights.placement.device().clone();
        let rows = images * sizes.tokens();
        let [pixels, _, wide] = numbers(&sizes);
        let attention = AttentionShape {
            tokens: sizes.tokens() as u32,
            heads: sizes.heads as u32,
            head_dim: (sizes.dim / sizes.heads) as u32,
        };
        // Quantised from f32, as on the CPU.
        let operand = if arithmetic == Arithmetic::Half { Element::F16 } else { Element::F32 };
        let attended = if attention.has_half() { rounded(arithmetic) } else { Element::F32 };
        let memory = if attended == operand { operand } else { Element::F32 };
        let wide_columns = wide.div_ceil(sizes.tokens());
        Ok(Self {
            weights,
            arithmetic,
            images,
            pixels: gpu.buffer("pixels", (images * pixels * size_of::<f32>()) as u64)?,
            stream: Rows::new(&gpu, "stream", Element::F32, rows, sizes.dim)?,
            narrow: Rows::new(&gpu, "narrow", memory, rows, sizes.dim)?,
            wide: Rows::new(&gpu, "wide", memory, rows, wide_columns)?,
            attention,
            operand,
            attended,
            codes: HashMap::new(),
            tuner,
            steps: Vec::new(),
            kernels: Vec::new(),
            sizes,
            gpu,
        })
    }

    pub(super) fn step(
        &mut self,
        operation: Operation,
        multiply_accumulates: usize,
        record: impl Fn(&mut Recorder, usize) -> Result<(), GpuError> + Send + Sync + 'static,
    ) {
        self.steps.push(Step { operation, multiply_accumulates, record: Box::new(record) });
    }

    /// Pixels to tokens in the stream.
    pub(super) fn embed(&mut self) -> Result<(), Error> {
        let sizes = self.sizes;
        let Sizes { channels, patches, dim, .. } = sizes;
        let shape = PatchShape {
            channels: channels as u32,
            image: [sizes.height, sizes.width].map(|size| size as u32),
            patch: [sizes.patch_height, sizes.patch_width].map(|size| size as u32),
        };
        let columns = channels * sizes.patch_height * sizes.patch_width;
        let cut = self.wide.recast(self.operand, self.images * patches, columns)?;
        let cut = self.input(&self.weights.patch_embed, cut)?;
        let gather = RowOperation::patches(&self.gpu, &shape, &self.pixels, &cut)?;
        self.step(Operation::Patches, 0, move |recorder, images| {
            gather.record(recorder, images * patches)
        });

        let weights = self.weights;
        let (prefix, tokens) = (sizes.prefix, sizes.tokens());
        let positions = weights.position_embedding.as_ref();
        // Either all tokens have a position or only the patches.
        let before = positions.map_or(0, |positions| positions.rows() - patches);
        let patch_positions = positions
            .map(|positions| self.copied("positions", &[(positions, before..before + patches)]))
            .transpose()?;
        let stream = self.stream.clone();
        self.product(Product {
            operation: Operation::PatchEmbedding,
            linear: &weights.patch_embed,
            input: &cut,
            output: &stream,
            rows: patches,
            epilogue: Epilogue {
                residual: patch_positions.as_ref().map(Residual::Rows),
                ..Epilogue::default()
            },
            placement: Placement {
                group: patches as u32,
                step: tokens as u32,
                first: prefix as u32,
            },
        })?;
        if prefix > 0 {
            let parts: Vec<_> =
                [&weights.class_token, &weights.distillation_token, &weights.register_tokens]
                    .into_iter()
                    .flatten()
                    .map(|rows| (rows, 0..rows.rows()))
                    .collect();
            let front = self.copied("prefix tokens", &parts)?;
            let positions = positions.filter(|_| before > 0);
            let put = Prefix::new(&self.gpu, tokens, &front, positions, &self.stream)?;
            self.step(Operation::Tokens, 0, move |recorder, images| put.record(recorder, images));
        }
        if let Some(norm) = &weights.pre_norm {
            let groups = RowGroups::dense(dim);
            let norm = RowOperation::layer_norm_in_place(
                &self.gpu,
                norm.epsilon,
                &self.stream,
                dim,
                groups,
                [&norm.gamma, &norm.beta],
            )?;
            self.step(Operation::Tokens, 0, move |recorder, images| {
                norm.record(recorder, images * tokens)
            });
        }
        Ok(())
    }

    /// One transformer block from the stream to the stream.
    pub(super) fn block(&mut self, block: &'a Block<Gpu>) -> Result<(), Error> {
        let sizes = self.sizes;
        let Sizes { dim, hidden, .. } = sizes;
        let (tokens, rows) = (sizes.tokens(), self.images * sizes.tokens());
        let stream = self.stream.clone();
        let normed = self.narrow.recast(self.operand, rows, dim)?;
        let product = |operation, linear, input, output, epilogue| Product {
            operation,
            linear,
            input,
            output,
            rows: tokens,
            epilogue,
            placement: Placement::IDENTITY,
        };

        let qkv = self.wide.recast(self.attended, rows, 3 * dim)?;
        let attended = self.narrow.recast(self.attended, rows, dim)?;
        let input = self.input(&block.qkv, normed.clone())?;
        self.norm(Operation::Norm1, &block.norm1, &input)?;
        let epilogue = Epilogue::default();
        self.product(product(Operation::Qkv, &block.qkv, &input, &qkv, epilogue))?;
        if let Some((q, k)) = block.q_norm.as_ref().zip(block.k_norm.as_ref()) {
            self.head_norms(q, k, &qkv)?;
        }
        let attention = Attention::new(&self.gpu, &self.attention, &qkv, &attended)?;
        self.step(Operation::Attention, 2 * tokens * tokens * dim, move |recorder, images| {
            attention.record(recorder, images)
        });
        let epilogue = Epilogue {
            layer_scale: block.layer_scale1.as_ref(),
            residual: Some(Residual::InPlace),
            ..Epilogue::default()
        };
        let input = self.quantized(Operation::PackAttention, &block.proj, attended, tokens)?;
        self.product(product(Operation::Projection, &block.proj, &input, &stream, epilogue))?;

        let input = self.input(&block.fc1, normed)?;
        self.norm(Operation::Norm2, &block.norm2, &input)?;
        // What goes into float layers stays f32, as on the CPU.
        let stored = rounded(gpu_arithmetic(&block.fc2.weight, self.arithmetic));
        let hidden = self.wide.recast(stored, rows, hidden)?;
        let epilogue = Epilogue { activation: Some(block.activation), ..Epilogue::default() };
        self.product(product(Operation::Fc1, &block.fc1, &input, &hidden, epilogue))?;
        let epilogue = Epilogue {
            layer_scale: block.layer_scale2.as_ref(),
            residual: Some(Residual::InPlace),
            ..Epilogue::default()
        };
        let input = self.quantized(Operation::PackHidden, &block.fc2, hidden.clone(), tokens)?;
        self.product(product(Operation::Fc2, &block.fc2, &input, &stream, epilogue))
    }

    /// So many tokens in single precision: in the narrow buffer if they fit.
    pub(super) fn single_rows(&self, name: &str, count: usize) -> Result<Rows, Error> {
        match self.narrow.recast(Element::F32, count, self.sizes.dim) {
            Ok(rows) => Ok(rows),
            Err(_) => Ok(Rows::new(&self.gpu, name, Element::F32, count, self.sizes.dim)?),
        }
    }

    /// LayerNorm of the stream.
    fn norm(&mut self, operation: Operation, norm: &Norm<Gpu>, out: &Input) -> Result<(), Error> {
        let tokens = self.sizes.tokens();
        let groups = RowGroups::dense(self.sizes.dim);
        let gains = [&norm.gamma, &norm.beta];
        let norm =
            RowOperation::layer_norm(&self.gpu, norm.epsilon, &self.stream, groups, gains, out)?;
        self.step(operation, 0, move |recorder, images| norm.record(recorder, images * tokens));
        Ok(())
    }

    /// LayerNorm over each head's query and key.
    fn head_norms(&mut self, q: &Norm<Gpu>, k: &Norm<Gpu>, qkv: &Rows) -> Result<(), Error> {
        let Sizes { dim, heads, .. } = self.sizes;
        let head_dim = dim / heads;
        let joined = |gpu: &gpu::Gpu, [q, k]: [&Buffer; 2]| {
            let bytes = (head_dim * size_of::<f32>()) as u64;
            let joined = gpu.buffer("norms of heads", 2 * bytes)?;
            let mut recorder = Recorder::new(gpu, "norms of heads")?;
            recorder.copy(q, 0, &joined, 0, bytes);
            recorder.copy(k, 0, &joined, bytes, bytes);
            recorder.submit()?;
            Ok::<_, GpuError>(joined)
        };
        let gamma = joined(&self.gpu, [&q.gamma, &k.gamma])?;
        let beta = joined(&self.gpu, [&q.beta, &k.beta])?;
        let groups = RowGroups {
            base: 0,
            group: 2 * heads as u32,
            outer: row_stride(3 * dim) as u32,
            inner: head_dim as u32,
            per_vector: heads as u32,
        };
        let gains = [&gamma, &beta];
        let norm =
            RowOperation::layer_norm_in_place(&self.gpu, q.epsilon, qkv, head_dim, groups, gains)?;
        let per_image = self.sizes.tokens() * 2 * heads;
        self.step(Operation::QkNorm, 0, move |recorder, images| {
            norm.record(recorder, images * per_image)
        });
        Ok(())
    }

    /// A new buffer with rows of others, one behind the other.
    fn copied(&self, name: &str, parts: &[(&Rows, Range<usize>)]) -> Result<Rows, Error> {
        let dim = self.sizes.dim;
        let count = parts.iter().map(|(_, range)| range.len()).sum();
        let rows = Rows::new(&self.gpu, name, Element::F32, count, dim)?;
        let bytes = |rows: usize| (rows * row_stride(dim) * size_of::<f32>()) as u64;
        let mut recorder = Recorder::new(&self.gpu, name)?;
        let mut filled = 0;
        for (part, range) in parts {
            let (from, length) = (bytes(range.start), bytes(range.len()));
            recorder.copy(part.buffer(), from, rows.buffer(), bytes(filled), length);
            filled += range.len();
        }
        recorder.submit()?;
        Ok(rows)
    }

    /// Where the operand of a layer lies: in a buffer of codes where it is multiplied in integers, else in `numbers`.
    fn input(&mut self, linear: &Linear<Gpu>, numbers: Rows) -> Result<Input, Error> {
        if gpu_arithmetic(&linear.weight, self.arithmetic) != Arithmetic::Int8 {
            return Ok(Input::Numbers(numbers));
        }
        let columns = numbers.columns();
        let codes = match self.codes.get(&columns) {
            Some(codes) if codes.rows() >= numbers.rows() => codes.clone(),
            _ => {
                let most = numbers.rows().max(self.stream.rows());
                let codes = Quantized::new(&self.gpu, most, columns)?;
                self.codes.insert(columns, codes.clone());
                codes
            }
        };
        Ok(Input::Codes(codes))
    }

    /// The operand of a layer, quantised where it is multiplied in integers; an image has so many rows.
    pub(super) fn quantized(
        &mut self,
        operation: Operation,
        linear: &Linear<Gpu>,
        numbers: Rows,
        rows: usize,
    ) -> Result<Input, Error> {
        let input = self.input(linear, numbers.clone())?;
        if let Input::Codes(codes) = &input {
            let quantize = RowOperation::quantize(&self.gpu, &numbers, codes)?;
            self.step(operation, 0, move |recorder, images| {
                quantize.record(recorder, images * rows)
            });
        }
        Ok(input)
    }

    /// A linear layer.
    pub(super) fn product(&mut self, product: Product<'_>) -> Result<(), Error> {
        let Product { operation, linear, input, output, rows, epilogue, placement } = product;
        let weight = &linear.weight;
        let arithmetic = gpu_arithmetic(weight, self.arithmetic);
        let descriptor = MatmulDescriptor {
            activations: input.into(),
            weights: weight,
            epilogue: Epilogue { bias: linear.bias.as_ref(), ..epilogue },
            output,
            placement,
        };
        let (n, k) = (weight.out_features(), weight.in_features());
        let most = rows * self.images;
        let plan = match self.tuner {
            Some(tuner) => tuner.plan(arithmetic, &descriptor, most, self.weights.share(weight))?,
            None => Plan::choose(self.gpu.capabilities(), arithmetic, [most, n]),
        };
        let matmul = Matmul::new(&self.gpu, plan, &descriptor)?;
        let name = matmul.kernel_name();
        let of_block = !matches!(operation, Operation::PatchEmbedding | Operation::Head);
        if of_block && !self.kernels.contains(&name) {
            self.kernels.push(name);
        }
        self.step(operation, rows * n * k, move |recorder, images| {
            matmul.record(recorder, images * rows)
        });
        Ok(())
    }
}

/// How activations are stored that are rounded further, or are half precision anyway.
fn rounded(arithmetic: Arithmetic) -> Element {
    match arithmetic {
        Arithmetic::F32 => Element::F32,
        Arithmetic::Half | Arithmetic::Int8 => Element::F16,
    }
}
