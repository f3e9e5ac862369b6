//! The choice among all levels, others held fixed, within one block of a sweep.

// A lane is an index into several arrays at once.
#![allow(clippy::needless_range_loop)]

use fresnel_runtime::Error;
use pulp::{Arch, Simd, WithSimd};

use super::Group;
use crate::algorithm::block::{Decided, MINIMUM_GAIN, RefinementBlock};
use crate::algorithm::lanes::{LANES, Lanes, add_outer, gather, gather_row};
use crate::device::{Device, read};

/// Reconsiders the codes of one block.
///
/// # Errors
/// Fails when the device fails.
pub(in crate::algorithm::block) fn refine(
    device: &Device,
    block: RefinementBlock,
) -> Result<Decided, Error> {
    let [rows, channels] = block.codes.dims();
    let gram = read(block.gram)?;
    let h = read(block.h)?;
    let target = read(block.target)?;
    let codes = read(block.codes)?;
    let (s, n) = (read(block.s)?, read(block.n)?);
    Ok(Group::decide(device, rows, channels, |first| {
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
        Arch::new().dispatch(Visit { descent: &mut descent, gram: &gram, target: &target });
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

/// [`Descent::visit`], compiled for each instruction set.
struct Visit<'a> {
    descent: &'a mut Descent,
    gram: &'a [f32],
    target: &'a [Lanes],
}

impl WithSimd for Visit<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.descent.visit(simd, self.gram, self.target);
    }
}

/// The levels of one coordinate, compared by their gains as fractions: no division per level.
struct Scores {
    before: Lanes,
    /// `b / s`, so that `a = d b / s`.
    alignment: Lanes,
    /// `2 h / n` and `G_tt / n`, so that `r = d (2 h + d G_tt) / n`.
    slope: Lanes,
    curvature: Lanes,
    /// The least `1 + r` of a vector that is not zero.
    least: Lanes,
    best: Lanes,
    /// The best gain is `gain / divisor`.
    gain: Lanes,
    divisor: Lanes,
}

impl Scores {
    /// Replaces the best level by `level` in the lanes where it gains more.
    #[inline(always)]
    fn consider(&mut self, level: &Lanes) {
        for lane in 0..LANES {
            let d = level[lane] - self.before[lane];
            let a = d * self.alignment[lane];
            let r = d * (self.slope[lane] + d * self.curvature[lane]);
            let (gain, divisor) = (a * (2.0 + a) - r, 1.0 + r);
            let better = (1.0 + a > 0.0)
                & (divisor > self.least[lane])
                & (gain * self.divisor[lane] > self.gain[lane] * divisor);
            self.best[lane] = if better { level[lane] } else { self.best[lane] };
            self.gain[lane] = if better { gain } else { self.gain[lane] };
            self.divisor[lane] = if better { divisor } else { self.divisor[lane] };
        }
    }
}

impl Descent {
    #[inline(always)]
    fn visit<S: Simd>(&mut self, simd: S, gram: &[f32], target: &[Lanes]) {
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
            let mut any = false;
            for lane in 0..LANES {
                change[lane] = best[lane] - before[lane];
                any |= change[lane] != 0.0;
                self.s[lane] += change[lane] * target[t][lane];
                self.n[lane] += change[lane] * (2.0 * h[lane] + change[lane] * energy);
            }
            if !any {
                continue;
            }
            self.codes[t] = best;
            // The block of G is symmetric: its row t is column t.
            add_outer(simd, &mut self.h[t + 1..], &gram[t * rows + t + 1..], &change);
        }
    }

    /// What every candidate of one coordinate is scored against.
    #[inline(always)]
    fn scores(&self, energy: f32, h: &Lanes, before: &Lanes, target: &Lanes) -> Scores {
        let mut scores = Scores {
            before: *before,
            alignment: [0.0; LANES],
            slope: [0.0; LANES],
            curvature: [0.0; LANES],
            least: [0.0; LANES],
            best: *before,
            gain: [MINIMUM_GAIN; LANES],
            divisor: [1.0; LANES],
        };
        for lane in 0..LANES {
            let inverse = 1.0 / self.n[lane];
            scores.alignment[lane] = target[lane] / self.s[lane];
            scores.slope[lane] = 2.0 * h[lane] * inverse;
            scores.curvature[lane] = energy * inverse;
            scores.least[lane] = self.zero_energy * inverse;
        }
        scores
    }

    #[inline(always)]
    fn best_of_all(&self, energy: f32, h: &Lanes, before: &Lanes, target: &Lanes) -> Lanes {
        let mut scores = self.scores(energy, h, before, target);
        for level in 0..self.levels {
            scores.consider(&[level as f32; LANES]);
        }
        scores.best
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
        let mut scores = self.scores(energy, h, before, target);
        scores.consider(&below);
        scores.consider(&above);
        scores.best
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
        let mut relative = true;
        for lane in 0..LANES {
            relative &= (self.s[lane] > 0.0) & (self.n[lane] > self.zero_energy);
        }
        if relative {
            return best;
        }
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
