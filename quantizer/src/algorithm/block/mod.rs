//! The coordinates of one block, one after the other, for all channels at once.
//!
//! Inside a block the choice at one coordinate changes what the others see by a rank-1 update with
//! the block of the matrix on the diagonal. Everything outside the block follows later by one
//! matrix product on the device. So every solver is a chain of blocks, and every kind of block is
//! one function here, from tensors to tensors: [`initialize`] and [`refine`] for Beacon, [`round`]
//! for GPTQ, [`descend`] for COMQ.
//!
//! Each has two implementations: `host` works on the CPU's cores, channels in SIMD lanes and groups
//! of lanes on threads; `cube` is a CubeCL kernel for the GPU with one unit per channel.
//!
//! # Scores without cancellation
//! Candidates differ in the sixth digit of the cosine, too little for f32 if two cosines are
//! computed and compared. So the *gain* over the current state is computed instead: with
//! `a = d b_t / s` and `r = (2 d h_t + d^2 G_tt) / n` the squared cosine grows by the factor
//! `(1 + a)^2 / (1 + r)`, hence `gain = (a (2 + a) - r) / (1 + r)`, exact to f32's relative
//! precision. It needs `s > 0` and `1 + a > 0`; a channel that is not there yet is scored directly.

mod cube;
mod host;

use burn::tensor::Tensor;
use fresnel_runtime::Error;

use crate::device::{Device, DeviceKind};

pub use cube::launches;

/// Coordinates per block: large enough that products between blocks dominate, small enough that
/// the block of `G` and a channel's `h` stay close to the arithmetic.
pub const BLOCK: usize = 32;

/// A candidate must beat the current state by this relative gain of the squared cosine.
pub const MINIMUM_GAIN: f32 = 2e-12;

/// Start and end of each block of `inputs` coordinates.
pub fn ranges(inputs: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..inputs).step_by(BLOCK).map(move |start| (start, (start + BLOCK).min(inputs)))
}

/// One block of the greedy initialization; b coordinates, C channels.
pub struct InitializationBlock {
    /// Diagonal block of `G`, b x b.
    pub gram: Tensor<2>,
    /// Diagonal block of `M`, b x b; `None` where `M = G`.
    pub cross: Option<Tensor<2>>,
    /// `h` from the coordinates before the block, b x C.
    pub h: Tensor<2>,
    /// `e` from the coordinates before the block, b x C; `None` where `M = G`.
    pub e: Option<Tensor<2>>,
    /// Weights, b x C.
    pub weights: Tensor<2>,
    /// `b0`, b x C.
    pub partial_target: Tensor<2>,
    /// Zero points, 1 x C.
    pub zero: Tensor<2>,
    /// Scale that breaks the first coordinate's tie, 1 x C; `None` prefers small levels.
    pub reference: Option<Tensor<2>>,
    /// `s` before the block, 1 x C.
    pub s: Tensor<2>,
    /// `n` before the block, 1 x C.
    pub n: Tensor<2>,
    /// Number of levels L.
    pub levels: u32,
}

/// One block of a refinement sweep; b coordinates, C channels.
pub struct RefinementBlock {
    /// Diagonal block of `G`, b x b.
    pub gram: Tensor<2>,
    /// `h` including everything changed before the block, b x C.
    pub h: Tensor<2>,
    /// `B`, b x C.
    pub target: Tensor<2>,
    /// Codes `k` before the block is worked on, b x C.
    pub codes: Tensor<2>,
    /// `s` before the block, 1 x C.
    pub s: Tensor<2>,
    /// `n` before the block, 1 x C.
    pub n: Tensor<2>,
    /// Number of levels L.
    pub levels: u32,
    /// `n` at or below this counts as the zero vector.
    pub zero_energy: f32,
}

/// A block's outcome.
pub struct Decided {
    /// Codes `k`, b x C.
    pub codes: Tensor<2>,
    /// `s` after the block, 1 x C.
    pub s: Tensor<2>,
    /// `n` after the block, 1 x C.
    pub n: Tensor<2>,
}

/// One block of GPTQ; b coordinates, C channels.
pub struct RoundingBlock {
    /// Weights as the coordinates before the block left them, b x C.
    pub values: Tensor<2>,
    /// Diagonal block of `U`, b x b.
    pub upper: Tensor<2>,
    /// Scales, 1 x C, all positive.
    pub scale: Tensor<2>,
    /// Zero points, 1 x C.
    pub zero: Tensor<2>,
    /// Number of levels L.
    pub levels: u32,
}

/// What [`round`] leaves behind.
pub struct Rounded {
    /// Codes `k`, b x C.
    pub codes: Tensor<2>,
    /// `(v - c q) / U[t, t]`, which the coordinates after the block make up for, b x C.
    pub errors: Tensor<2>,
}

/// One block of a COMQ iteration; b coordinates, C channels.
pub struct DescentBlock {
    /// Diagonal block of `G`, b x b.
    pub gram: Tensor<2>,
    /// `B - G V`, including everything changed before the block, b x C.
    pub residual: Tensor<2>,
    /// Values `V` before the block is worked on, b x C.
    pub values: Tensor<2>,
    /// Scales, 1 x C, all positive.
    pub scale: Tensor<2>,
    /// Zero points, 1 x C.
    pub zero: Tensor<2>,
    /// Number of levels L.
    pub levels: u32,
}

/// Decides the codes of one block of the initialization.
///
/// # Errors
/// Fails when the device fails.
pub fn initialize(device: &Device, block: InitializationBlock) -> Result<Decided, Error> {
    match device.kind() {
        DeviceKind::Cpu => host::path::initialize(device, block),
        DeviceKind::Gpu => cube::path::initialize(block),
    }
}

/// Reconsiders the codes of one block of a refinement sweep.
///
/// # Errors
/// Fails when the device fails.
pub fn refine(device: &Device, block: RefinementBlock) -> Result<Decided, Error> {
    match device.kind() {
        DeviceKind::Cpu => host::descent::refine(device, block),
        DeviceKind::Gpu => cube::descent::refine(block),
    }
}

/// Rounds the coordinates of one block of GPTQ.
///
/// # Errors
/// Fails when the device fails.
pub fn round(device: &Device, block: RoundingBlock) -> Result<Rounded, Error> {
    match device.kind() {
        DeviceKind::Cpu => host::rounding::round(device, block),
        DeviceKind::Gpu => cube::rounding::round(block),
    }
}

/// Codes `k` of one block of COMQ, b x C.
///
/// # Errors
/// Fails when the device fails.
pub fn descend(device: &Device, block: DescentBlock) -> Result<Tensor<2>, Error> {
    match device.kind() {
        DeviceKind::Cpu => host::nearest::descend(device, block),
        DeviceKind::Gpu => cube::nearest::descend(block),
    }
}
