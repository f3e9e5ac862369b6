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

    /// Name of the kernels that multiply with a matrix when the model runs in `arithmetic`, but for the tile, which the
    /// number of rows decides. Measuring may find that half precision is faster in f32.
    pub(crate) fn kernel(&self, weight: &Matrix, arithmetic: Arithmetic) -> String {
        let half = if arithmetic == Arithmetic::Half { "-f16" } else { "" };
        let shape = [1, weight.out_features()];
        let arithmetic = supported(weight, arithmetic);
        let Plan { variant, .. } = Plan::choose(self.gpu.capabilities(), arithmetic, shape);
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
    /// The part of all the layers' work that those of a weight's shape have, from 0 to 1, all having as many rows.
    pub(crate) fn share(&self, weight: &Matrix) -> f64 {
        let shape = |weight: &Matrix| [weight.out_features(), weight.in_features()];
        let linears = self.linears();
        let work = |all: bool| -> f64 {
            let shapes = linears.iter().map(|(_, linear)| shape(&linear.weight));
            let shapes = shapes.filter(|other| all || *other == shape(weight));
            shapes.map(|[n, k]| n as f64 * k as f64).sum()
        };
        work(false) / work(true)
    }

    /// Whether any layer is multiplied in `arithmetic`. Numbers are stored in half precision on every device.
    pub(crate) fn supports(&self, arithmetic: Arithmetic) -> bool {
        arithmetic != Arithmetic::Int8
            || self.linears().iter().any(|(_, linear)| linear.weight.has_integer_products())
    }
}
