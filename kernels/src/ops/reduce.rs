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

/// Smallest and largest element of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extremes {
    /// NaN is skipped; infinity for an empty row.
    pub(crate) low: f32,
    /// NaN is skipped; minus infinity for an empty row.
    pub(crate) high: f32,
    /// Whether no element is infinite or NaN.
    pub(crate) finite: bool,
}

impl Extremes {
    /// Of the elements of a row.
    #[inline(always)]
    pub(crate) fn of(values: &[f32]) -> Extremes {
        let mut low = [f32::INFINITY; LANES];
        let mut high = [f32::NEG_INFINITY; LANES];
        let mut take = |lane: usize, value: f32| {
            low[lane] = smaller(low[lane], value);
            high[lane] = larger(high[lane], value);
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
            finite: largest_magnitude(values) < f32::INFINITY,
        }
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

/// The largest magnitude; NaN or infinity where an element is.
#[inline(always)]
pub(crate) fn largest_magnitude(values: &[f32]) -> f32 {
    // Bits order like magnitudes and put NaN above infinity; the maximum of integers needs no order of its own.
    f32::from_bits(values.iter().fold(0, |largest, value| largest.max(magnitude(*value))))
}

#[inline(always)]
fn magnitude(value: f32) -> u32 {
    value.to_bits() & 0x7fff_ffff
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
fn fold(lanes: [f32; LANES], combine: impl Fn(f32, f32) -> f32) -> f32 {
    /// Arrays of their own length, which stay in registers.
    #[inline(always)]
    fn halve<const HALF: usize>(lanes: &[f32], combine: &impl Fn(f32, f32) -> f32) -> [f32; HALF] {
        let (low, high) = lanes.split_at(HALF);
        let mut out = [0.0; HALF];
        for lane in 0..HALF {
            out[lane] = combine(low[lane], high[lane]);
        }
        out
    }
    let lanes: [f32; 16] = halve(&lanes, &combine);
    let lanes: [f32; 8] = halve(&lanes, &combine);
    let lanes: [f32; 4] = halve(&lanes, &combine);
    let lanes: [f32; 2] = halve(&lanes, &combine);
    combine(lanes[0], lanes[1])
}
