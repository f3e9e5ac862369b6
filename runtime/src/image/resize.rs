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
//! - weights become integers of 22 fractional bits, rounded half away from zero;
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

mod filter;
mod pass;
mod taps;

use self::pass::{nearest, resample};
use self::taps::Axis;
use super::{ColorMode, Image};
use crate::error::{Error, ErrorKind};

pub use self::filter::Filter;

/// The largest number of bytes that one resize may produce.
const MAX_BYTES: u64 = 1 << 31;

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
    let window = Window { left: 0, top: 0, width, height };
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

// The cases are picture files.
#[cfg(all(test, feature = "images"))]
mod tests;
