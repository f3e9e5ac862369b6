//! The greedy choice of the initialization within one block.

// A lane is an index into several arrays at once.
#![allow(clippy::needless_range_loop)]

use fresnel_runtime::Error;
use pulp::{Arch, Simd, WithSimd};

use super::Group;
use crate::algorithm::block::{Decided, InitializationBlock, MINIMUM_GAIN};
use crate::algorithm::lanes::{LANES, Lanes, add_outer, gather, gather_row};
use crate::device::{Device, read};

/// Below any gain that a level can have.
const INVALID_GAIN: f32 = -1e18;

/// Decides the codes of one block of the initialization.
///
/// # Errors
/// Fails when the device fails.
pub(in crate::algorithm::block) fn initialize(
    device: &Device,
    block: InitializationBlock,
) -> Result<Decided, Error> {
    let [rows, channels] = block.weights.dims();
    let gram = read(block.gram)?;
    let cross = block.cross.map(read).transpose()?;
    let h = read(block.h)?;
    let e = block.e.map(read).transpose()?;
    let weights = read(block.weights)?;
    let partial_target = read(block.partial_target)?;
    let zero = read(block.zero)?;
    let reference = block.reference.map(read).transpose()?;
    let (s, n) = (read(block.s)?, read(block.n)?);
    Ok(Group::decide(device, rows, channels, |first| {
        let columns = |values: &[f32]| gather(values, channels, first);
        let lanes = |values: &[f32]| gather_row(values, channels, first);
        let mut path = Path {
            levels: block.levels,
            zero: lanes(&zero),
            reference: reference.as_deref().map(lanes),
            h: columns(&h),
            e: e.as_deref().map(columns),
            s: lanes(&s),
            n: lanes(&n),
        };
        let (weights, partial_target) = (columns(&weights), columns(&partial_target));
        let codes = Arch::new().dispatch(Follow {
            path: &mut path,
            gram: &gram,
            cross: cross.as_deref(),
            weights: &weights,
            partial_target: &partial_target,
        });
        Group { codes, s: path.s, n: path.n }
    }))
}

/// The greedy path of one group of channels.
struct Path {
    levels: u32,
    zero: Lanes,
    reference: Option<Lanes>,
    h: Vec<Lanes>,
    e: Option<Vec<Lanes>>,
    s: Lanes,
    n: Lanes,
}

/// [`Path::follow`], compiled for each instruction set.
struct Follow<'a> {
    path: &'a mut Path,
    gram: &'a [f32],
    cross: Option<&'a [f32]>,
    weights: &'a [Lanes],
    partial_target: &'a [Lanes],
}

impl WithSimd for Follow<'_> {
    type Output = Vec<Lanes>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<Lanes> {
        self.path.follow(simd, self.gram, self.cross, self.weights, self.partial_target)
    }
}

impl Path {
    #[inline(always)]
    fn follow<S: Simd>(
        &mut self,
        simd: S,
        gram: &[f32],
        cross: Option<&[f32]>,
        weights: &[Lanes],
        partial_target: &[Lanes],
    ) -> Vec<Lanes> {
        let rows = weights.len();
        let mut codes = Vec::with_capacity(rows);
        for t in 0..rows {
            let energy = gram[t * rows + t];
            let h = self.h[t];
            let e = self.e.as_ref().map_or(h, |e| e[t]);
            for lane in 0..LANES {
                self.s[lane] += weights[t][lane] * e[lane];
            }
            let code = self.choose(energy, &h, &weights[t], &partial_target[t]);
            let mut q = [0.0; LANES];
            for lane in 0..LANES {
                q[lane] = code[lane] - self.zero[lane];
                self.s[lane] += q[lane] * partial_target[t][lane];
                self.n[lane] += q[lane] * (2.0 * h[lane] + q[lane] * energy);
            }
            // The block of G is symmetric: its row t is column t.
            add_outer(simd, &mut self.h[t + 1..], &gram[t * rows + t + 1..], &q);
            if let (Some(e), Some(cross)) = (&mut self.e, cross) {
                add_outer(simd, &mut e[t + 1..], &cross[t * rows + t + 1..], &q);
            }
            codes.push(code);
        }
        codes
    }

