//! Channels in pieces: how a solver keeps several cores busy without large temporaries.
//!
//! Channels do not depend on each other, but burn's flex backend computes elementwise operations on
//! one thread and takes fresh pages for every large result. So on the CPU a layer is solved piece by
//! piece of its channels, pieces side by side: what a piece works on stays in a core's cache. A GPU
//! gets all channels at once, for few and large launches.

use std::ops::Range;

use fresnel_runtime::Error;

use super::lanes::LANES;
use crate::device::{Device, DeviceKind};

/// Channels per piece on the CPU, at most: fixed, so that results do not depend on the number of
/// threads.
const PIECE: usize = 192;

/// Start and end of each piece of `channels` channels.
fn ranges(device: &Device, channels: usize) -> Vec<Range<usize>> {
    let step = match device.kind() {
        // Two pieces at least, of whole groups of lanes.
        DeviceKind::Cpu => channels.div_ceil(2).next_multiple_of(LANES).clamp(LANES, PIECE),
        DeviceKind::Gpu => channels.max(1),
    };
    (0..channels).step_by(step).map(|start| start..(start + step).min(channels)).collect()
}

/// Solves each piece of `channels` channels, results in channel order.
///
/// # Errors
/// The first piece's that fails.
pub(super) fn solve<T: Send>(
    device: &Device,
    channels: usize,
    work: impl Fn(Range<usize>) -> Result<T, Error> + Send + Sync,
) -> Result<Vec<T>, Error> {
    let ranges = ranges(device, channels);
    device.map(0..ranges.len(), |piece| work(ranges[piece].clone())).into_iter().collect()
}

/// Columns `piece` of a row-major matrix with `channels` columns.
pub(super) fn columns<T: Copy>(values: &[T], channels: usize, piece: &Range<usize>) -> Vec<T> {
    values.chunks_exact(channels.max(1)).flat_map(|row| &row[piece.clone()]).copied().collect()
}

/// Row-major matrices of `rows` rows side by side.
pub(super) fn join<'a, T: Copy + 'a>(
    parts: impl Iterator<Item = &'a [T]> + Clone,
    rows: usize,
) -> Vec<T> {
    let mut joined = Vec::with_capacity(parts.clone().map(<[T]>::len).sum());
    for row in 0..rows {
        for part in parts.clone() {
            let width = part.len() / rows;
            joined.extend_from_slice(&part[row * width..][..width]);
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_side_by_side_are_the_whole() {
        for channels in [1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE / 2] {
            let matrix: Vec<usize> = (0..3 * channels).collect();
            let parts = solve(&Device::cpu(), channels, |piece| {
                assert!(!piece.is_empty() && piece.len() <= PIECE, "{piece:?}");
                Ok(columns(&matrix, channels, &piece))
            })
            .expect("pieces");
            assert_eq!(join(parts.iter().map(Vec::as_slice), 3), matrix, "{channels} channels");
        }
    }
}
