//! Attention, pooling and the tokens before the patches, each bound to its buffers once and recorded any number of times.

use super::rows::row_stride;
use super::shader::Element;
use super::shader::operations::{self as texts, AttentionShape, PoolShape, PrefixShape};
use super::{Access, Arguments, Gpu, GpuError, KernelSource, Recorder, Rows};

/// `softmax(Q K^T / sqrt(head_dim)) V` of each image and head, sums in `f32`.
#[derive(Clone, Debug)]
pub struct Attention {
    arguments: Arguments,
    /// Workgroups for one image.
    workgroups: [u32; 2],
    /// Multiply-adds of one image.
    work: u64,
    /// Images that there is room for.
    images: usize,
}

impl Attention {
    /// From `qkv`, `[images * tokens, 3 * heads * head_dim]`, to `out`, `[images * tokens, heads * head_dim]`, both in half
    /// precision or neither.
    ///
    /// # Errors
    /// [`GpuError::Length`] when the shapes do not belong together, [`GpuError::Refused`] for half precision where
    /// [`AttentionShape::has_half`] says that there is none, and those of [`Gpu::kernel`] and [`Gpu::bind`].
    #[allow(unsafe_code)]
    pub fn new(
        gpu: &Gpu,
        shape: &AttentionShape,
        qkv: &Rows,
        out: &Rows,
    ) -> Result<Attention, GpuError> {
        let smallest = shape.tokens.min(shape.heads).min(shape.head_dim);
        check("least of tokens, heads and their features", 1, smallest.min(1) as usize)?;
        let width = shape.heads as usize * shape.head_dim as usize;
        check("columns of queries, keys and values", 3 * width, qkv.columns())?;
        check("columns of attention", width, out.columns())?;
        let half = qkv.element() == Element::F16;
        if half != (out.element() == Element::F16) || half && !shape.has_half() {
            return Err(refused(
                "attention",
                "half precision is for both sides or none, and not for these heads",
            ));
        }
        let space = gpu.parameter_space();
        let (text, queries) = if shape.is_wide() {
            (texts::wide_attention(space, shape), 1)
        } else {
            (texts::attention(space, shape, half), AttentionShape::QUERIES)
        };
        let source = KernelSource {
            name: "attention",
            text: &text,
            buffers: &[Access::Read, Access::Write],
            parameter_bytes: 0,
        };
        // SAFETY: `record` dispatches as many images as both sides have rows for, of as many columns as the text was made for, and
        // the shader reads and writes none but their tokens' and heads'. Indices of workgroup arrays and of a thread's own
        // are bounded by constants, as loops are. Divisors are constants, which the check above keeps from zero, or sums of
        // exponentials of which one is 1.
        let kernel = unsafe { gpu.kernel_unchecked(&source) }?;
        let [tokens, heads, head_dim] = [shape.tokens, shape.heads, shape.head_dim].map(u64::from);
        Ok(Attention {
            arguments: gpu.bind(&kernel, &[qkv.buffer().whole(), out.buffer().whole()])?,
            workgroups: [shape.tokens.div_ceil(queries), shape.heads],
            work: 2 * tokens * tokens * heads * head_dim,
            images: qkv.rows().min(out.rows()) / shape.tokens as usize,
        })
    }

    /// For the first `images` images.
    ///
    /// # Errors
    /// [`GpuError::Length`] when there is no room for so many.
    pub fn record(&self, recorder: &mut Recorder, images: usize) -> Result<(), GpuError> {
        let images = check_room(images, self.images)?;
        recorder.spend(self.work.saturating_mul(u64::from(images)));
        let [x, y] = self.workgroups;
        recorder.dispatch(&self.arguments, &[0_u32; 0], [x, y, images]);
        Ok(())
    }
}

/// Mean or maximum over the tokens of each image.
#[derive(Clone, Debug)]
pub struct Pooling {
    arguments: Arguments,
    /// Workgroups for one image.
    workgroups: u32,
    /// Images that there is room for.
    images: usize,
}

