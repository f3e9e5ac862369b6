//! Sums and extremes of a slice, in as many lanes on every instruction set, so that the order of operations, and with it the
//! result, is the same on all of them.

const LANES: usize = 32;

/// The sum of the elements.
#[inline(always)]
pub(crate) fn sum(values: &[f32]) -> f32 {
    sum_map(values, |value| value)
}

/// The sum of a function of the elements.
#[inline(always)]
pub(crate) fn sum_map<T: Copy>(values: &[T], map: impl Fn(T) -> f32) -> f32 {
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

/// Smallest and largest element and largest magnitude of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extremes {
    /// NaN is skipped; infinity for an empty row.
    pub(crate) low: f32,
    /// NaN is skipped; minus infinity for an empty row.
    pub(crate) high: f32,
    /// The largest magnitude as bits, which order like magnitudes and put NaN above infinity.
    magnitude: u32,
}

impl Extremes {
    /// Of the elements of a row.
    #[inline(always)]
    pub(crate) fn of(values: &[f32]) -> Extremes {
        let mut low = [f32::INFINITY; LANES];
        let mut high = [f32::NEG_INFINITY; LANES];
        let mut magnitude = [0; LANES];
        let mut take = |lane: usize, value: f32| {
            low[lane] = smaller(low[lane], value);
            high[lane] = larger(high[lane], value);
            magnitude[lane] = u32::max(magnitude[lane], value.to_bits() & 0x7fff_ffff);
        };
        let (chunks, rest) = values.as_chunks::<LANES>();
        for chunk in chunks {
            for lane in 0..LANES {
                take(lane, chunk[lane]);
            }
        }
        for (lane, &value) in rest.iter().enumerate() {
            take(lane, value);
        }
        Extremes {
            low: fold(low, smaller),
            high: fold(high, larger),
            magnitude: fold(magnitude, u32::max),
        }
    }

    /// Whether no element is infinite or NaN.
    #[inline(always)]
    pub(crate) fn are_finite(&self) -> bool {
        self.magnitude < f32::INFINITY.to_bits()
    }
}

/// The largest element; NaN is skipped, and the maximum of nothing is minus infinity.
#[inline(always)]
pub(crate) fn maximum(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], chunk[lane]);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = larger(*lane, value);
    }
    fold(lanes, larger)
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

#[inline(always)]
fn smaller(a: f32, b: f32) -> f32 {
    if b < a { b } else { a }
}

/// Folds the lanes by halves.
#[inline(always)]
fn fold<T: Copy>(mut lanes: [T; LANES], combine: impl Fn(T, T) -> T) -> T {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = combine(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}
