//! A block of coordinates on the CPU: channels in SIMD lanes, groups of lanes on threads.
//!
//! The lane loops are plain arrays that the compiler vectorises; `pulp` compiles them for the
//! instruction sets the host may have and picks one at run time.

use fresnel_runtime::Error;
use rayon::prelude::*;

use super::{Decided, InitializationBlock, MINIMUM_GAIN, RefinementBlock};
use crate::device::{Device, read};

/// Channels worked on together: one AVX-512 register of f32.
const LANES: usize = 16;

type Lanes = [f32; LANES];

/// Columns `first..first + LANES` of a row-major matrix with `channels` columns, row by row;
/// lanes past the last channel are zero.
fn gather(values: &[f32], channels: usize, first: usize) -> Vec<Lanes> {
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

fn gather_row(values: &[f32], channels: usize, first: usize) -> Lanes {
    gather(values, channels, first)[0]
}

/// What one group of lanes ends with.
struct Group {
    codes: Vec<Lanes>,
    s: Lanes,
    n: Lanes,
}

/// Runs `work` on every group of lanes and puts the results together again.
fn over_groups(
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

/// As [`super::initialize`].
///
/// # Errors
/// Fails when reading the block's inputs fails.
pub fn initialize(device: &Device, block: InitializationBlock) -> Result<Decided, Error> {
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
    Ok(over_groups(device, rows, channels, |first| {
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
        let codes = pulp::Arch::new().dispatch(
            #[inline(always)]
            || path.follow(&gram, cross.as_deref(), &weights, &partial_target),
        );
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

impl Path {
    #[inline(always)]
    fn follow(
        &mut self,
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
            for later in t + 1..rows {
                let g = gram[later * rows + t];
                for lane in 0..LANES {
                    self.h[later][lane] += g * q[lane];
                }
            }
            if let (Some(e), Some(cross)) = (&mut self.e, cross) {
                for later in t + 1..rows {
                    let m = cross[t * rows + later];
                    for lane in 0..LANES {
                        e[later][lane] += m * q[lane];
                    }
                }
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
        let mut best = [0.0; LANES];
        let mut best_gain = [f32::NEG_INFINITY; LANES];
        let mut best_distance = [f32::INFINITY; LANES];
        for step in 0..self.levels {
            let level = self.level(step) as f32;
            for lane in 0..LANES {
                let p = level - self.zero[lane];
                let a = p * target[lane] / self.s[lane];
                let r = p * (2.0 * h[lane] + p * energy) / self.n[lane];
                let gain = (a * (2.0 + a) - r) / (1.0 + r);
                let gain = if 1.0 + a > 0.0 && 1.0 + r > 0.0 { gain } else { f32::MIN };
                let distance = (p - preferred[lane]).abs();
                let better = gain > best_gain[lane] + MINIMUM_GAIN
                    || (gain >= best_gain[lane] - MINIMUM_GAIN && distance < best_distance[lane]);
                best[lane] = if better { level } else { best[lane] };
                best_gain[lane] = if better { gain } else { best_gain[lane] };
                best_distance[lane] = if better { distance } else { best_distance[lane] };
            }
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
    fn choose_directly(&self, lane: usize, energy: f64, h: f64, target: f64, preferred: f64) -> f32 {
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

/// As [`super::refine`].
///
/// # Errors
/// Fails when reading the block's inputs fails.
pub fn refine(device: &Device, block: RefinementBlock) -> Result<Decided, Error> {
    let [rows, channels] = block.codes.dims();
    let gram = read(block.gram)?;
    let h = read(block.h)?;
    let target = read(block.target)?;
    let codes = read(block.codes)?;
    let (s, n) = (read(block.s)?, read(block.n)?);
    Ok(over_groups(device, rows, channels, |first| {
        let columns = |values: &[f32]| gather(values, channels, first);
        let lanes = |values: &[f32]| gather_row(values, channels, first);
        let mut descent = Descent {
            levels: block.levels,
            zero_energy: block.zero_energy,
            h: columns(&h),
            codes: columns(&codes),
            s: lanes(&s),
            n: lanes(&n),
        };
        let target = columns(&target);
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || descent.visit(&gram, &target),
        );
        Group { codes: descent.codes, s: descent.s, n: descent.n }
    }))
}

/// Coordinate descent of one group of channels.
struct Descent {
    levels: u32,
    zero_energy: f32,
    h: Vec<Lanes>,
    codes: Vec<Lanes>,
    s: Lanes,
    n: Lanes,
}

impl Descent {
    #[inline(always)]
    fn visit(&mut self, gram: &[f32], target: &[Lanes]) {
        let rows = self.codes.len();
        for t in 0..rows {
            let energy = gram[t * rows + t];
            let h = self.h[t];
            let before = self.codes[t];
            let best = if self.levels <= 4 {
                self.best_of_all(energy, &h, &before, &target[t])
            } else {
                self.best_of_neighbours(energy, &h, &before, &target[t])
            };
            let best = self.with_direct_choices(best, energy, &h, &before, &target[t]);
            let mut change = [0.0; LANES];
            let mut any = 0.0_f32;
            for lane in 0..LANES {
                change[lane] = best[lane] - before[lane];
                any += change[lane].abs();
                self.s[lane] += change[lane] * target[t][lane];
                self.n[lane] += change[lane] * (2.0 * h[lane] + change[lane] * energy);
            }
            if any == 0.0 {
                continue;
            }
            self.codes[t] = best;
            for later in t + 1..rows {
                let g = gram[later * rows + t];
                for lane in 0..LANES {
                    self.h[later][lane] += g * change[lane];
                }
            }
        }
    }

    /// Replaces `best` by `level` in the lanes where it gains more.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    fn consider(
        &self,
        level: &Lanes,
        energy: f32,
        h: &Lanes,
        before: &Lanes,
        target: &Lanes,
        best: &mut Lanes,
        best_gain: &mut Lanes,
    ) {
        for lane in 0..LANES {
            let d = level[lane] - before[lane];
            let a = d * target[lane] / self.s[lane];
            let r = d * (2.0 * h[lane] + d * energy) / self.n[lane];
            let gain = (a * (2.0 + a) - r) / (1.0 + r);
            let valid = 1.0 + a > 0.0 && (1.0 + r) * self.n[lane] > self.zero_energy;
            let better = valid && gain > best_gain[lane];
            best[lane] = if better { level[lane] } else { best[lane] };
            best_gain[lane] = if better { gain } else { best_gain[lane] };
        }
    }

    #[inline(always)]
    fn best_of_all(&self, energy: f32, h: &Lanes, before: &Lanes, target: &Lanes) -> Lanes {
        let mut best = *before;
        let mut best_gain = [MINIMUM_GAIN; LANES];
        for level in 0..self.levels {
            let level = [level as f32; LANES];
            self.consider(&level, energy, h, before, target, &mut best, &mut best_gain);
        }
        best
    }

    /// The cosine has one stationary point along a coordinate, a maximum if the denominator is
    /// positive, so the best level is one of its two neighbours (or a bound).
    #[inline(always)]
    fn best_of_neighbours(&self, energy: f32, h: &Lanes, before: &Lanes, target: &Lanes) -> Lanes {
        let top = (self.levels - 1) as f32;
        let mut below = [0.0; LANES];
        let mut above = [0.0; LANES];
        for lane in 0..LANES {
            let numerator = target[lane] * self.n[lane] - self.s[lane] * h[lane];
            let denominator = self.s[lane] * energy - target[lane] * h[lane];
            let step = if denominator > 0.0 {
                numerator / denominator
            } else if numerator > 0.0 {
                f32::MAX
            } else {
                f32::MIN
            };
            below[lane] = (before[lane] + step).clamp(0.0, top).floor();
            above[lane] = (below[lane] + 1.0).min(top);
        }
        let mut best = *before;
        let mut best_gain = [MINIMUM_GAIN; LANES];
        self.consider(&below, energy, h, before, target, &mut best, &mut best_gain);
        self.consider(&above, energy, h, before, target, &mut best, &mut best_gain);
        best
    }

    /// Lanes whose vector is zero or points away from the target are scored by the cosine itself.
    #[inline(always)]
    fn with_direct_choices(
        &self,
        mut best: Lanes,
        energy: f32,
        h: &Lanes,
        before: &Lanes,
        target: &Lanes,
    ) -> Lanes {
        for lane in 0..LANES {
            if !(self.s[lane] > 0.0 && self.n[lane] > self.zero_energy) {
                best[lane] = self.choose_directly(
                    lane,
                    f64::from(energy),
                    f64::from(h[lane]),
                    f64::from(before[lane]),
                    f64::from(target[lane]),
                );
            }
        }
        best
    }

    fn choose_directly(&self, lane: usize, energy: f64, h: f64, before: f64, target: f64) -> f32 {
        let (s, n) = (f64::from(self.s[lane]), f64::from(self.n[lane]));
        let score = |level: f64| {
            let d = level - before;
            let (s, n) = (s + d * target, n + d * (2.0 * h + d * energy));
            if n > f64::from(self.zero_energy) { s / n.sqrt() } else { 0.0 }
        };
        let mut best = (score(before), before);
        for level in 0..self.levels {
            let level = f64::from(level);
            let candidate = score(level);
            // Exact ties are common here; f32 inputs blur them by their own precision.
            if candidate > best.0 + 1e-6 * best.0.abs() {
                best = (candidate, level);
            }
        }
        best.1 as f32
    }
}
