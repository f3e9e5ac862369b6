//! The quantization grid of equation (1): `A = {-z, 1-z, ..., L-1-z}` times a scale per channel.
//!
//! A level is stored as its unsigned code `k = q + z`. The min-max scale `c0` only seeds the
//! solvers: RTN and GPTQ keep it, Beacon finds its own and uses `c0` to break one tie.

use std::ops::Range;

/// Levels, reference scales and zero points of a layer's channels.
#[derive(Debug, Clone, PartialEq)]
pub struct Alphabet {
    /// Number of levels L: 3, 4, 8, 16 or 256.
    pub levels: u32,
    /// Min-max scale `c0` per channel; 1 for a channel without extent.
    pub scale: Vec<f64>,
    /// Zero point `z` per channel: an integer, outside 0..L where zero is no level, or (L-1)/2 in
    /// the symmetric case.
    pub zero: Vec<f64>,
}

impl Alphabet {
    /// The asymmetric grid: `c0 = (max - min)/(L - 1)` over a range that includes zero, and
    /// `z = round(-min/c0)`, halves to even.
    ///
    /// `weights` is N x `channels` row-major.
    pub fn asymmetric(weights: &[f32], channels: usize, levels: u32) -> Self {
        let steps = f64::from(levels - 1);
        let (scale, zero) = ranges(weights, channels)
            .into_iter()
            .map(|(low, high)| {
                let (low, high) = (low.min(0.0), high.max(0.0));
                let scale = (high - low) / steps;
                let scale = if scale == 0.0 { 1.0 } else { scale };
                (scale, (-low / scale).round_ties_even().clamp(0.0, steps))
            })
            .unzip();
        Self { levels, scale, zero }
    }

    /// The symmetric grid of the paper's first version: `z = (L-1)/2`, so half-integer levels for
    /// even L and {-1, 0, 1} for L = 3; `c0 = 2 max|w| / (L - 1)`.
    pub fn symmetric(weights: &[f32], channels: usize, levels: u32) -> Self {
        let steps = f64::from(levels - 1);
        let scale: Vec<f64> = ranges(weights, channels)
            .into_iter()
            .map(|(low, high)| {
                let scale = 2.0 * low.abs().max(high.abs()) / steps;
                if scale == 0.0 { 1.0 } else { scale }
            })
            .collect();
        let zero = vec![steps / 2.0; scale.len()];
        Self { levels, scale, zero }
    }

    /// COMQ's grid: `c0 = (max - min)/(L - 1)` over the range as it is and `z = -round(min/c0)`, so
    /// that the lowest level lies at the smallest weight whether or not zero is on the grid.
    pub fn anchored(weights: &[f32], channels: usize, levels: u32) -> Self {
        let steps = f64::from(levels - 1);
        let (scale, zero) = ranges(weights, channels)
            .into_iter()
            .map(|(low, high)| {
                let scale = (high - low) / steps;
                let scale = if scale == 0.0 { 1.0 } else { scale };
                (scale, -(low / scale).round_ties_even())
            })
            .unzip();
        Self { levels, scale, zero }
    }

    /// The asymmetric or the symmetric grid.
    pub fn new(weights: &[f32], channels: usize, levels: u32, symmetric: bool) -> Self {
        if symmetric {
            Self::symmetric(weights, channels, levels)
        } else {
            Self::asymmetric(weights, channels, levels)
        }
    }

    /// The grid of some of the channels.
    pub fn part(&self, piece: Range<usize>) -> Self {
        Self {
            levels: self.levels,
            scale: self.scale[piece.clone()].to_vec(),
            zero: self.zero[piece].to_vec(),
        }
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.scale.len()
    }
}

/// Smallest and largest weight of each channel; (0, 0) where there are no weights.
fn ranges(weights: &[f32], channels: usize) -> Vec<(f64, f64)> {
    let mut rows = weights.chunks_exact(channels.max(1));
    let Some(first) = rows.next() else {
        return vec![(0.0, 0.0); channels];
    };
    let mut ranges: Vec<(f64, f64)> = first.iter().map(|&w| (f64::from(w), f64::from(w))).collect();
    for row in rows {
        for (range, &weight) in ranges.iter_mut().zip(row) {
            range.0 = range.0.min(f64::from(weight));
            range.1 = range.1.max(f64::from(weight));
        }
    }
    ranges
}
