//! Weights in the memory of a GPU.

use fresnel_kernels::Arithmetic;
use fresnel_kernels::gpu::shader::{Element, WeightKind};
use fresnel_kernels::gpu::{self, Buffer, Matrix, MatrixBuilder, Rows, Variant};

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

    /// The kernels that multiply with a matrix when the model runs in `arithmetic`: float where it has no other.
    pub(crate) fn variant(&self, weight: &Matrix, arithmetic: Arithmetic) -> Variant {
        match arithmetic {
            Arithmetic::Int8 if weight.has_integer_products() => Variant::Integer,
            Arithmetic::Half if self.gpu.capabilities().cooperative.is_some() => {
                Variant::Cooperative
            }
            Arithmetic::F32 | Arithmetic::Half | Arithmetic::Int8 => Variant::Tiled,
        }
    }

    /// Name of those kernels.
    pub(crate) fn kernel(&self, weight: &Matrix, arithmetic: Arithmetic) -> String {
        let half = if arithmetic == Arithmetic::Half { "-f16" } else { "" };
        format!("{}{half}-w{}", self.variant(weight, arithmetic), weight.kind().label())
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
