//! The two passes over the pixels, and their order.

use std::ops::Range;

use super::Filter;
use super::taps::{Axis, HALF, Taps, to_byte};

/// Whether Pillow (13.0) runs the vertical pass first: when it takes away more than twice as many
/// rows as the horizontal pass takes away columns.
fn vertical_first(columns: Axis, rows: Axis) -> bool {
    let saved = |axis: Axis| i128::from(axis.source as u64) - i128::from(axis.output);
    saved(rows) > 0 && saved(rows) > 2 * saved(columns)
}

/// Both passes over interleaved pixels of `C` bytes. The first pass touches only the rows (or
/// columns) that the second one will read.
pub(super) fn resample<const C: usize>(
    pixels: &[u8],
    columns: Axis,
    rows: Axis,
    filter: Filter,
) -> Vec<u8> {
    let first_is_vertical = vertical_first(columns, rows);
    let source = Plane { bytes: pixels, width: columns.source, left: 0, top: 0 };
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
        let between =
            Plane { bytes: &between, width: columns.len(), left: 0, top: rows.reach().start };
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
            Self::Sum(taps) => taps.len(),
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
pub(super) fn nearest(pixels: &[u8], channels: usize, columns: Axis, rows: Axis) -> Vec<u8> {
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
