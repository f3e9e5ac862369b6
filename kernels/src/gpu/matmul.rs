//! Products on a device: `out[m][n] = epilogue(sum_k a[m][k] * w[n][k])`.
//!
//! A product is prepared once, with its buffers, and recorded for any number of rows. Codes are expanded inside the shader, into
//! the tile of weights that a workgroup stages for its rows.

use super::plan::{Plan, Variant};
use super::rows::{check_rows, row_stride};
use super::shader::{ActivationKind, Element, MatmulBuffer, MatmulShader, OutputKind, WeightKind};
use super::{
    Access, Arguments, Binding, Buffer, Epilogue, Gpu, GpuError, Kernel, KernelSource,
    MatmulDescriptor, Matrix, Operand, Placement, Recorder, Residual,
};
use crate::Width;

/// A product, bound to its buffers.
#[derive(Clone, Debug)]
pub struct Matmul {
    arguments: Arguments,
    plan: Plan,
    weights: WeightKind,
    /// Activations are f16.
    half: bool,
    parameters: Parameters,
    placement: Placement,
    /// Rows that the operand and the output have room for.
    room: [usize; 2],
    /// Rows and columns of a tile.
    tile: [u32; 2],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
struct Parameters {
    first_row: u32,
    last_row: u32,
    columns: u32,
    out_stride: u32,
    in_features: u32,
    activation_stride: u32,
    weight_stride: u32,
    out_group: u32,
    out_step: u32,
    out_first: u32,
    residual_rows: u32,
}

impl Matmul {
    /// Prepares a product by the kernel that a plan names.
    ///
    /// # Errors
    /// [`GpuError::Length`] when the shapes do not belong together, [`GpuError::Limit`] when the device does not have the plan's
    /// kernel or the shape exceeds it; [`GpuError::Refused`], [`GpuError::OutOfMemory`] or [`GpuError::Lost`].
    pub fn new(
        gpu: &Gpu,
        plan: Plan,
        descriptor: &MatmulDescriptor<'_>,
    ) -> Result<Matmul, GpuError> {
        let rows = descriptor.output;
        let output = OutputKind::Floats(rows.element());
        let length = ("columns of the output", descriptor.weights.out_features(), rows.columns());
        check_lengths(&[length])?;
        Matmul::prepare(gpu, plan, descriptor, output, rows.buffer(), rows.rows())
    }

    /// Prepares the integers behind an integer product, `out[m][n] = sum_k (q[m][k] - zero[m]) * code[n][k]`: for tests. `out` has
    /// `rows` rows of `N` `i32`, padded as [`Rows`](super::Rows) are; the output and the epilogue of the descriptor are not used.
    ///
    /// # Errors
    /// As [`Matmul::new`].
    pub fn accumulators(
        gpu: &Gpu,
        plan: Plan,
        descriptor: &MatmulDescriptor<'_>,
        out: &Buffer,
        rows: usize,
    ) -> Result<Matmul, GpuError> {
        let descriptor = MatmulDescriptor {
            epilogue: Epilogue::default(),
            placement: Placement::IDENTITY,
            ..*descriptor
        };
        let needed = rows * row_stride(descriptor.weights.out_features()) * size_of::<i32>();
        check_rows(needed, out.bytes() as usize)?;
        Matmul::prepare(gpu, plan, &descriptor, OutputKind::Accumulators, out, rows)
    }

