//! Channels in SIMD lanes, groups of lanes on threads: how solvers work through a block of
//! coordinates on the host.

use pulp::Simd;
use rayon::prelude::*;

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

/// Adds `factors[i]` times `lanes` to row i. Written with `pulp`'s vectors, since the compiler would
/// gather across the rows instead.
#[inline(always)]
pub(super) fn add_outer<S: Simd>(simd: S, rows: &mut [Lanes], factors: &[f32], lanes: &Lanes) {
    // LANES is a multiple of every vector's length, so nothing remains.
    let (lanes, _) = S::as_simd_f32s(lanes);
    for (row, &factor) in rows.iter_mut().zip(factors) {
        let factor = simd.splat_f32s(factor);
        let (row, _) = S::as_mut_simd_f32s(row);
        for (value, &lanes) in row.iter_mut().zip(lanes) {
            *value = simd.add_f32s(*value, simd.mul_f32s(factor, lanes));
        }
    }
}

/// Runs `work` on a thread of the pool: from there, handing out the groups of every block wakes no
/// other thread first.
pub(super) fn on_pool<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| work())
}

/// Runs `work` on every group of lanes, given the group's first channel; results in channel order.
pub(super) fn groups<T: Send>(channels: usize, work: impl Fn(usize) -> T + Send + Sync) -> Vec<T> {
    (0..channels).into_par_iter().step_by(LANES).map(work).collect()
}

/// Puts the rows of all groups side by side again: a row-major matrix with `channels` columns.
pub(super) fn merge(groups: &[Vec<Lanes>], channels: usize) -> Vec<f32> {
    let rows = groups.first().map_or(0, Vec::len);
    let mut merged = vec![0.0; rows * channels];
    for (row, to) in merged.chunks_exact_mut(channels.max(1)).enumerate() {
        for (to, group) in to.chunks_mut(LANES).zip(groups) {
            to.copy_from_slice(&group[row][..to.len()]);
        }
    }
    merged
}
