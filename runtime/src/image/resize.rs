//! Pillow's resampling of 8-bit pictures, byte for byte.
//!
//! Models are trained and evaluated on pictures that Pillow resized. Its filters are
//! *antialiased*: when a side shrinks, the filter is stretched by the same factor, so that every
//! source pixel takes part; most other libraries sample a fixed neighbourhood and lose accuracy.
//! The arithmetic is repeated exactly, down to the rounding:
//!
//! - per axis, output pixel `i` has its centre at `c = (i + 0.5) * s` in the source, where
//!   `s = source / output`; its weights are `filter((j - c + 0.5) / max(s, 1))` over the source
//!   pixels `j` under the filter, divided by their sum in f64;
//! - weights become integers of [`PRECISION_BITS`] fractional bits, rounded half away from zero;
//! - one pass per axis, each writing 8-bit pixels: every sum starts at one half, is shifted down and
//!   clamped to 0..=255;
//! - an axis whose size does not change is copied;
//! - the horizontal pass is first, unless the vertical one drops more than twice as many rows as
//!   the horizontal one drops columns. This is Pillow 13; Pillow up to 12 did so only where a
//!   picture is more than 100 times as high as wide. The order shows in the last bit (more where
//!   the filter overshoots), and only in pictures of such shapes: where the aspect is kept, in those
//!   more than twice as high as wide.
//!
//! Since each output pixel depends on nothing but its own weights, a *window* of the result can be
//! computed alone ([`resize_window`]); the centre crop of a picture thus costs only its own pixels
//! and memory, whatever the shape of the whole.

use std::f64::consts::PI;
use std::ops::Range;

use super::{ColorMode, Image};
use crate::error::{Error, ErrorKind};
use crate::format::manifest::Interpolation;

/// Fractional bits of a weight: 8-bit pixels and two bits of headroom for filters with negative
/// lobes leave 22 of 32 bits.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// The largest number of bytes that one resize may produce.
const MAX_BYTES: u64 = 1 << 31;

/// Up to this column, nearest-neighbour positions are accumulated step by step as Pillow does;
/// beyond it (no picture Pillow could hold) they are multiplied out.
const MAX_ACCUMULATED: u64 = 1 << 24;

/// A resampling filter, named as in Pillow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Filter {
    /// The source pixel under the centre of the output pixel; no antialiasing.
    Nearest,
    /// Mean over the area of the output pixel.
    Box,
    /// Triangle of half width 1.
    Bilinear,
    /// Hamming-windowed sinc of half width 1.
    Hamming,
    /// Cubic convolution of half width 2 with `a = -0.5`.
    Bicubic,
    /// Lanczos-windowed sinc of half width 3.
    Lanczos,
}

impl From<Interpolation> for Filter {
    fn from(interpolation: Interpolation) -> Self {
        match interpolation {
            Interpolation::Nearest => Self::Nearest,
            Interpolation::Bilinear => Self::Bilinear,
            Interpolation::Bicubic => Self::Bicubic,
            Interpolation::Lanczos => Self::Lanczos,
        }
    }
}