    fn prepare(
        gpu: &Gpu,
        plan: Plan,
        descriptor: &MatmulDescriptor<'_>,
        output: OutputKind,
        out: &Buffer,
        out_rows: usize,
    ) -> Result<Matmul, GpuError> {
        let MatmulDescriptor { activations, weights, epilogue, placement, .. } = *descriptor;
        check_shapes(descriptor)?;
        check_integer(plan, activations, weights, output)?;
        plan.check(gpu.capabilities())?;
        let activation_stride = match activations {
            Operand::Rows(rows) => row_stride(rows.columns()) / 4,
            Operand::Quantized(codes) => codes.columns().div_ceil(16),
        };
        let shader = descriptor.shader(output);
        let buffers = shader.buffers();
        let kernel = compile(gpu, plan, &shader, &buffers)?;
        let bindings = bindings(&buffers, descriptor, out);
        let residual_rows = match epilogue.residual {
            Some(Residual::Rows(rows)) => rows.rows(),
            Some(Residual::InPlace) | None => 1,
        };
        Ok(Matmul {
            arguments: gpu.bind(&kernel, &bindings)?,
            plan,
            weights: weights.kind,
            half: shader.activations == ActivationKind::Floats(Element::F16),
            parameters: Parameters {
                first_row: 0,
                last_row: 0,
                columns: weights.out_features,
                out_stride: (row_stride(weights.out_features()) / 4) as u32,
                in_features: weights.in_features,
                activation_stride: activation_stride as u32,
                weight_stride: weights.stride,
                out_group: placement.group,
                out_step: placement.step,
                out_first: placement.first,
                residual_rows: residual_rows as u32,
            },
            placement,
            room: [activations.rows(), out_rows],
            tile: plan.tile(gpu.capabilities()),
        })
    }

    /// The kernel that computes it.
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// A name for tables: `"{kernel}-{tile}-w{weight bits}"`, with `-f16` in front of the weights where activations are.
    pub fn kernel_name(&self) -> String {
        let half = if self.half { "-f16" } else { "" };
        format!("{}{half}-w{}", self.plan, self.weights.label())
    }

    /// Computes the first `rows` rows.
    ///
    /// # Errors
    /// [`GpuError::Length`] when the operand or the output has no room for so many.
    pub fn record(&self, recorder: &mut Recorder, rows: usize) -> Result<(), GpuError> {
        check_rows(rows, self.room[0])?;
        let end = self.placement.end(rows as u64);
        check_rows(usize::try_from(end).unwrap_or(usize::MAX), self.room[1])?;
        let Some(last_row) = rows.checked_sub(1) else { return Ok(()) };
        let capabilities = recorder.gpu().capabilities();
        let most_groups = capabilities.limits.max_compute_workgroups_per_dimension;
        let Parameters { columns, in_features, .. } = self.parameters;
        // Whole tiles of rows, of which no dispatch has too many.
        let row_work = u64::from(columns) * u64::from(in_features);
        let most_rows = capabilities.work_per_dispatch() / row_work.max(1);
        let tiles = (most_rows / u64::from(self.tile[0])).clamp(1, u64::from(most_groups)) as u32;
        for first_row in (0..rows as u32).step_by((tiles * self.tile[0]) as usize) {
            let rows = (rows as u32 - first_row).min(tiles * self.tile[0]);
            recorder.spend(row_work * u64::from(rows));
            let parameters = Parameters { first_row, last_row: last_row as u32, ..self.parameters };
            let workgroups = [columns.div_ceil(self.tile[1]), rows.div_ceil(self.tile[0]), 1];
            recorder.dispatch(&self.arguments, &parameters, workgroups);
        }
        Ok(())
    }
}

#[allow(unsafe_code)]
fn compile(
    gpu: &Gpu,
    plan: Plan,
    shader: &MatmulShader,
    buffers: &[MatmulBuffer],
) -> Result<Kernel, GpuError> {
    let text = plan.text(shader, gpu.capabilities(), gpu.parameter_space());
    let access: Vec<Access> = buffers
        .iter()
        .map(|buffer| match buffer {
            MatmulBuffer::Output => Access::Write,
            _ => Access::Read,
        })
        .collect();
    let source = KernelSource {
        name: &format!("matmul {plan}"),
        text: &text,
        buffers: &access,
        parameter_bytes: size_of::<Parameters>() as u32,
    };
    // SAFETY: `check_shapes` and `record` prove what the shaders rely on. Rows of activations are read up to `last_row` and
    // `activation_stride`, and `record` has checked that the operand has room for the row; channels up to `columns - 1` and
    // steps below the 64 input features that rows of weights are padded to; bias, layer scale and channels at quads that hold a
    // column, and their lengths are checked; outputs and residuals at rows up to `last_row`, whose place `record` has checked or
    // which are taken modulo `residual_rows`, and quads below `out_stride`. Workgroup arrays are indexed by constants and by
    // the invocation's place in the tile. Loops count up to parameters. Divisors are constants, `out_group` and `residual_rows`,
    // which `check_shapes` keeps from zero.
    unsafe { gpu.kernel_unchecked(&source) }
}

fn bindings<'a>(
    buffers: &[MatmulBuffer],
    descriptor: &MatmulDescriptor<'a>,
    out: &'a Buffer,
) -> Vec<Binding<'a>> {
    let MatmulDescriptor { activations, weights, epilogue, .. } = *descriptor;
    let buffer = |buffer: &MatmulBuffer| match (buffer, activations) {
        (MatmulBuffer::Activations, Operand::Rows(rows)) => Some(rows.buffer()),
        (MatmulBuffer::Activations, Operand::Quantized(rows)) => Some(&rows.codes),
        (MatmulBuffer::Grids, Operand::Quantized(rows)) => Some(&rows.grids),
        (MatmulBuffer::Grids, Operand::Rows(_)) => None,
        (MatmulBuffer::Weights, _) => Some(&weights.weights),
        (MatmulBuffer::Channels, _) => weights.channels.as_ref(),
        (MatmulBuffer::Bias, _) => epilogue.bias,
        (MatmulBuffer::LayerScale, _) => epilogue.layer_scale,
        (MatmulBuffer::Residual, _) => match epilogue.residual {
            Some(Residual::Rows(rows)) => Some(rows.buffer()),
            Some(Residual::InPlace) | None => None,
        },
        (MatmulBuffer::Output, _) => Some(out),
    };
    // The shader has those buffers that there are.
    buffers.iter().filter_map(buffer).map(Buffer::whole).collect()
}

