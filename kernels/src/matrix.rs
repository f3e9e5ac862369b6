//! Resident weight matrices.

mod builder;
#[cfg(test)]
mod tests;

use half::f16;

use crate::arch::{Simd, Token, dispatch};
use crate::memory::Lines;
use crate::pack::{self, panel};
use crate::{Arithmetic, Isa, MatrixError, Width};

pub use builder::MatrixBuilder;

/// A weight matrix `[out_features, in_features]`, laid out in panels for one instruction set.
///
/// Codes stay packed in memory (1.58-bit codes at 2 bits) and are expanded block by block inside the matmuls. The input
/// dimension of codes is padded to a whole group (4 to 32 features, see `pack/panel.rs`) and the output dimension to a whole
/// panel (8, 16 or 32 channels).
#[derive(Debug)]
pub struct Matrix {
    token: Token,
    out_features: usize,
    in_features: usize,
    pub(crate) storage: Storage,
    /// Scale of each channel, zero beyond `out_features`; empty for a float matrix.
    pub(crate) scale: Lines,
    /// `offset + scale * middle` of each channel: the offset of centred codes.
    pub(crate) centred_offset: Lines,
    /// Sum of the codes of each channel, `i32`.
    pub(crate) code_sums: Lines,
}

/// The weights themselves.
#[derive(Debug)]
pub(crate) enum Storage {
    /// Words of panels, see [`panel`].
    Codes(Width, Lines),
    /// `[panel][in_features][lane]`, f32.
    F32(Lines),
    /// `[panel][in_features][lane]`, f16.
    F16(Lines),
}

impl Matrix {
    /// A matrix of codes from their canonical layout ([`pack`]).
    ///
    /// `n` output and `k` input features; `scale` and `offset` have `n` elements: `w[n][k] = scale[n] * code + offset[n]`.
    ///
    /// # Errors
    /// When the instruction set is not available, the matrix is empty or too large, a slice has the wrong length, or the
    /// packed bytes are not valid codes.
    pub fn from_codes(
        isa: Isa,
        width: Width,
        n: usize,
        k: usize,
        packed: &[u8],
        scale: &[f32],
        offset: &[f32],
    ) -> Result<Matrix, MatrixError> {
        let mut builder = MatrixBuilder::codes(isa, width, n, k)?;
        pack::validate(width, n, k, packed)?;
        builder.place_codes(width, packed);
        builder.finish(scale, offset)
    }

    /// A matrix of floats, `w` row-major `[n, k]`.
    ///
    /// # Errors
    /// When the instruction set is not available, the matrix is empty or too large, or `w` has not `n * k` elements.
    pub fn from_f32(isa: Isa, n: usize, k: usize, w: &[f32]) -> Result<Matrix, MatrixError> {
        let mut builder = MatrixBuilder::f32(isa, n, k)?;
        check_length("weights", n * k, w.len())?;
        builder.place_floats(w, |weight| weight);
        builder.finish(&[], &[])
    }

    /// A matrix of half-precision floats, `w` row-major `[n, k]`; it stays at 16 bit in memory.
    ///
    /// # Errors
    /// As [`Matrix::from_f32`].
    pub fn from_f16(isa: Isa, n: usize, k: usize, w: &[f16]) -> Result<Matrix, MatrixError> {
        let mut builder = MatrixBuilder::f16(isa, n, k)?;
        check_length("weights", n * k, w.len())?;
        builder.place_floats(w, |weight| weight);
        builder.finish(&[], &[])
    }

    /// Number of output features, `N`.
    pub fn out_features(&self) -> usize {
        self.out_features
    }

    /// Number of input features, `K`.
    pub fn in_features(&self) -> usize {
        self.in_features
    }

    /// Bytes of memory that the matrix holds.
    pub fn resident_bytes(&self) -> usize {
        let weights = match &self.storage {
            Storage::Codes(_, lines) | Storage::F32(lines) | Storage::F16(lines) => lines.bytes(),
        };
        weights + self.scale.bytes() + self.centred_offset.bytes() + self.code_sums.bytes()
    }

    /// The instruction set it is laid out for, whose kernels multiply it.
    pub fn isa(&self) -> Isa {
        self.token.isa()
    }

    /// The width of the codes; `None` for floats.
    pub fn width(&self) -> Option<Width> {
        match self.storage {
            Storage::Codes(width, _) => Some(width),
            Storage::F32(_) | Storage::F16(_) => None,
        }
    }

    /// Whether [`matmul`](crate::matmul) takes this matrix in an arithmetic. [`Arithmetic::F32`] multiplies every matrix, the others
    /// codes: [`Arithmetic::Half`] on instruction sets that multiply bfloat16, [`Arithmetic::Int8`] where there are so few input
    /// features that no 32-bit sum of products can overflow (at least 33,025 at 8 bit, 561,000 at 4 bit).
    pub fn supports(&self, arithmetic: Arithmetic) -> bool {
        match (arithmetic, self.width()) {
            (Arithmetic::F32, _) => true,
            (_, None) => false,
            (Arithmetic::Half, Some(_)) => self.isa().supports(Arithmetic::Half),
            (Arithmetic::Int8, Some(width)) => self.in_features <= width.largest_integer_depth(),
        }
    }

    /// The name of the kernel that multiplies this matrix: `"{isa}-w{weight bits}a{activation bits}-{rows}x{columns}"`,
    /// rows and columns being those of its register tile.
    pub fn kernel_name(&self, arithmetic: Arithmetic) -> String {
        fn tile<S: Simd>(_: S, arithmetic: Arithmetic) -> (usize, usize) {
            match arithmetic {
                Arithmetic::F32 => (S::F32_ROWS, S::LANES),
                Arithmetic::Half => (S::HALF_ROWS, S::LANES),
                Arithmetic::Int8 => (S::INT8_ROWS, S::LANES),
            }
        }
        let (rows, columns) = dispatch!(self.token, simd => tile(simd, arithmetic));
        let weights = match &self.storage {
            Storage::Codes(width, _) => width.label(),
            Storage::F32(_) => "32",
            Storage::F16(_) => "16",
        };
        let activations = match arithmetic {
            Arithmetic::F32 => "32",
            Arithmetic::Half => "16",
            Arithmetic::Int8 => "8",
        };
        format!("{}-w{weights}a{activations}-{rows}x{columns}", self.isa())
    }

    pub(crate) fn token(&self) -> Token {
        self.token
    }
}

fn lanes(token: Token) -> usize {
    fn lanes<S: Simd>(_: S) -> usize {
        S::LANES
    }
    dispatch!(token, simd => lanes(simd))
}

/// The number of weights of a shape whose panels, padded and at 32 bit, can be addressed.
pub(crate) fn check_shape(n: usize, k: usize) -> Result<usize, MatrixError> {
    if n == 0 || k == 0 {
        return Err(MatrixError::Empty { out_features: n, in_features: k });
    }
    let too_large = MatrixError::TooLarge { out_features: n, in_features: k };
    n.checked_next_multiple_of(32)
        .zip(k.checked_next_multiple_of(panel::DEPTH_STEP))
        .and_then(|(n, k)| n.checked_mul(k)?.checked_mul(4))
        .filter(|&bytes| isize::try_from(bytes).is_ok())
        .map(|_| n * k)
        .ok_or(too_large)
}

pub(crate) fn check_length(
    what: &'static str,
    expected: usize,
    found: usize,
) -> Result<(), MatrixError> {
    if expected == found { Ok(()) } else { Err(MatrixError::Length { what, expected, found }) }
}
