//! The operations of a Vision Transformer between its products, each bound to its buffers once and recorded any number of times.

use bytemuck::{Pod, Zeroable};

use super::shader::operations::{
    self as texts, AttentionShape, PoolShape, PrefixShape, RowShape, RowSource, stride,
};
use super::{Access, Arguments, Buffer, Gpu, GpuError, KernelSource, Recorder};

/// `softmax(Q K^T / sqrt(head_dim)) V` of each image and head, sums in `f32`.
#[derive(Clone, Debug)]
pub struct Attention {
    arguments: Arguments,
    /// Workgroups for one image.
    workgroups: [u32; 2],
    /// Multiply-adds of one image.
    work: u64,
}

impl Attention {
    /// From `qkv`, `[images, tokens, 3, heads, head_dim]`, to `out`, `[images, tokens, heads * head_dim]`.
    ///
    /// # Errors
    /// Those of [`Gpu::kernel`] and [`Gpu::bind`]; [`GpuError::Refused`] for half precision in heads for which there is none.
    pub fn new(
        gpu: &Gpu,
        shape: &AttentionShape,
        qkv: &Buffer,
        out: &Buffer,
    ) -> Result<Attention, GpuError> {
        if shape.half && !shape.has_half() {
            return Err(GpuError::Refused {
                what: "attention".to_owned(),
                reason: format!("heads of {} features have no half precision", shape.head_dim),
            });
        }
        let space = gpu.parameter_space();
        let (text, queries) = if shape.is_wide() {
            (texts::wide_attention(space, shape), 1)
        } else {
            (texts::attention(space, shape), AttentionShape::QUERIES)
        };
        let kernel = gpu.kernel(&KernelSource {
            name: "attention",
            text: &text,
            buffers: &[Access::Read, Access::Write],
            parameter_bytes: 0,
        })?;
        let [tokens, heads, head_dim] = [shape.tokens, shape.heads, shape.head_dim].map(u64::from);
        Ok(Attention {
            arguments: gpu.bind(&kernel, &[qkv.whole(), out.whole()])?,
            workgroups: [shape.tokens.div_ceil(queries), shape.heads],
            work: 2 * tokens * tokens * heads * head_dim,
        })
    }

    /// For the first `images` images.
    pub fn record(&self, recorder: &mut Recorder, images: u32) {
        recorder.spend(self.work.saturating_mul(u64::from(images)));
        let [x, y] = self.workgroups;
        recorder.dispatch(&self.arguments, &[0_u32; 0], [x, y, images]);
    }
}

/// Mean or maximum over the tokens of each image.
#[derive(Clone, Debug)]
pub struct Pooling {
    arguments: Arguments,
    /// Workgroups for one image.
    workgroups: u32,
}

impl Pooling {
    /// From `tokens`, `[images, tokens, width]`, to `out`, `[images, width]`.
    ///
    /// # Errors
    /// Those of [`Gpu::kernel`] and [`Gpu::bind`].
    pub fn new(
        gpu: &Gpu,
        shape: &PoolShape,
        tokens: &Buffer,
        out: &Buffer,
    ) -> Result<Pooling, GpuError> {
        let kernel = gpu.kernel(&KernelSource {
            name: "pooling",
            text: &texts::pool(gpu.parameter_space(), shape),
            buffers: &[Access::Read, Access::Write],
            parameter_bytes: 4,
        })?;
        let arguments = gpu.bind(&kernel, &[tokens.whole(), out.whole()])?;
        Ok(Pooling { arguments, workgroups: stride(shape.width).div_ceil(64) })
    }

    /// For the first `images` images.
    pub fn record(&self, recorder: &mut Recorder, images: u32) {
        recorder.dispatch(&self.arguments, &images, [self.workgroups, images, 1]);
    }
}

/// The tokens before the patches, which are the same for all images.
#[derive(Clone, Debug)]
pub struct Prefix {
    arguments: Arguments,
    /// Workgroups for one image.
    workgroups: [u32; 2],
}

impl Prefix {
    /// The tokens of `prefix`, `[count, width]`, to the front of each image in `out`, `[images, tokens, width]`, the first rows of
    /// `positions` added.
    ///
    /// # Errors
    /// Those of [`Gpu::kernel`] and [`Gpu::bind`].
    pub fn new(
        gpu: &Gpu,
        [width, tokens, count]: [u32; 3],
        prefix: &Buffer,
        positions: Option<&Buffer>,
        out: &Buffer,
    ) -> Result<Prefix, GpuError> {
        let shape = PrefixShape { width, tokens, positions: positions.is_some() };
        let mut buffers = vec![prefix.whole(), out.whole()];
        let mut access = vec![Access::Read, Access::Write];
        if let Some(positions) = positions {
            buffers.push(positions.whole());
            access.push(Access::Read);
        }
        let kernel = gpu.kernel(&KernelSource {
            name: "prefix tokens",
            text: &texts::prefix(gpu.parameter_space(), &shape),
            buffers: &access,
            parameter_bytes: 4,
        })?;
        Ok(Prefix {
            arguments: gpu.bind(&kernel, &buffers)?,
            workgroups: [stride(width).div_ceil(64), count],
        })
    }

