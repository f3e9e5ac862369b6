//! The operations of a Vision Transformer between its products, each bound to its buffers once and recorded any number of times.

use bytemuck::{Pod, Zeroable};

use super::rows::row_stride;
use super::shader::Element;
use super::shader::operations::{
    self as texts, AttentionShape, PatchShape, PoolShape, PrefixShape, RowShape, RowSource,
};
use super::{Access, Arguments, Binding, Buffer, Gpu, GpuError, KernelSource, Recorder, Rows};

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
    pub fn new(
        gpu: &Gpu,
        shape: &AttentionShape,
        qkv: &Rows,
        out: &Rows,
    ) -> Result<Attention, GpuError> {
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
        let kernel = gpu.kernel(&KernelSource {
            name: "attention",
            text: &text,
            buffers: &[Access::Read, Access::Write],
            parameter_bytes: 0,
        })?;
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

/// Where rows lie in a buffer: row `r` begins at number `base + r / group * outer + r % group * inner`, and is normalised with
/// vector number `r % group / per_vector`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct RowGroups {
    /// Number that the first row begins at.
    pub base: u32,
    /// Rows of a group.
    pub group: u32,
    /// Numbers from group to group.
    pub outer: u32,
    /// Numbers from row to row in a group.
    pub inner: u32,
    /// Rows of a group that share a vector of gains.
    pub per_vector: u32,
}

impl RowGroups {
    /// Rows of `columns` numbers, one behind the other.
    pub fn dense(columns: usize) -> RowGroups {
        let outer = row_stride(columns) as u32;
        RowGroups { base: 0, group: 1, outer, inner: 0, per_vector: 1 }
    }

    /// Whether all of them begin at multiples of four numbers.
    fn is_aligned(&self) -> bool {
        [self.base, self.outer, self.inner].iter().all(|place| place.is_multiple_of(4))
    }

    /// Rows that end within `numbers` numbers.
    fn room(&self, numbers: usize, columns: usize) -> usize {
        let [base, group, outer, inner] =
            [self.base, self.group, self.outer, self.inner].map(|value| value as usize);
        let last = base + group.saturating_sub(1) * inner + columns;
        if last > numbers { 0 } else { ((numbers - last) / outer.max(1) + 1) * group }
    }
}

/// Rows that are normalised or cut out of images.
#[derive(Clone, Debug)]
pub struct RowOperation {
    arguments: Arguments,
    groups: RowGroups,
    /// Rows that there is room for.
    rows: usize,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct RowParameters {
    rows: u32,
    groups: RowGroups,
}

impl RowOperation {
    /// LayerNorm of rows of `input`, which `groups` describes, to the rows of `out`; `norm` are gains and biases.
    ///
    /// # Errors
    /// [`GpuError::Length`] when the shapes do not belong together, [`GpuError::Refused`] for half precision in rows that do not
    /// begin at multiples of four, and those of [`Gpu::kernel`] and [`Gpu::bind`].
    pub fn layer_norm(
        gpu: &Gpu,
        epsilon: f32,
        input: &Rows,
        groups: RowGroups,
        norm: [&Buffer; 2],
        out: &Rows,
    ) -> Result<RowOperation, GpuError> {
        let shape = RowShape {
            columns: out.columns() as u32,
            source: RowSource::Normalized { epsilon },
            in_place: false,
            aligned: groups.is_aligned(),
            input: input.element(),
            output: out.element(),
        };
        let buffers = [input.buffer(), out.buffer(), norm[0], norm[1]].map(Buffer::whole);
        let access = [Access::Read, Access::Write, Access::Read, Access::Read];
        let mut operation = RowOperation::new(gpu, &shape, groups, &buffers, &access)?;
        let room = groups.room(numbers(input), out.columns());
        operation.rows = room.min(out.rows());
        Ok(operation)
    }