impl Filter {
    /// Half width of the filter in source pixels at scale 1.
    fn support(self) -> f64 {
        match self {
            Self::Nearest | Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    /// Value of the filter at distance `x` from its centre.
    fn weight(self, x: f64) -> f64 {
        let distance = x.abs();
        match self {
            // Half open, so that a pixel on the border of two boxes counts once.
            Self::Nearest | Self::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Self::Bilinear => (1.0 - distance).max(0.0),
            Self::Hamming if distance >= 1.0 => 0.0,
            // The window's constants are single precision in Pillow.
            Self::Hamming => {
                sinc(distance) * (f64::from(0.54_f32) + f64::from(0.46_f32) * (distance * PI).cos())
            }
            Self::Bicubic => bicubic(distance),
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

/// `sin(pi x) / (pi x)`, continued to 1 at 0.
fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    (x * PI).sin() / (x * PI)
}

/// Keys' cubic convolution kernel with `a = -0.5`, in Horner form; `x >= 0`.
fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// A rectangle of the resized picture, in its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First column.
    pub left: u64,
    /// First row.
    pub top: u64,
    /// Columns, at least 1.
    pub width: u32,
    /// Rows, at least 1.
    pub height: u32,
}

/// Resizes `image` to `width` x `height` exactly as Pillow's `Image.resize` does.
///
/// # Errors
/// [`ErrorKind::Input`] when a side is zero, [`ErrorKind::Limit`] when the result would exceed
/// 2 GiB.
pub fn resize(image: &Image, width: u32, height: u32, filter: Filter) -> Result<Image, Error> {
    let window = Window {
        left: 0,
        top: 0,
        width,
        height,
    };
    resize_window(image, u64::from(width), u64::from(height), window, filter)
}

/// The part `window` of what [`resize`] to `width` x `height` would give, without computing the
/// rest: memory is that of the window and of the source rows under it.
///
/// # Errors
/// [`ErrorKind::Input`] when a side is zero or the window is not inside the resized picture,
/// [`ErrorKind::Limit`] when the window would exceed 2 GiB.
pub fn resize_window(
    image: &Image,
    width: u64,
    height: u64,
    window: Window,
    filter: Filter,
) -> Result<Image, Error> {
    let inside = |first: u64, count: u32, size: u64| {
        count > 0 && first.checked_add(u64::from(count)).is_some_and(|end| end <= size)
    };
    if !inside(window.left, window.width, width) || !inside(window.top, window.height, height) {
        return Err(Error::new(
            ErrorKind::Input,
            format!(
                "expected a window of at least one pixel inside the {width} x {height} picture, \
                 found {} x {} at column {}, row {}",
                window.width, window.height, window.left, window.top
            ),
        ));
    }
    let channels = image.color.channels();
    // What lies between the passes: source rows of the window's width, or the other way round.
    let largest = (u64::from(image.height.max(window.height)) * u64::from(window.width))
        .max(u64::from(image.width.max(window.width)) * u64::from(window.height));
    if u128::from(largest) * channels as u128 > u128::from(MAX_BYTES) {
        return Err(Error::new(
            ErrorKind::Limit,
            format!(
                "resizing {} x {} pixels to {} x {} takes more than 2 GiB: use a smaller picture \
                 or size",
                image.width, image.height, window.width, window.height
            ),
        ));
    }
    let columns = Axis {
        source: image.width as usize,
        output: width,
        first: window.left,
        count: window.width as usize,
    };
    let rows = Axis {
        source: image.height as usize,
        output: height,
        first: window.top,
        count: window.height as usize,
    };
    let pixels = match (filter, image.color) {
        (Filter::Nearest, _) => nearest(&image.pixels, channels, columns, rows),
        (_, ColorMode::Grey) => resample::<1>(&image.pixels, columns, rows, filter),
        (_, ColorMode::Rgb) => resample::<3>(&image.pixels, columns, rows, filter),
    };
    Image::new(window.width, window.height, image.color, pixels)
}

/// One direction of a resize: `source` pixels become `output` pixels, of which `count` are wanted
/// from `first` on.
#[derive(Clone, Copy)]
struct Axis {
    source: usize,
    output: u64,
    first: u64,
    count: usize,
}

impl Axis {
    fn scale(self) -> f64 {
        self.source as f64 / self.output as f64
    }

    /// Source positions of the wanted pixels for nearest neighbour. Repeated addition, with the
    /// rounding errors that it gathers, is what Pillow does.
    fn nearest_positions(self) -> Vec<usize> {
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
struct Taps {
    /// For each output pixel, its source pixels and where its weights begin.
    spans: Vec<(Range<usize>, usize)>,
    weights: Vec<i32>,
    /// All source pixels that are read.
    reach: Range<usize>,
}

impl Taps {
    fn new(axis: Axis, filter: Filter) -> Self {
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
                (first..end)
                    .map(|source| filter.weight((source as f64 - centre + 0.5) * inverse)),
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
        Self {
            spans,
            weights,
            reach,
        }
    }

    /// Source pixels and weights of each output pixel.
    fn iter(&self) -> impl Iterator<Item = (Range<usize>, &[i32])> {
        self.spans
            .iter()
            .map(|(range, start)| (range.clone(), &self.weights[*start..start + range.len()]))
    }
}

/// Rounds half away from zero to [`PRECISION_BITS`] fractional bits.
fn to_fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << PRECISION_BITS);
    // The cast truncates towards zero, hence the half with the sign of the weight.
    (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
}

/// One half in the fixed-point format: where every sum starts.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

fn to_byte(sum: i32) -> u8 {
    // In range after the clamp.
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Whether Pillow (13.0) runs the vertical pass first: when it takes away more than twice as many
/// rows as the horizontal pass takes away columns.
fn vertical_first(columns: Axis, rows: Axis) -> bool {
    let saved = |axis: Axis| i128::from(axis.source as u64) - i128::from(axis.output);
    saved(rows) > 0 && saved(rows) > 2 * saved(columns)
}

/// Both passes over interleaved pixels of `C` bytes. The first pass touches only the rows (or
/// columns) that the second one will read.
fn resample<const C: usize>(pixels: &[u8], columns: Axis, rows: Axis, filter: Filter) -> Vec<u8> {
    let first_is_vertical = vertical_first(columns, rows);
    let source = Plane {
        bytes: pixels,
        width: columns.source,
        left: 0,
        top: 0,
    };
    let columns = Pass::new(columns, filter);
    let rows = Pass::new(rows, filter);
    if first_is_vertical {
        let between = vertical::<C>(&source, columns.reach(), &rows);
        let between = Plane {
            bytes: &between,
            width: columns.reach().len(),
            left: columns.reach().start,
            top: 0,
        };
        horizontal::<C>(&between, 0..rows.len(), &columns)
    } else {
        let between = horizontal::<C>(&source, rows.reach(), &columns);
        let between = Plane {
            bytes: &between,
            width: columns.len(),
            left: 0,
            top: rows.reach().start,
        };
        vertical::<C>(&between, 0..columns.len(), &rows)
    }
}

/// Pixels cut out of a picture.
struct Plane<'a> {
    bytes: &'a [u8],
    /// Pixels per row.
    width: usize,
    /// Column of the picture at which the rows start.
    left: usize,
    /// Row of the picture at which the first row lies.
    top: usize,
}

impl Plane<'_> {
    /// The rows `range` of the picture, whole.
    fn rows<const C: usize>(&self, range: &Range<usize>) -> std::slice::ChunksExact<'_, u8> {
        let stride = self.width * C;
        let range = (range.start - self.top) * stride..(range.end - self.top) * stride;
        self.bytes[range].chunks_exact(stride)
    }
}

/// What one pass does to its axis.
enum Pass {
    /// Nothing: the size stays, and this part of it is wanted.
    Copy(Range<usize>),
    /// Weighted sums.
    Sum(Taps),
}

impl Pass {
    fn new(axis: Axis, filter: Filter) -> Self {
        if axis.output == axis.source as u64 {
            // The window lies inside of the source, whose size is a `usize`.
            let first = axis.first as usize;
            Self::Copy(first..first + axis.count)
        } else {
            Self::Sum(Taps::new(axis, filter))
        }
    }

    /// Pixels that come out.
    fn len(&self) -> usize {
        match self {
            Self::Copy(range) => range.len(),
            Self::Sum(taps) => taps.spans.len(),
        }
    }

    /// Source pixels that are read.
    fn reach(&self) -> Range<usize> {
        match self {
            Self::Copy(range) => range.clone(),
            Self::Sum(taps) => taps.reach.clone(),
        }
    }
}

/// The horizontal pass over the rows `rows` of the picture.
fn horizontal<const C: usize>(plane: &Plane, rows: Range<usize>, pass: &Pass) -> Vec<u8> {
    let mut output = Vec::with_capacity(rows.len() * pass.len() * C);
    for row in plane.rows::<C>(&rows) {
        match pass {
            Pass::Copy(range) => {
                output.extend_from_slice(
                    &row[(range.start - plane.left) * C..(range.end - plane.left) * C],
                );
            }
            Pass::Sum(taps) => {
                let (row, _) = row.as_chunks::<C>();
                for (range, weights) in taps.iter() {
                    let mut sums = [HALF; C];
                    let pixels = &row[range.start - plane.left..range.end - plane.left];
                    for (pixel, &weight) in pixels.iter().zip(weights) {
                        for (sum, &value) in sums.iter_mut().zip(pixel) {
                            *sum = sum.wrapping_add(i32::from(value).wrapping_mul(weight));
                        }
                    }
                    output.extend_from_slice(&sums.map(to_byte));
                }
            }
        }
    }
    output
}

/// Bytes of a row that the vertical pass sums up at a time: the sums stay in the nearest cache.
const BLOCK: usize = 256;

/// The vertical pass over the columns `columns` of the picture.
fn vertical<const C: usize>(plane: &Plane, columns: Range<usize>, pass: &Pass) -> Vec<u8> {
    let bytes = (columns.start - plane.left) * C..(columns.end - plane.left) * C;
    let mut output = Vec::with_capacity(bytes.len() * pass.len());
    let taps = match pass {
        Pass::Copy(range) => {
            for row in plane.rows::<C>(range) {
                output.extend_from_slice(&row[bytes.clone()]);
            }
            return output;
        }
        Pass::Sum(taps) => taps,
    };
    let mut sums = [0_i32; BLOCK];
    for (range, weights) in taps.iter() {
        for left in bytes.clone().step_by(BLOCK) {
            let right = bytes.end.min(left + BLOCK);
            let sums = &mut sums[..right - left];
            sums.fill(HALF);
            for (row, &weight) in plane.rows::<C>(&range).zip(weights) {
                for (sum, &value) in sums.iter_mut().zip(&row[left..right]) {
                    *sum = sum.wrapping_add(i32::from(value).wrapping_mul(weight));
                }
            }
            output.extend(sums.iter().copied().map(to_byte));
        }
    }
    output
}

/// Picks the source pixel under the centre of each output pixel.
fn nearest(pixels: &[u8], channels: usize, columns: Axis, rows: Axis) -> Vec<u8> {
    let horizontal = columns.nearest_positions();
    let mut output = Vec::with_capacity(rows.count * columns.count * channels);
    for row in rows.nearest_positions() {
        let row = &pixels[row * columns.source * channels..(row + 1) * columns.source * channels];
        for &column in &horizontal {
            output.extend_from_slice(&row[column * channels..(column + 1) * channels]);
        }
    }
    output
}

#[cfg(test)]
mod tests;