    /// For the first `images` images.
    pub fn record(&self, recorder: &mut Recorder, images: u32) {
        let [x, y] = self.workgroups;
        recorder.dispatch(&self.arguments, &images, [x, y, images]);
    }
}

/// Where the rows of [`Rows`] lie in its input: row `r` begins at element
/// `base + r / group * outer + r % group * inner`, and is normalised with vector number `r % group / per_vector`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct RowGroups {
    /// Element that the first row begins at.
    pub base: u32,
    /// Rows of a group.
    pub group: u32,
    /// Elements from group to group.
    pub outer: u32,
    /// Elements from row to row in a group.
    pub inner: u32,
    /// Rows of a group that share a vector of gains.
    pub per_vector: u32,
}

impl RowGroups {
    /// Rows of `columns` numbers, padded, one behind the other.
    pub fn dense(columns: u32) -> RowGroups {
        RowGroups { base: 0, group: 1, outer: stride(columns), inner: 0, per_vector: 1 }
    }

    fn is_aligned(&self) -> bool {
        [self.base, self.outer, self.inner].iter().all(|place| place.is_multiple_of(4))
    }
}

/// Rows for a product: normalised, cut out of images, or as they are.
#[derive(Clone, Debug)]
pub struct Rows {
    arguments: Arguments,
    groups: RowGroups,
    /// Workgroups along one dimension of a dispatch.
    most: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct RowParameters {
    rows: u32,
    groups: RowGroups,
}

impl Rows {
    /// From `input` to `out`, `[rows, columns]`, in half precision where `half` says so of either; `norm` are gains and biases
    /// for normalised rows. Images are in single precision.
    ///
    /// # Errors
    /// Those of [`Gpu::kernel`] and [`Gpu::bind`]; [`GpuError::Refused`] for normalised rows without `norm`.
    pub fn new(
        gpu: &Gpu,
        columns: u32,
        source: RowSource,
        groups: RowGroups,
        [input, out]: [&Buffer; 2],
        [half_input, half_output]: [bool; 2],
        norm: Option<[&Buffer; 2]>,
    ) -> Result<Rows, GpuError> {
        let mut buffers = vec![input.whole(), out.whole()];
        let mut access = vec![Access::Read, Access::Write];
        if let Some(norm) = norm {
            buffers.extend(norm.map(Buffer::whole));
            access.extend([Access::Read; 2]);
        }
        let aligned = groups.is_aligned();
        let shape = RowShape { columns, source, in_place: false, aligned, half_input, half_output };
        Rows::bind(gpu, &shape, groups, &buffers, &access)
    }

    /// LayerNorm of the rows of `data`, in place; in half precision, rows have to begin at multiples of four numbers.
    ///
    /// # Errors
    /// Those of [`Gpu::kernel`] and [`Gpu::bind`].
    pub fn in_place(
        gpu: &Gpu,
        columns: u32,
        epsilon: f32,
        groups: RowGroups,
        data: &Buffer,
        half: bool,
        norm: [&Buffer; 2],
    ) -> Result<Rows, GpuError> {
        let source = RowSource::Normalized { epsilon };
        let aligned = groups.is_aligned() && columns.is_multiple_of(4);
        let shape = RowShape {
            columns,
            source,
            in_place: true,
            aligned,
            half_input: half,
            half_output: half,
        };
        let buffers = [data.whole(), norm[0].whole(), norm[1].whole()];
        let access = [Access::Write, Access::Read, Access::Read];
        Rows::bind(gpu, &shape, groups, &buffers, &access)
    }

    fn bind(
        gpu: &Gpu,
        shape: &RowShape,
        groups: RowGroups,
        buffers: &[super::Binding<'_>],
        access: &[Access],
    ) -> Result<Rows, GpuError> {
        if shape.half_input && !shape.aligned {
            return Err(GpuError::Refused {
                what: "rows".to_owned(),
                reason: "half precision needs rows at multiples of four numbers".to_owned(),
            });
        }
        let kernel = gpu.kernel(&KernelSource {
            name: "rows",
            text: &texts::rows(gpu.parameter_space(), shape),
            buffers: access,
            parameter_bytes: size_of::<RowParameters>() as u32,
        })?;
        Ok(Rows {
            arguments: gpu.bind(&kernel, buffers)?,
            groups,
            most: gpu.capabilities().limits.max_compute_workgroups_per_dimension,
        })
    }

    /// For the first `rows` rows.
    pub fn record(&self, recorder: &mut Recorder, rows: u32) {
        let across = rows.min(self.most).max(1);
        let parameters = RowParameters { rows, groups: self.groups };
        recorder.dispatch(&self.arguments, &parameters, [across, rows.div_ceil(across), 1]);
    }
}