    /// LayerNorm of rows of `columns` numbers in `data`, which `groups` describes, in place.
    ///
    /// # Errors
    /// As [`RowOperation::layer_norm`].
    pub fn layer_norm_in_place(
        gpu: &Gpu,
        epsilon: f32,
        data: &Rows,
        columns: usize,
        groups: RowGroups,
        norm: [&Buffer; 2],
    ) -> Result<RowOperation, GpuError> {
        let shape = RowShape {
            columns: columns as u32,
            source: RowSource::Normalized { epsilon },
            in_place: true,
            // What lies between the last column and the next multiple of four is none of this row's.
            aligned: groups.is_aligned() && columns.is_multiple_of(4),
            input: data.element(),
            output: data.element(),
        };
        let buffers = [data.buffer(), norm[0], norm[1]].map(Buffer::whole);
        let access = [Access::Write, Access::Read, Access::Read];
        let mut operation = RowOperation::new(gpu, &shape, groups, &buffers, &access)?;
        operation.rows = groups.room(numbers(data), columns);
        Ok(operation)
    }

    /// Patches of `images`, `[images, channels, height, width]` in `f32`, to the rows of `out`, in the order of the weights of a
    /// patch embedding.
    ///
    /// # Errors
    /// As [`RowOperation::layer_norm`].
    pub fn patches(
        gpu: &Gpu,
        patches: &PatchShape,
        images: &Buffer,
        out: &Rows,
    ) -> Result<RowOperation, GpuError> {
        let PatchShape { channels, image, patch } = *patches;
        let [channels, height, width, patch_height, patch_width] =
            [channels, image[0], image[1], patch[0], patch[1]].map(|size| size as usize);
        check("numbers of a patch", channels * patch_height * patch_width, out.columns())?;
        let shape = RowShape {
            columns: out.columns() as u32,
            source: RowSource::Patches(*patches),
            in_place: false,
            aligned: false,
            input: Element::F32,
            output: out.element(),
        };
        let buffers = [images.whole(), out.buffer().whole()];
        let access = [Access::Read, Access::Write];
        let groups = RowGroups::dense(out.columns());
        let mut operation = RowOperation::new(gpu, &shape, groups, &buffers, &access)?;
        let per_image = (height / patch_height) * (width / patch_width);
        let images = images.bytes() as usize / size_of::<f32>() / (channels * height * width);
        operation.rows = (images * per_image).min(out.rows());
        Ok(operation)
    }

    fn new(
        gpu: &Gpu,
        shape: &RowShape,
        groups: RowGroups,
        buffers: &[Binding<'_>],
        access: &[Access],
    ) -> Result<RowOperation, GpuError> {
        if shape.input == Element::F16 && !shape.aligned {
            return Err(refused("rows", "half precision needs rows at multiples of four numbers"));
        }
        let kernel = gpu.kernel(&KernelSource {
            name: "rows",
            text: &texts::rows(gpu.parameter_space(), shape),
            buffers: access,
            parameter_bytes: size_of::<RowParameters>() as u32,
        })?;
        Ok(RowOperation { arguments: gpu.bind(&kernel, buffers)?, groups, rows: 0 })
    }

    /// For the first `rows` rows.
    ///
    /// # Errors
    /// [`GpuError::Length`] when there is no room for so many.
    pub fn record(&self, recorder: &mut Recorder, rows: usize) -> Result<(), GpuError> {
        let rows = check_room(rows, self.rows)?;
        let most = recorder.gpu().capabilities().limits.max_compute_workgroups_per_dimension;
        let across = rows.min(most).max(1);
        let parameters = RowParameters { rows, groups: self.groups };
        recorder.dispatch(&self.arguments, &parameters, [across, rows.div_ceil(across), 1]);
        Ok(())
    }
}

/// Numbers that the memory of rows holds.
fn numbers(rows: &Rows) -> usize {
    rows.buffer().bytes() as usize / rows.element().bytes()
}

fn check(what: &'static str, expected: usize, found: usize) -> Result<(), GpuError> {
    if expected == found {
        return Ok(());
    }
    Err(GpuError::Length { what, expected: expected as u64, found: found as u64 })
}

/// `count`, if there is room for so many.
fn check_room(count: usize, room: usize) -> Result<u32, GpuError> {
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

fn refused(what: &str, reason: &str) -> GpuError {
    GpuError::Refused { what: what.to_owned(), reason: reason.to_owned() }
}
