//! Blocks on the host's cores: a long chain of tiny steps but a few per cent of the arithmetic.
//!
//! The loops are plain arrays that the compiler vectorises; `pulp` compiles them for the instruction
//! sets that the host may have and picks one at run time. Each is a type that implements
//! `pulp::WithSimd` and no closure: a closure is called through a function that the compiler keeps
//! apart, for the least instruction set, once more than one caller shares it.

pub(super) mod descent;
pub(super) mod nearest;
pub(super) mod path;
pub(super) mod rounding;

use super::Decided;
use crate::algorithm::lanes::{Lanes, groups, merge};
use crate::device::Device;

/// What one group of channels ends with.
struct Group {
    codes: Vec<Lanes>,
    s: Lanes,
    n: Lanes,
}

impl Group {
    /// Runs `work` on every group of channels and uploads the results.
    fn decide(
        device: &Device,
        rows: usize,
        channels: usize,
        work: impl Fn(usize) -> Self + Send + Sync,
    ) -> Decided {
        let groups = groups(channels, work);
        let (s, n) = groups
            .iter()
            .map(|group| (vec![group.s], vec![group.n]))
            .unzip::<_, _, Vec<_>, Vec<_>>();
        let codes: Vec<Vec<Lanes>> = groups.into_iter().map(|group| group.codes).collect();
        Decided {
            codes: device.matrix(merge(&codes, channels), rows, channels),
            s: device.matrix(merge(&s, channels), 1, channels),
            n: device.matrix(merge(&n, channels), 1, channels),
        }
    }
}