impl Pooling {
    /// From `tokens`, `[images * tokens, width]`, to `out`, `[images, width]`, both in single precision.
    ///
    /// # Errors
    /// [`GpuError::Length`] when the shapes do not belong together, and those of [`Gpu::kernel`] and [`Gpu::bind`].
    pub fn new(
        gpu: &Gpu,
        shape: &PoolShape,
        tokens: &Rows,
        out: &Rows,
    ) -> Result<Pooling, GpuError> {
        let width = shape.width as usize;
        check("columns of tokens", width, tokens.columns())?;
        check("columns of pooled features", width, out.columns())?;
        single("pooling", &[tokens, out])?;
        let kernel = gpu.kernel(&KernelSource {
            name: "pooling",
            text: &texts::pool(gpu.parameter_space(), shape),
            buffers: &[Access::Read, Access::Write],
            parameter_bytes: 4,
        })?;
        Ok(Pooling {
            arguments: gpu.bind(&kernel, &[tokens.buffer().whole(), out.buffer().whole()])?,
            workgroups: (row_stride(width) as u32).div_ceil(texts::THREADS),
            images: out.rows().min(tokens.rows() / shape.tokens as usize),
        })
    }

    /// For the first `images` images.
    ///
    /// # Errors
    /// [`GpuError::Length`] when there is no room for so many.
    pub fn record(&self, recorder: &mut Recorder, images: usize) -> Result<(), GpuError> {
        let images = check_room(images, self.images)?;
        recorder.dispatch(&self.arguments, &images, [self.workgroups, images, 1]);
        Ok(())
    }
}

/// The tokens before the patches, which are the same for all images.
#[derive(Clone, Debug)]
pub struct Prefix {
    arguments: Arguments,
    /// Workgroups for one image.
    workgroups: [u32; 2],
    /// Images that there is room for.
    images: usize,
}

impl Prefix {
    /// The rows of `prefix` to the front of each image of `tokens` rows in `out`, the first rows of `positions` added; all have as
    /// many columns, in single precision.
    ///
    /// # Errors
    /// [`GpuError::Length`] when the shapes do not belong together, and those of [`Gpu::kernel`] and [`Gpu::bind`].
    pub fn new(
        gpu: &Gpu,
        tokens: usize,
        prefix: &Rows,
        positions: Option<&Rows>,
        out: &Rows,
    ) -> Result<Prefix, GpuError> {
        check("columns of tokens", out.columns(), prefix.columns())?;
        single("prefix tokens", &[prefix, out])?;
        let mut buffers = vec![prefix.buffer().whole(), out.buffer().whole()];
        let mut access = vec![Access::Read, Access::Write];
        if let Some(positions) = positions {
            check("columns of positions", out.columns(), positions.columns())?;
            single("positions", &[positions])?;
            check_room(prefix.rows(), positions.rows())?;
            buffers.push(positions.buffer().whole());
            access.push(Access::Read);
        }
        let stride = row_stride(out.columns()) as u32;
        let shape = PrefixShape { stride, tokens: tokens as u32, positions: positions.is_some() };
        let kernel = gpu.kernel(&KernelSource {
            name: "prefix tokens",
            text: &texts::prefix(gpu.parameter_space(), &shape),
            buffers: &access,
            parameter_bytes: 4,
        })?;
        Ok(Prefix {
            arguments: gpu.bind(&kernel, &buffers)?,
            workgroups: [stride.div_ceil(texts::THREADS), prefix.rows() as u32],
            images: out.rows() / tokens.max(1),
        })
    }

    /// For the first `images` images.
    ///
    /// # Errors
    /// [`GpuError::Length`] when there is no room for so many.
    pub fn record(&self, recorder: &mut Recorder, images: usize) -> Result<(), GpuError> {
        let images = check_room(images, self.images)?;
        let [x, y] = self.workgroups;
        recorder.dispatch(&self.arguments, &images, [x, y, images]);
        Ok(())
    }
}

pub(super) fn check(what: &'static str, expected: usize, found: usize) -> Result<(), GpuError> {
    if expected == found {
        return Ok(());
    }
    Err(GpuError::Length { what, expected: expected as u64, found: found as u64 })
}

/// `count`, if there is room for so many.
pub(super) fn check_room(count: usize, room: usize) -> Result<u32, GpuError> {
    match u32::try_from(count) {
        Ok(small) if count <= room => Ok(small),
        _ => Err(GpuError::Length {
            what: "rows or images at most",
            expected: room as u64,
            found: count as u64,
        }),
    }
}

fn single(what: &str, rows: &[&Rows]) -> Result<(), GpuError> {
    if rows.iter().all(|rows| rows.element() == Element::F32) {
        return Ok(());
    }
    Err(refused(what, "it is done in single precision only"))
}

pub(super) fn refused(what: &str, reason: &str) -> GpuError {
    GpuError::Refused { what: what.to_owned(), reason: reason.to_owned() }
}
