//! timm's evaluation transform: picture in, model input out.
//!
//! Step by step as `timm.data.create_transform(..., is_training=False)` builds it:
//!
//! 1. the scale size is `floor(input size / crop_pct)` per side;
//! 2. resize, by crop mode: *center* brings the shorter side to the scale size (the longer one is
//!    `int(size * long / short)`; for inputs that are not square, the side that needs less
//!    shrinking decides), *squash* brings both sides there, *border* fits the whole picture in;
//! 3. crop the centre. Offsets are rounded half to even; what lies outside of the picture is black,
//!    or the mean colour in *border* mode;
//! 4. divide by 255, subtract the mean, divide by the standard deviation: in f32, in this order;
//! 5. channels first.
//!
//! Steps 2 and 3 are one: only the pixels of the crop are ever resized, so that a picture of
//! 65,535 x 1 pixels costs no more than any other. A side that timm would round to zero (and fail)
//! becomes one pixel.

#[cfg(feature = "images")]
mod files;

use super::resize::{Filter, Window, resize_window};
use super::{ColorMode, Image};
use crate::error::{Error, ErrorKind};
use crate::format::manifest::{CropMode, Preprocessing};

/// Longest side to which pictures are scaled. Far beyond any model; keeps the arithmetic in range.
const MAX_SCALE_SIZE: f64 = (1 << 20) as f64;

/// A checked, ready-to-run form of [`Preprocessing`].
#[derive(Clone, Debug)]
pub struct Preprocessor {
    /// Height and width of the result.
    input_size: [u32; 2],
    /// Height and width that the resize aims at.
    scale_size: [u32; 2],
    crop_mode: CropMode,
    filter: Filter,
    color: ColorMode,
    /// Per channel, the byte that stands for pixels outside of the picture.
    fill: [u8; 3],
    /// Per channel, the normalised value of each byte.
    normalised: Vec<[f32; 256]>,
}

impl Preprocessor {
    /// Prepares `preprocessing` for a model of `channels` input channels.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when `channels` is neither 1 nor 3, [`ErrorKind::Invalid`] when a
    /// number is out of range.
    pub fn new(preprocessing: &Preprocessing, channels: u32) -> Result<Self, Error> {
        let color = ColorMode::from_channels(channels)?;
        let invalid = |message: String| Err(Error::new(ErrorKind::Invalid, message));
        let crop_pct = decimal(preprocessing.crop_pct);
        if !(crop_pct.is_finite() && crop_pct > 0.0) {
            return invalid(format!("expected a crop_pct above 0, found {crop_pct}"));
        }
        let mut scale_size = [0; 2];
        for (scaled, &size) in scale_size.iter_mut().zip(&preprocessing.input_size) {
            let exact = (f64::from(size) / crop_pct).floor();
            if size == 0 || !(1.0..=MAX_SCALE_SIZE).contains(&exact) {
                return invalid(format!(
                    "expected an input size and crop_pct that scale pictures to 1..=\
                     {MAX_SCALE_SIZE} pixels, found size {size} and crop_pct {crop_pct}"
                ));
            }
            // In range, as just checked.
            *scaled = exact as u32;
        }
        let mut fill = [0; 3];
        let mut normalised = Vec::with_capacity(color.channels());
        let statistics = preprocessing.mean.iter().zip(&preprocessing.std);
        for ((&mean, &deviation), fill) in statistics.zip(&mut fill).take(color.channels()) {
            let values: [f32; 256] =
                std::array::from_fn(|byte| (byte as f32 / 255.0 - mean) / deviation);
            if !values.iter().all(|value| value.is_finite()) || deviation <= 0.0 {
                return invalid(format!(
                    "expected a finite mean and a standard deviation above 0 for each channel, \
                     found {mean} and {deviation}"
                ));
            }
            if preprocessing.crop_mode == CropMode::Border {
                // The cast saturates, should a mean lie outside of 0..=1.
                *fill = (255.0 * decimal(mean)).round_ties_even() as u8;
            }
            normalised.push(values);
        }
        Ok(Self {
            input_size: preprocessing.input_size,
            scale_size,
            crop_mode: preprocessing.crop_mode,
            filter: preprocessing.interpolation.into(),
            color,
            fill,
            normalised,
        })
    }

    /// Grey or RGB: what pictures are decoded to.
    pub fn color(&self) -> ColorMode {
        self.color
    }

    /// Numbers in one prepared picture: `channels * height * width`.
    pub fn output_len(&self) -> usize {
        let [height, width] = self.input_size;
        self.color.channels() * height as usize * width as usize
    }

