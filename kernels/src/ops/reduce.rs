//! Sums and extremes of a slice, in as many lanes on every instruction set, so that the order of operations, and with it the
//! result, is the same on all of them.

use crate::arch::Simd;

/// Lanes of a sum.
pub(crate) const SUM_LANES: usize = 32;

/// The sum of the elements.
#[inline(always)]
pub(crate) fn sum<S: Simd>(simd: S, values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks();
    add_rest(simd, simd.sum_lanes(chunks), rest, |value| value)
}

/// The sum of the squared distances from `middle`.
#[inline(always)]
pub(crate) fn sum_squares<S: Simd>(simd: S, values: &[f32], middle: f32) -> f32 {
    let (chunks, rest) = values.as_chunks();
    add_rest(simd, simd.square_lanes(chunks, middle), rest, |value| square(value, middle))
}

/// The sum of a function of the elements.
#[inline(always)]
pub(crate) fn sum_map<S: Simd, T: Copy>(simd: S, values: &[T], map: impl Fn(T) -> f32) -> f32 {
    let (chunks, rest) = values.as_chunks();
    add_rest(simd, map_lanes(chunks, &map), rest, map)
}

/// What the chunks add up to in each lane.
#[inline(always)]
pub(crate) fn sum_lanes(chunks: &[[f32; SUM_LANES]]) -> [f32; SUM_LANES] {
    map_lanes(chunks, |value| value)
}

/// What the squared distances of the chunks from `middle` add up to in each lane.
#[inline(always)]
pub(crate) fn square_lanes(chunks: &[[f32; SUM_LANES]], middle: f32) -> [f32; SUM_LANES] {
    map_lanes(chunks, |value| square(value, middle))
}

#[inline(always)]
fn square(value: f32, middle: f32) -> f32 {
    (value - middle) * (value - middle)
}

#[inline(always)]
fn map_lanes<T: Copy>(chunks: &[[T; SUM_LANES]], map: impl Fn(T) -> f32) -> [f32; SUM_LANES] {
    let mut lanes = [0.0; SUM_LANES];
    for chunk in chunks {
        for lane in 0..SUM_LANES {
            lanes[lane] += map(chunk[lane]);
        }
    }
    lanes
}

/// The sum of the lanes, once a function of the elements that are left is added to them.
#[inline(always)]
fn add_rest<S: Simd, T: Copy>(
    simd: S,
    mut lanes: [f32; SUM_LANES],
    rest: &[T],
    map: impl Fn(T) -> f32,
) -> f32 {
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane += map(value);
    }
    simd.add_lanes(&lanes)
}

/// Smallest and largest of zero and the elements of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extremes {
    /// NaN where an element is not finite.
    pub(crate) low: f32,
    /// NaN where an element is not finite.
    pub(crate) high: f32,
}

impl Extremes {
    /// Of nothing but zero.
    pub(crate) const ZERO: Extremes = Extremes { low: 0.0, high: 0.0 };

    /// These, unless an element is not finite.
    #[inline(always)]
    pub(crate) fn checked(finite: bool, low: f32, high: f32) -> Extremes {
        if finite { Extremes { low, high } } else { Extremes { low: f32::NAN, high: f32::NAN } }
    }
}

/// The extremes of a row.
#[inline(always)]
pub(crate) fn extremes(values: &[f32]) -> Extremes {
    let (low, high) = values.iter().fold((0, 0), |(low, high): (i32, i32), &value| {
        let value = ordered(value);
        (low.min(value), high.max(value))
    });
    let (low, high) = (from_ordered(low), from_ordered(high));
    Extremes::checked(low.is_finite() && high.is_finite(), low, high)
}

/// The largest element; NaN where a positive NaN is or nothing.
#[inline(always)]
pub(crate) fn maximum(values: &[f32]) -> f32 {
    let largest = values.iter().fold(i32::MIN, |largest, &value| largest.max(ordered(value)));
    from_ordered(largest)
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
pub(crate) fn add_lanes(lanes: &[f32; SUM_LANES]) -> f32 {
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
    let lanes: [f32; 16] = halve(lanes);
    let lanes: [f32; 8] = halve(&lanes);
    let lanes: [f32; 4] = halve(&lanes);
    let [low, high]: [f32; 2] = halve(&lanes);
    low + high
}
