//! Sums and extremes of a slice, in sixteen lanes whatever the instruction set, so that the order of operations, and with
//! it the result, is the same on all of them.

const LANES: usize = 16;

/// The sum of the elements.
#[inline(always)]
pub(crate) fn sum(values: &[f32]) -> f32 {
    sum_map(values, |value| value)
}

/// The sum of a function of the elements.
#[inline(always)]
pub(crate) fn sum_map(values: &[f32], map: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0_f32; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += map(chunk[lane]);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane += map(value);
    }
    fold(lanes, |a, b| a + b)
}

/// The largest of a function of the elements; NaN is skipped, and the maximum of nothing is minus infinity.
#[inline(always)]
pub(crate) fn maximum(values: &[f32], map: impl Fn(f32) -> f32) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], map(chunk[lane]));
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = larger(*lane, map(value));
    }
    fold(lanes, larger)
}

/// The smallest element; NaN is skipped, and the minimum of nothing is infinity.
#[inline(always)]
pub(crate) fn minimum(values: &[f32]) -> f32 {
    -maximum(values, |value| -value)
}

/// Folds the lanes by halves.
#[inline(always)]
fn fold(mut lanes: [f32; LANES], combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = combine(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}