fn check_shapes(descriptor: &MatmulDescriptor<'_>) -> Result<(), GpuError> {
    let MatmulDescriptor { activations, weights, epilogue, placement, .. } = *descriptor;
    let (n, k) = (weights.out_features(), weights.in_features());
    let numbers = |buffer: &Buffer| buffer.bytes() as usize / size_of::<f32>();
    let mut lengths = vec![("columns of the activations", k, activations.columns())];
    lengths.extend(epilogue.bias.map(|bias| ("biases", n, numbers(bias))));
    lengths.extend(epilogue.layer_scale.map(|scale| ("layer scales", n, numbers(scale))));
    if let Some(Residual::Rows(rows)) = epilogue.residual {
        lengths.push(("columns of the residual", n, rows.columns()));
        lengths.push(("rows of the residual", rows.rows().max(1), rows.rows()));
    }
    let group = placement.group as usize;
    lengths.push(("rows of a group", group.max(1), group));
    check_lengths(&lengths)
}

/// Integer products are exact only while 32 bits hold them.
fn check_integer(
    plan: Plan,
    activations: Operand<'_>,
    weights: &Matrix,
    output: OutputKind,
) -> Result<(), GpuError> {
    let refused = |reason: &str| GpuError::Refused {
        what: format!("a product by the kernel {plan}"),
        reason: reason.to_owned(),
    };
    match (plan.variant, activations, weights.kind) {
        (Variant::Integer, Operand::Quantized(_), WeightKind::Codes(width)) => {
            check_depth(width, weights.in_features())
        }
        (Variant::Integer, _, _) => Err(refused("both operands have to be codes")),
        (_, Operand::Quantized(_), _) => Err(refused("the activations have to be numbers")),
        _ if output == OutputKind::Accumulators => Err(refused("only integer sums are exact")),
        _ => Ok(()),
    }
}

fn check_depth(width: Width, in_features: usize) -> Result<(), GpuError> {
    let available = width.largest_integer_depth();
    if in_features <= available {
        return Ok(());
    }
    Err(GpuError::Limit {
        what: "input features of an integer product",
        needed: in_features as u64,
        available: available as u64,
    })
}

fn check_lengths(lengths: &[(&'static str, usize, usize)]) -> Result<(), GpuError> {
    match lengths.iter().find(|(_, expected, found)| expected != found) {
        Some(&(what, expected, found)) => {
            Err(GpuError::Length { what, expected: expected as u64, found: found as u64 })
        }
        None => Ok(()),
    }
}
