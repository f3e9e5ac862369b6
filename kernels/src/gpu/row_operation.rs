//! Rows that products multiply: normalised, cut out of images or as they are, as numbers or on grids of signed bytes.
//!
//! What a product needs of its operand is written at once, so that a normalised row is not stored as numbers only to be read again
//! and quantised.

use bytemuck::{Pod, Zeroable};

use super::operations::{check, check_room, refused};
use super::rows::row_stride;
use super::shader::operations::{self as texts, PatchShape, RowShape, RowSource};
use super::shader::{ActivationKind, Element};
use super::{
    Access, Arguments, Binding, Buffer, Gpu, GpuError, KernelSource, Operand, Quantized, Recorder,
    Rows,
};

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

/// Rows that are normalised, cut out of images or quantised, bound to their buffers.
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
    pub fn layer_norm<'a>(
        gpu: &Gpu,
        epsilon: f32,
        input: &Rows,
        groups: RowGroups,
        norm: [&Buffer; 2],
        out: impl Into<Operand<'a>>,
    ) -> Result<RowOperation, GpuError> {
        let out = out.into();
        let shape = RowShape {
            columns: out.columns() as u32,
            source: RowSource::Normalized { epsilon },
            in_place: false,
            aligned: groups.is_aligned(),
            input: input.element(),
            output: out.kind(),
        };
        let rows = groups.room(numbers(input), out.columns()).min(out.rows());
        RowOperation::new(gpu, &shape, groups, rows, input.buffer(), Some(out), &norm)
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
            output: ActivationKind::Floats(data.element()),
        };
        let rows = groups.room(numbers(data), columns);
        RowOperation::new(gpu, &shape, groups, rows, data.buffer(), None, &norm)
    }

    /// Rows of `input` as codes, in the same rows of `out`.
    ///
    /// # Errors
    /// As [`RowOperation::layer_norm`].
    pub fn quantize(gpu: &Gpu, input: &Rows, out: &Quantized) -> Result<RowOperation, GpuError> {
        check("columns to quantise", out.columns(), input.columns())?;
        let shape = RowShape {
            columns: out.columns() as u32,
            source: RowSource::Stored,
            in_place: false,
            aligned: true,
            input: input.element(),
            output: ActivationKind::Int8,
        };
        let groups = RowGroups::dense(out.columns());
        let rows = input.rows().min(out.rows());
        RowOperation::new(gpu, &shape, groups, rows, input.buffer(), Some(out.into()), &[])
    }

    /// Patches of `images`, `[images, channels, height, width]` in `f32`, to the rows of `out`, in the order of the weights of a
    /// patch embedding.
    ///
    /// # Errors
    /// As [`RowOperation::layer_norm`].
    pub fn patches<'a>(
        gpu: &Gpu,
        patches: &PatchShape,
        images: &Buffer,
        out: impl Into<Operand<'a>>,
    ) -> Result<RowOperation, GpuError> {
        let out = out.into();
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
            output: out.kind(),
        };
        let groups = RowGroups::dense(out.columns());
        let per_image = (height / patch_height) * (width / patch_width);
        let count = images.bytes() as usize / size_of::<f32>() / (channels * height * width);
        let rows = (count * per_image).min(out.rows());
        RowOperation::new(gpu, &shape, groups, rows, images, Some(out), &[])
    }

    fn new(
        gpu: &Gpu,
        shape: &RowShape,
        groups: RowGroups,
        rows: usize,
        input: &Buffer,
        out: Option<Operand<'_>>,
        norm: &[&Buffer],
    ) -> Result<RowOperation, GpuError> {
        if shape.input == Element::F16 && !shape.aligned {
            return Err(refused("rows", "half precision needs rows at multiples of four numbers"));
        }
        let mut buffers = vec![(input, if out.is_none() { Access::Write } else { Access::Read })];
        match out {
            Some(Operand::Rows(rows)) => buffers.push((rows.buffer(), Access::Write)),
            Some(Operand::Quantized(rows)) => {
                buffers.extend([&rows.codes, &rows.grids].map(|buffer| (buffer, Access::Write)));
            }
            None => {}
        }
        buffers.extend(norm.iter().map(|&buffer| (buffer, Access::Read)));
        let access: Vec<Access> = buffers.iter().map(|(_, access)| *access).collect();
        let bindings: Vec<Binding<'_>> = buffers.iter().map(|(buffer, _)| buffer.whole()).collect();
        let kernel = gpu.kernel(&KernelSource {
            name: "rows",
            text: &texts::rows(gpu.parameter_space(), shape),
            buffers: &access,
            parameter_bytes: size_of::<RowParameters>() as u32,
        })?;
        Ok(RowOperation { arguments: gpu.bind(&kernel, &bindings)?, groups, rows })
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
