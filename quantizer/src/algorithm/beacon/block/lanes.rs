//! Channels in SIMD lanes, groups of lanes on threads.

use rayon::prelude::*;

use super::Decided;
use crate::device::Device;

/// Channels worked on together: one AVX-512 register of f32.
pub(super) const LANES: usize = 16;

/// One value per channel of a group.
pub(super) type Lanes = [f32; LANES];

/// Columns `first..first + LANES` of a row-major matrix with `channels` columns, row by row;
/// lanes past the last channel are zero.
pub(super) fn gather(values: &[f32], channels: usize, first: usize) -> Vec<Lanes> {
    let width = LANES.min(channels - first);
    values
        .chunks_exact(channels)
        .map(|row| {
            let mut lanes = [0.0; LANES];
            lanes[..width].copy_from_slice(&row[first..first + width]);
            lanes
        })
        .collect()
}

/// As [`gather`], for a matrix of one row.
pub(super) fn gather_row(values: &[f32], channels: usize, first: usize) -> Lanes {
    gather(values, channels, first)[0]
}

/// What one group of lanes ends with.
pub(super) struct Group {
    pub(super) codes: Vec<Lanes>,
    pub(super) s: Lanes,
    pub(super) n: Lanes,
}

/// Runs `work` on every group of lanes and puts the results together again.
pub(super) fn over_groups(
    device: &Device,
    rows: usize,
    channels: usize,
    work: impl Fn(usize) -> Group + Send + Sync,
) -> Decided {
    let groups: Vec<Group> = (0..channels).into_par_iter().step_by(LANES).map(work).collect();
    let scatter = |row_of: &dyn Fn(&Group) -> Lanes| -> Vec<f32> {
        groups.iter().flat_map(row_of).take(channels).collect()
    };
    let codes = (0..rows).flat_map(|row| scatter(&|group| group.codes[row])).collect();
    Decided {
        codes: device.matrix(codes, rows, channels),
        s: device.matrix(scatter(&|group| group.s), 1, channels),
        n: device.matrix(scatter(&|group| group.n), 1, channels),
    }
}