    /// The best level of each lane; among equals the one nearest to `w / reference`.
    #[inline(always)]
    fn choose(&self, energy: f32, h: &Lanes, weight: &Lanes, target: &Lanes) -> Lanes {
        let mut preferred = [0.0; LANES];
        if let Some(reference) = &self.reference {
            for lane in 0..LANES {
                preferred[lane] = weight[lane] / reference[lane];
            }
        }
        let mut alignment = [0.0; LANES];
        let mut slope = [0.0; LANES];
        let mut curvature = [0.0; LANES];
        for lane in 0..LANES {
            let inverse = 1.0 / self.n[lane];
            alignment[lane] = target[lane] / self.s[lane];
            slope[lane] = 2.0 * h[lane] * inverse;
            curvature[lane] = energy * inverse;
        }
        // Gains are compared as fractions, so that no level costs a division.
        let mut best = [0.0; LANES];
        let mut best_gain = [INVALID_GAIN; LANES];
        let mut best_divisor = [1.0; LANES];
        let mut best_distance = [f32::INFINITY; LANES];
        for step in 0..self.levels {
            let level = self.level(step) as f32;
            for lane in 0..LANES {
                let p = level - self.zero[lane];
                let a = p * alignment[lane];
                let r = p * (slope[lane] + p * curvature[lane]);
                let valid = (1.0 + a > 0.0) & (1.0 + r > 0.0);
                let gain = if valid { a * (2.0 + a) - r } else { INVALID_GAIN };
                let divisor = if valid { 1.0 + r } else { 1.0 };
                let distance = (p - preferred[lane]).abs();
                let ahead = gain * best_divisor[lane] - best_gain[lane] * divisor;
                let margin = MINIMUM_GAIN * divisor * best_divisor[lane];
                let better =
                    (ahead > margin) | ((ahead >= -margin) & (distance < best_distance[lane]));
                best[lane] = if better { level } else { best[lane] };
                best_gain[lane] = if better { gain } else { best_gain[lane] };
                best_divisor[lane] = if better { divisor } else { best_divisor[lane] };
                best_distance[lane] = if better { distance } else { best_distance[lane] };
            }
        }
        let mut relative = true;
        for lane in 0..LANES {
            relative &= (self.s[lane] > 0.0) & (self.n[lane] > 0.0);
        }
        if relative {
            return best;
        }
        for lane in 0..LANES {
            if !(self.s[lane] > 0.0 && self.n[lane] > 0.0) {
                best[lane] = self.choose_directly(
                    lane,
                    f64::from(energy),
                    f64::from(h[lane]),
                    f64::from(target[lane]),
                    f64::from(preferred[lane]),
                );
            }
        }
        best
    }

    /// Levels in the order that resolves equal distances: ascending with a reference, and
    /// descending without, so that of two levels of equal magnitude the positive one wins.
    #[inline(always)]
    fn level(&self, step: u32) -> u32 {
        if self.reference.is_some() { step } else { self.levels - 1 - step }
    }

    /// The choice for a channel whose path is still the zero vector or points away from the
    /// target, by the cosines themselves.
    fn choose_directly(
        &self,
        lane: usize,
        energy: f64,
        h: f64,
        target: f64,
        preferred: f64,
    ) -> f32 {
        let (s, n) = (f64::from(self.s[lane]), f64::from(self.n[lane]));
        let score = |p: f64| {
            if n == 0.0 {
                // Every level of the target's sign has cosine 1 here: an exact tie.
                return if energy > 0.0 && target != 0.0 && p != 0.0 {
                    (p * target).signum()
                } else {
                    0.0
                };
            }
            let (s, n) = (s + p * target, n + p * (2.0 * h + p * energy));
            if n > 1e-14 * energy { s / n.sqrt() } else { 0.0 }
        };
        let mut best = (f64::NEG_INFINITY, f64::INFINITY, 0);
        for step in 0..self.levels {
            let level = self.level(step);
            let p = f64::from(level) - f64::from(self.zero[lane]);
            let (score, distance) = (score(p), (p - preferred).abs());
            let margin = 1e-12 * best.0.abs();
            let tie = (score - best.0).abs() <= margin;
            if (best.0.is_infinite() || score > best.0 + margin) || (tie && distance < best.1) {
                best = (score, distance, level);
            }
        }
        best.2 as f32
    }
}
