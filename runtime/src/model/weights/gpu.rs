//! Weights in the memory of a GPU.

use fresnel_kernels::Arithmetic;
use fresnel_kernels::gpu::shader::{Element, WeightKind};
use fresnel_kernels::gpu::{self, Buffer, Matrix, MatrixBuilder, Plan, Rows};

use super::{Placement, Weights};
use crate::error::Error;
use crate::format::Encoding;

/// The memory of a GPU. Nothing stays on the host: a tensor is written piece by piece as it is read.
#[derive(Clone)]
pub(crate) struct Gpu {
    gpu: gpu::Gpu,
}

impl Gpu {
    pub(crate) fn new(gpu: &gpu::Gpu) -> Self {
        Self { gpu: gpu.clone() }
    }

    pub(crate) fn device(&self) -> &gpu::Gpu {
        &self.gpu
    }

    /// The kernel and tile for a product of `rows` rows with a matrix.
    pub(crate) fn plan(&self, weight: &Matrix, arithmetic: Arithmetic, rows: usize) -> Plan {
        let shape = [rows, weight.out_features()];
        Plan::choose(self.gpu.capabilities(), supported(weight, arithmetic), shape)
    }

    /// Name of the kernels that multiply with a matrix when the model runs in `arithmetic`, but for the tile, which the
    /// number of rows decides.
    pub(crate) fn kernel(&self, weight: &Matrix, arithmetic: Arithmetic) -> String {
        let half = if arithmetic == Arithmetic::Half { "-f16" } else { "" };
        let Plan { variant, .. } = self.plan(weight, arithmetic, 1);
        format!("{variant}{half}-w{}", weight.kind().label())
    }
}

impl Placement for Gpu {
    type Matrix = Matrix;
    type Builder = MatrixBuilder;
    type Vector = Buffer;
    type Rows = Rows;

    fn builder(&self, encoding: Encoding, n: usize, k: usize) -> Result<MatrixBuilder, Error> {
        let kind = match encoding {
            Encoding::F32 => WeightKind::Floats(Element::F32),
            Encoding::F16 => WeightKind::Floats(Element::F16),
            Encoding::Codes(width) => WeightKind::Codes(width.into()),
        };
        Ok(MatrixBuilder::new(&self.gpu, kind, n, k)?)
    }

    fn push(&self, builder: &mut MatrixBuilder, rows: &[u8]) -> Result<(), Error> {
        Ok(builder.push(rows)?)
    }

    fn finish(
        &self,
        builder: MatrixBuilder,
        scale: &[f32],
        offset: &[f32],
    ) -> Result<Matrix, Error> {
        Ok(builder.finish(scale, offset)?)
    }

    fn vector(&self, values: Vec<f32>) -> Result<Buffer, Error> {
        Ok(self.gpu.buffer_of("vector", &values)?)
    }

    fn rows(&self, values: Vec<f32>, columns: usize) -> Result<Rows, Error> {
        Ok(Rows::of(&self.gpu, "tokens", Element::F32, &values, columns)?)
    }

    fn matrix_bytes(matrix: &Matrix) -> usize {
        bytes(matrix.resident_bytes())
    }

    fn vector_bytes(vector: &Buffer) -> usize {
        bytes(vector.resident_bytes())
    }

    fn rows_bytes(rows: &Rows) -> usize {
        bytes(rows.buffer().resident_bytes())
    }
}

/// The arithmetic that a matrix is multiplied in when the model runs in `arithmetic`: float where it has no other.
pub(crate) fn supported(weight: &Matrix, arithmetic: Arithmetic) -> Arithmetic {
    match arithmetic {
        Arithmetic::Int8 if !weight.has_integer_products() => Arithmetic::F32,
        arithmetic => arithmetic,
    }
}

/// What is in the memory of a device may not be countable on the host.
fn bytes(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

impl Weights<Gpu> {
    /// Whether any layer is multiplied in `arithmetic`. Numbers are stored in half precision on every device.
    pub(crate) fn supports(&self, arithmetic: Arithmetic) -> bool {
        arithmetic != Arithmetic::Int8
            || self.linears().iter().any(|(_, linear)| linear.weight.has_integer_products())
    }
}
