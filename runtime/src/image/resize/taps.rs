//! Which source pixels make an output pixel, and with which integer weights.

use std::ops::Range;

use super::Filter;

/// Fractional bits of a weight: 8-bit pixels and two bits of headroom for filters with negative
/// lobes leave 22 of 32 bits.
pub(super) const PRECISION_BITS: u32 = 32 - 8 - 2;

/// Up to this column, nearest-neighbour positions are accumulated step by step as Pillow does;
/// beyond it (no picture Pillow could hold) they are multiplied out.
const MAX_ACCUMULATED: u64 = 1 << 24;

/// One direction of a resize: `source` pixels become `output` pixels, of which `count` are wanted
/// from `first` on.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    pub(super) source: usize,
    pub(super) output: u64,
    pub(super) first: u64,
    pub(super) count: usize,
}

impl Axis {
    fn scale(self) -> f64 {
        self.source as f64 / self.output as f64
    }

    /// Source positions of the wanted pixels for nearest neighbour. Repeated addition, with the
    /// rounding errors that it gathers, is what Pillow does.
    pub(super) fn nearest_positions(self) -> Vec<usize> {
        let scale = self.scale();
        let mut position = scale * 0.5;
        if self.first <= MAX_ACCUMULATED {
            for _ in 0..self.first {
                position += scale;
            }
        } else {
            position += scale * self.first as f64;
        }
        (0..self.count)
            .map(|_| {
                let index = (position as usize).min(self.source - 1);
                position += scale;
                index
            })
            .collect()
    }
}

/// Integer weights of the wanted output pixels of one axis.
pub(super) struct Taps {
    /// For each output pixel, its source pixels and where its weights begin.
    spans: Vec<(Range<usize>, usize)>,
    weights: Vec<i32>,
    /// All source pixels that are read.
    pub(super) reach: Range<usize>,
}

impl Taps {
    pub(super) fn new(axis: Axis, filter: Filter) -> Self {
        let scale = axis.scale();
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let inverse = 1.0 / stretch;
        let mut spans = Vec::with_capacity(axis.count);
        let mut weights = Vec::new();
        let mut exact = Vec::new();
        let mut reach = axis.source..0;
        for output in (axis.first..).take(axis.count) {
            let centre = (output as f64 + 0.5) * scale;
            // Casts saturate at 0, which is the clamp at the first border.
            let first = ((centre - support + 0.5) as usize).min(axis.source - 1);
            let end = ((centre + support + 0.5) as usize).clamp(first + 1, axis.source);
            exact.clear();
            exact.extend(
                (first..end).map(|source| filter.weight((source as f64 - centre + 0.5) * inverse)),
            );
            let sum: f64 = exact.iter().sum();
            spans.push((first..end, weights.len()));
            weights.extend(
                exact
                    .iter()
                    .map(|&weight| to_fixed(if sum == 0.0 { weight } else { weight / sum })),
            );
            reach = reach.start.min(first)..reach.end.max(end);
        }
        Self { spans, weights, reach }
    }

    /// Number of output pixels.
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Source pixels and weights of each output pixel.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Range<usize>, &[i32])> {
        self.spans
            .iter()
            .map(|(range, start)| (range.clone(), &self.weights[*start..start + range.len()]))
    }
}

/// Rounds half away from zero to [`PRECISION_BITS`] fractional bits.
pub(super) fn to_fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << PRECISION_BITS);
    // The cast truncates towards zero, hence the half with the sign of the weight.
    (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
}

/// One half in the fixed-point format: where every sum starts.
pub(super) const HALF: i32 = 1 << (PRECISION_BITS - 1);

pub(super) fn to_byte(sum: i32) -> u8 {
    // In range after the clamp.
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}
