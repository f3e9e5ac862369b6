//! From picture files to the numbers a model reads.
//!
//! A Vision Transformer is only as good as its input: another resize filter, another rounding of
//! the crop or another order of normalisation costs accuracy without any visible fault. This
//! module therefore repeats what timm does for evaluation, which in turn is what Pillow does:
//!
//! ```text
//!  .jpg / .png --decode--> Image (8-bit grey or RGB) --resize, crop--> Image --normalise--> [C,H,W] f32
//! ```
//!
//! - [`mod@decode`]: JPEG and PNG to 8-bit grey or RGB, with limits against hostile files;
//! - [`mod@resize`]: Pillow's resampling, byte for byte;
//! - [`mod@preprocess`]: timm's evaluation transform, value for value;
//! - [`mod@dataset`]: folders and CSV files as lists of (labelled) pictures.
//!
//! Files, and so [`mod@decode`] and [`mod@dataset`], take the feature `images` (on by default). What works on raw pixels is always
//! there.

#[cfg(feature = "images")]
pub mod dataset;
#[cfg(feature = "images")]
pub mod decode;
pub mod preprocess;
pub mod resize;

use crate::error::{Error, ErrorKind};

#[cfg(feature = "images")]
pub use dataset::{Item, Listing};
#[cfg(feature = "images")]
pub use decode::{DecodeLimits, decode, decode_bytes};
pub use preprocess::{Preprocessor, preprocess};
pub use resize::{Filter, resize};

/// What the bytes of one pixel mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ColorMode {
    /// One byte: luminance. Pillow's mode `L`.
    Grey,
    /// Three bytes: red, green, blue. Pillow's mode `RGB`.
    Rgb,
}

impl ColorMode {
    /// The mode for a model with this many input channels.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for anything but 1 (grey) and 3 (RGB).
    pub fn from_channels(channels: u32) -> Result<Self, Error> {
        match channels {
            1 => Ok(Self::Grey),
            3 => Ok(Self::Rgb),
            other => Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "pictures feed models of 1 (grey) or 3 (RGB) input channels, this model has \
                     {other}: give it prepared pixels instead"
                ),
            )),
        }
    }

    /// Bytes per pixel.
    pub fn channels(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::Rgb => 3,
        }
    }
}

/// Luminance of an RGB pixel as Pillow computes it for `convert("L")`: ITU-R 601-2 weights in
/// 16-bit fixed point, rounded to nearest.
pub(crate) fn luminance([red, green, blue]: [u8; 3]) -> u8 {
    let sum = u32::from(red) * 19595 + u32::from(green) * 38470 + u32::from(blue) * 7471 + 0x8000;
    // The three weights add up to 1 << 16, so the shifted sum is at most 255.
    (sum >> 16) as u8
}

/// An 8-bit picture in memory: rows from top to bottom, pixels from left to right, the bytes of a
/// pixel side by side. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    width: u32,
    height: u32,
    color: ColorMode,
    pixels: Vec<u8>,
}

impl Image {
    /// Wraps `pixels`, `height * width * channels` bytes in row-major order.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] when a side is zero or the number of bytes does not match.
    pub fn new(width: u32, height: u32, color: ColorMode, pixels: Vec<u8>) -> Result<Self, Error> {
        let expected = u128::from(width) * u128::from(height) * color.channels() as u128;
        if expected == 0 || expected != pixels.len() as u128 {
            return Err(Error::new(
                ErrorKind::Input,
                format!(
                    "a {width} x {height} picture of {} channels has {expected} bytes and may not \
                     be empty, found {} bytes",
                    color.channels(),
                    pixels.len()
                ),
            ));
        }
        Ok(Self { width, height, color, pixels })
    }

    /// Pixels per row.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Number of rows.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Grey or RGB.
    pub fn color(&self) -> ColorMode {
        self.color
    }

    /// All bytes, `[height, width, channels]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The same picture in `color`, as Pillow's `convert` makes it: RGB becomes its luminance,
    /// grey is repeated three times. Costs nothing when the mode is already right.
    pub fn into_color(self, color: ColorMode) -> Self {
        let pixels = match (self.color, color) {
            (ColorMode::Grey, ColorMode::Grey) | (ColorMode::Rgb, ColorMode::Rgb) => self.pixels,
            (ColorMode::Grey, ColorMode::Rgb) => {
                self.pixels.iter().flat_map(|&grey| [grey; 3]).collect()
            }
            (ColorMode::Rgb, ColorMode::Grey) => {
                let (pixels, _) = self.pixels.as_chunks::<3>();
                pixels.iter().copied().map(luminance).collect()
            }
        };
        Self { color, pixels, ..self }
    }
}

// The cases are picture files.
#[cfg(all(test, feature = "images"))]
mod tests;
