//! Weights in the panels of an instruction set.

use fresnel_kernels::{Arithmetic, Isa, Matrix, MatrixBuilder, MatrixError};

use super::{Linear, Placement, Weights};
use crate::error::{Error, ErrorKind};
use crate::format::Encoding;

/// The host's memory, laid out for an instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Cpu {
    pub(crate) isa: Isa,
}

impl Placement for Cpu {
    type Matrix = Matrix;
    type Builder = MatrixBuilder;
    type Vector = Vec<f32>;
    type Rows = Vec<f32>;

    fn builder(&self, encoding: Encoding, n: usize, k: usize) -> Result<MatrixBuilder, Error> {
        let builder = match encoding {
            Encoding::F32 => MatrixBuilder::f32(self.isa, n, k),
            Encoding::F16 => MatrixBuilder::f16(self.isa, n, k),
            Encoding::Codes(width) => MatrixBuilder::codes(self.isa, width.into(), n, k),
        };
        builder.map_err(failed)
    }

    fn push(&self, builder: &mut MatrixBuilder, rows: &[u8]) -> Result<(), Error> {
        builder.push(rows).map_err(failed)
    }

    fn finish(
        &self,
        builder: MatrixBuilder,
        scale: &[f32],
        offset: &[f32],
    ) -> Result<Matrix, Error> {
        builder.finish(scale, offset).map_err(failed)
    }

    fn vector(&self, values: Vec<f32>) -> Result<Vec<f32>, Error> {
        Ok(values)
    }

    fn rows(&self, values: Vec<f32>, _columns: usize) -> Result<Vec<f32>, Error> {
        Ok(values)
    }

    fn matrix_bytes(matrix: &Matrix) -> usize {
        matrix.resident_bytes()
    }

    fn vector_bytes(vector: &Vec<f32>) -> usize {
        size_of_val(vector.as_slice())
    }

    fn rows_bytes(rows: &Vec<f32>) -> usize {
        size_of_val(rows.as_slice())
    }
}

fn failed(error: MatrixError) -> Error {
    let kind = match error {
        MatrixError::Memory { .. } => ErrorKind::Limit,
        _ => ErrorKind::Invalid,
    };
    Error::new(kind, "cannot lay out the matrix").with_source(error)
}

impl Weights {
    /// Whether any layer is multiplied in `arithmetic`.
    pub(crate) fn supports(&self, arithmetic: Arithmetic) -> bool {
        self.linears().iter().any(|(_, linear)| linear.weight.supports(arithmetic))
    }
}

impl Linear {
    /// The arithmetic that this layer is multiplied in when the model runs in `arithmetic`: float where it has no other.
    pub(crate) fn arithmetic(&self, arithmetic: Arithmetic) -> Arithmetic {
        supported(&self.weight, arithmetic)
    }
}

/// Name of the kernel that multiplies with a matrix when the model runs in `arithmetic`.
pub(crate) fn kernel(weight: &Matrix, arithmetic: Arithmetic) -> String {
    weight.kernel_name(supported(weight, arithmetic))
}

fn supported(weight: &Matrix, arithmetic: Arithmetic) -> Arithmetic {
    if weight.supports(arithmetic) { arithmetic } else { Arithmetic::F32 }
}
