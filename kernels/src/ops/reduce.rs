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
    add_lanes(lanes)
}

/// Smallest and largest element of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extremes {
    /// NaN where a negative NaN is.
    pub(crate) low: f32,
    /// NaN where a positive NaN is.
    pub(crate) high: f32,
}

impl Extremes {
    /// Of the elements of a row; the largest and the smallest NaN of an empty one.
    #[inline(always)]
    pub(crate) fn of(values: &[f32]) -> Extremes {
        let (low, high) = values.iter().fold((i32::MAX, i32::MIN), |(low, high), &value| {
            let value = ordered(value);
            (low.min(value), high.max(value))
        });
        Extremes { low: from_ordered(low), high: from_ordered(high) }
    }
}

/// The largest element; NaN where a positive NaN is or nothing.
#[inline(always)]
pub(crate) fn maximum(values: &[f32]) -> f32 {
    Extremes::of(values).high
}

/// The bits of a float as an integer that orders as floats do, NaN beyond the infinities of its sign. Integers have a maximum
/// that may be taken in any order, so the compiler may use all lanes.
#[inline(always)]
pub(crate) fn ordered(value: f32) -> i32 {
    let bits = value.to_bits() as i32;
    bits ^ ((bits >> 31) as u32 >> 1) as i32
}

/// The float of an [`ordered`] integer.
#[inline(always)]
pub(crate) fn from_ordered(ordered: i32) -> f32 {
    f32::from_bits((ordered ^ ((ordered >> 31) as u32 >> 1) as i32) as u32)
}

/// Adds the lanes up by halves.
#[inline(always)]
fn add_lanes(lanes: [f32; LANES]) -> f32 {
    /// Arrays of their own length, which stay in registers.
    #[inline(always)]
    fn halve<const HALF: usize>(lanes: &[f32]) -> [f32; HALF] {
        let (low, high) = lanes.split_at(HALF);
        let mut out = [0.0; HALF];
        for lane in 0..HALF {
            out[lane] = low[lane] + high[lane];
        }
        out
    }
    let lanes: [f32; 16] = halve(&lanes);
    let lanes: [f32; 8] = halve(&lanes);
    let lanes: [f32; 4] = halve(&lanes);
    let [low, high]: [f32; 2] = halve(&lanes);
    low + high
}
