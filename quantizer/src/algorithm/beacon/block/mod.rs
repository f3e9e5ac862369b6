//! The coordinates of one block, one after the other, for all channels at once.
//!
//! Inside a block the choice at one coordinate changes `h` of the others by a rank-1 update with
//! the block of `G` on the diagonal, which stays in cache. Everything outside the block follows later
//! by one matrix product on the device.
//!
//! The block itself is worked on by the host's cores whatever the device: it is a long chain of tiny
//! steps but a few per cent of the arithmetic, with channels in SIMD lanes and groups of lanes on
//! threads. The loops are plain arrays that the compiler vectorises; `pulp` compiles them for the
//! instruction sets that the host may have and picks one at run time.
//!
//! # Scores without cancellation
//! Candidates differ in the sixth digit of the cosine, too little for f32 if two cosines are
//! computed and compared. So the *gain* over the current state is computed instead: with
//! `a = d b_t / s` and `r = (2 d h_t + d^2 G_tt) / n` the squared cosine grows by the factor
//! `(1 + a)^2 / (1 + r)`, hence `gain = (a (2 + a) - r) / (1 + r)`, exact to f32's relative
//! precision. It needs `s > 0` and `1 + a > 0`; a channel that is not there yet is scored directly.

mod descent;
mod path;

use burn::tensor::Tensor;

use crate::algorithm::lanes::{Lanes, groups, merge};
use crate::device::Device;

pub use descent::refine;
pub use path::initialize;

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

/// What one group of channels ends with.
struct Group {
    codes: Vec<Lanes>,
    s: Lanes,
    n: Lanes,
}

impl Decided {
    /// Runs `work` on every group of channels and uploads the results.
    fn by_groups(
        device: &Device,
        rows: usize,
        channels: usize,
        work: impl Fn(usize) -> Group + Send + Sync,
    ) -> Self {
        let groups = groups(channels, work);
        let (s, n) = groups
            .iter()
            .map(|group| (vec![group.s], vec![group.n]))
            .unzip::<_, _, Vec<_>, Vec<_>>();
        let codes: Vec<Vec<Lanes>> = groups.into_iter().map(|group| group.codes).collect();
        Self {
            codes: device.matrix(merge(&codes, channels), rows, channels),
            s: device.matrix(merge(&s, channels), 1, channels),
            n: device.matrix(merge(&n, channels), 1, channels),
        }
    }
}
