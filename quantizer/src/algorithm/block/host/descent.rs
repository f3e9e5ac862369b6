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

/// All levels of a short alphabet.
const FEW_LEVELS: [Lanes; 4] = [[0.0; LANES], [1.0; LANES], [2.0; LANES], [3.0; LANES]];

impl Descent {
    #[inline(always)]
    fn visit<S: Simd>(&mut self, simd: S, gram: &[f32], target: &[Lanes]) {
        let rows = self.codes.len();
        for t in 0..rows {
            let energy = gram[t * rows + t];
            let h = self.h[t];
            let before = self.codes[t];
            let best = if let Some(all) = FEW_LEVELS.get(..self.levels as usize) {
                self.best_of(simd, all, energy, &h, &before, &target[t])
            } else {
                let neighbours = self.neighbours(energy, &h, &before, &target[t]);
                self.best_of(simd, &neighbours, energy, &h, &before, &target[t])
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

    /// The candidate that gains most over `before`. Gains are compared as fractions, so that no
    /// candidate costs a division; written with `pulp`'s vectors, since the compiler would keep the
    /// best ones in memory between candidates.
    #[inline(always)]
    fn best_of<S: Simd>(
        &self,
        simd: S,
        candidates: &[Lanes],
        energy: f32,
        h: &Lanes,
        before: &Lanes,
        target: &Lanes,
    ) -> Lanes {
        let mut chosen = *before;
        // LANES is a multiple of every vector's length, so nothing remains.
        let vectors = |lanes| S::as_simd_f32s(lanes).0;
        let (s, n, h) = (vectors(&self.s), vectors(&self.n), vectors(h));
        let (before, target) = (vectors(before), vectors(target));
        let (one, two, zero) = (simd.splat_f32s(1.0), simd.splat_f32s(2.0), simd.splat_f32s(0.0));
        for (v, chosen) in S::as_mut_simd_f32s(&mut chosen).0.iter_mut().enumerate() {
            let inverse = simd.div_f32s(one, n[v]);
            // `a = d b / s` and `r = d (2 h + d G_tt) / n`.
            let alignment = simd.div_f32s(target[v], s[v]);
            let slope = simd.mul_f32s(simd.mul_f32s(two, h[v]), inverse);
            let curvature = simd.mul_f32s(simd.splat_f32s(energy), inverse);
            // The least `1 + r` of a vector that is not zero.
            let least = simd.mul_f32s(simd.splat_f32s(self.zero_energy), inverse);
            let mut best = before[v];
            // The best gain is `best_gain / best_divisor`.
            let mut best_gain = simd.splat_f32s(MINIMUM_GAIN);
            let mut best_divisor = one;
            for candidate in candidates {
                let level = S::as_simd_f32s(candidate).0[v];
                let d = simd.sub_f32s(level, before[v]);
                let a = simd.mul_f32s(d, alignment);
                let r = simd.mul_f32s(d, simd.add_f32s(slope, simd.mul_f32s(d, curvature)));
                let gain = simd.sub_f32s(simd.mul_f32s(a, simd.add_f32s(two, a)), r);
                let divisor = simd.add_f32s(one, r);
                let better = simd.and_m32s(
                    simd.and_m32s(
                        simd.less_than_f32s(zero, simd.add_f32s(one, a)),
                        simd.less_than_f32s(least, divisor),
                    ),
                    simd.less_than_f32s(
                        simd.mul_f32s(best_gain, divisor),
                        simd.mul_f32s(gain, best_divisor),
                    ),
                );
                best = simd.select_f32s(better, level, best);
                best_gain = simd.select_f32s(better, gain, best_gain);
                best_divisor = simd.select_f32s(better, divisor, best_divisor);
            }
            *chosen = best;
        }
        chosen
    }

    /// The cosine has one stationary point along a coordinate, a maximum if the denominator is
    /// positive, so the best level is one of its two neighbours (or a bound).
    #[inline(always)]
    fn neighbours(&self, energy: f32, h: &Lanes, before: &Lanes, target: &Lanes) -> [Lanes; 2] {
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
        [below, above]
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