    /// The model input for `image`: `[channels, height, width]`, normalised. The picture is
    /// converted to the model's colour mode where it has another one.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`] when the picture and the input size together exceed 2 GiB.
    pub fn apply(&self, image: &Image) -> Result<Vec<f32>, Error> {
        let cropped = if image.color() == self.color {
            self.crop(image)?
        } else {
            self.crop(&image.clone().into_color(self.color))?
        };
        let [height, width] = self.input_size;
        let channels = self.color.channels();
        let mut output = Vec::with_capacity(self.output_len());
        for (channel, values) in self.normalised.iter().enumerate() {
            let fill = values[usize::from(self.fill[channel])];
            let outside = |pixels: u32| std::iter::repeat_n(fill, pixels as usize);
            output.extend(outside(cropped.above * width));
            let row_bytes = cropped.image.width() as usize * channels;
            for row in cropped.image.pixels().chunks_exact(row_bytes) {
                output.extend(outside(cropped.left));
                let bytes = row[channel..].iter().step_by(channels);
                output.extend(bytes.map(|&byte| values[usize::from(byte)]));
                output.extend(outside(width - cropped.left - cropped.image.width()));
            }
            output.extend(outside((height - cropped.above - cropped.image.height()) * width));
        }
        Ok(output)
    }

    /// Resizes and crops in one go.
    fn crop(&self, image: &Image) -> Result<Cropped, Error> {
        let [height, width] = self.resized_size(image);
        let rows = Span::centred(height, self.input_size[0]);
        let columns = Span::centred(width, self.input_size[1]);
        let window = Window {
            left: columns.first,
            top: rows.first,
            width: columns.count,
            height: rows.count,
        };
        Ok(Cropped {
            image: resize_window(image, width, height, window, self.filter)?,
            left: columns.before,
            above: rows.before,
        })
    }

    /// Height and width of the whole picture after the resize.
    fn resized_size(&self, image: &Image) -> [u64; 2] {
        let size = [image.height(), image.width()];
        let [scale_height, scale_width] = self.scale_size;
        match self.crop_mode {
            CropMode::Squash => self.scale_size.map(u64::from),
            CropMode::Center if scale_height == scale_width => {
                let [height, width] = size.map(u64::from);
                let short = u64::from(scale_height);
                let long = short * height.max(width) / height.min(width);
                if width <= height { [long, short] } else { [short, long] }
            }
            CropMode::Center | CropMode::Border => {
                let [height, width] = size.map(f64::from);
                let by_height = height / f64::from(scale_height);
                let by_width = width / f64::from(scale_width);
                let ratio = if self.crop_mode == CropMode::Border {
                    by_height.max(by_width)
                } else {
                    by_height.min(by_width)
                };
                // Sides are below 2^32 and ratios above 2^-20, so the casts are exact.
                [height, width].map(|side| ((side / ratio).round_ties_even() as u64).max(1))
            }
        }
    }
}

/// Prepares one picture: [`Preprocessor::new`] and [`Preprocessor::apply`] in one call.
///
/// # Errors
/// As those two.
pub fn preprocess(
    preprocessing: &Preprocessing,
    channels: u32,
    image: &Image,
) -> Result<Vec<f32>, Error> {
    Preprocessor::new(preprocessing, channels)?.apply(image)
}

/// The part of the crop that the picture covers, and where it lies in the crop.
struct Cropped {
    image: Image,
    /// Missing columns at the left.
    left: u32,
    /// Missing rows at the top.
    above: u32,
}

/// Where a centred crop lies along one axis.
#[derive(Debug, PartialEq, Eq)]
struct Span {
    /// Pixels of the crop before the picture begins.
    before: u32,
    /// First pixel of the picture inside the crop.
    first: u64,
    /// Pixels of the picture inside the crop.
    count: u32,
}

impl Span {
    /// A crop of `wanted` pixels at the centre of `size` pixels, as torchvision places it.
    fn centred(size: u64, wanted: u32) -> Self {
        match u32::try_from(size) {
            Ok(size) if size < wanted => {
                Self { before: (wanted - size) / 2, first: 0, count: size }
            }
            _ => {
                let spare = size - u64::from(wanted);
                // Half of the spare pixels; of an odd number, half rounded to even.
                let half = spare / 2;
                Self { before: 0, first: half + (spare % 2) * (half % 2), count: wanted }
            }
        }
    }
}

/// The shortest decimal that `value` stands for, in double precision. Configurations state such
/// numbers in decimal (`0.8`) and Python computes with their doubles; widening the single-precision
/// bits would give `0.800000011920929`, and `floor(224 / crop_pct)` another size.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

// The cases are picture files.
#[cfg(all(test, feature = "images"))]
mod tests;
