//! JPEG and PNG files to 8-bit grey or RGB pixels.
//!
//! The result is what Pillow's `Image.open(path).convert("RGB")` (or `convert("L")`) gives, which
//! is what timm feeds its models:
//!
//! - an alpha channel is dropped, not blended; a palette is looked up;
//! - of 16-bit samples the high byte is kept (for grey, this is the one departure from Pillow, which
//!   turns all above 255 into white);
//! - CMYK JPEGs are converted without a colour profile, and profiles are ignored everywhere;
//! - **EXIF orientation is not applied**: the pixels stay as they lie in the file, since Pillow and
//!   timm leave them so by default. Rotate such pictures beforehand where it matters;
//! - of an animated PNG, the default image is read.
//!
//! PNG pixels equal Pillow's. JPEG pixels differ by up to about 4 levels, because the standard leaves
//! the inverse transform and the chroma upsampling to the decoder: on average by 0.01 levels in
//! pictures of full chroma resolution, by 0.4 where chroma is stored at half resolution.
//!
//! Files are hostile input. Before anything of the picture's size is allocated, the sides, the
//! number of pixels and the plausibility of the file's length are checked ([`DecodeLimits`]); a
//! file that ends early is an error, where many decoders would return grey for the missing part.

mod structure;

use std::cell::Cell;
use std::io::{Cursor, ErrorKind as IoErrorKind};
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::path::Path;

use ::image::codecs::jpeg::JpegDecoder;
use ::image::codecs::png::PngDecoder;
use ::image::{ColorType, ImageDecoder, ImageError, Limits};

use super::{ColorMode, Image, luminance};
use crate::error::{Error, ErrorKind};
use crate::input_file;

/// Caps on what a picture file may demand.
///
/// Decoding needs at most 3 bytes per pixel for the result, 8 for a 16-bit RGBA PNG and about 9 for
/// a progressive JPEG while it is under way, besides the file itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Longest side in pixels.
    pub max_side: u32,
    /// Most pixels.
    pub max_pixels: u64,
    /// Longest file in bytes.
    pub max_file_bytes: u64,
}

impl Default for DecodeLimits {
    /// Sides of 65,535 (all that a JPEG can state), 89,478,485 pixels (where Pillow starts to warn
    /// of a decompression bomb), files of 256 MiB.
    fn default() -> Self {
        Self { max_side: 65_535, max_pixels: 89_478_485, max_file_bytes: 1 << 28 }
    }
}

/// Memory that a PNG's ancillary chunks and row buffers may take.
const PNG_SIDE_BYTES: u64 = 1 << 26;

/// The two formats that are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Jpeg,
    Png,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
        }
    }

    /// Pixels that one byte of the file can stand for at most. A JPEG spends at least one bit on
    /// each block of 64 pixels; PNG's compression gains at most 1032:1 on up to 8 pixels per byte.
    fn max_pixels_per_byte(self) -> u64 {
        match self {
            Self::Jpeg => 8 * 64,
            Self::Png => 1032 * 8,
        }
    }
}

/// Reads the picture at `path` with the default [`DecodeLimits`].
///
/// # Errors
/// All errors carry the path. [`ErrorKind::Io`] when the file cannot be read, [`ErrorKind::Image`]
/// when it is no JPEG or PNG or is damaged, [`ErrorKind::Truncated`] when it ends early,
/// [`ErrorKind::Limit`] when it is too large.
pub fn decode(path: impl AsRef<Path>, color: ColorMode) -> Result<Image, Error> {
    let path = path.as_ref();
    let limits = DecodeLimits::default();
    let bytes = input_file::read(path, limits.max_file_bytes)?;
    decode_bytes(&bytes, color, &limits).map_err(|error| error.at_path(path))
}

/// Reads a picture from the bytes of its file.
///
/// # Errors
/// As [`decode`], without a path.
pub fn decode_bytes(bytes: &[u8], color: ColorMode, limits: &DecodeLimits) -> Result<Image, Error> {
    if bytes.len() as u64 > limits.max_file_bytes {
        return Err(input_file::too_long(bytes.len() as u64, limits.max_file_bytes));
    }
    let format = sniff(bytes)?;
    // The decoders are written to return errors; should one panic, it is still only this file that
    // is lost.
    DECODING.set(true);
    let result = catch_unwind(AssertUnwindSafe(|| decode_as(format, bytes, color, limits)));
    DECODING.set(false);
    result.unwrap_or_else(|_| {
        let message = format!("the {} file is damaged: its decoder gave up", format.name());
        Err(Error::new(ErrorKind::Image, message))
    })
}

thread_local! {
    /// Whether this thread is inside a decoder.
    static DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Has a decoder's panic, which becomes an error, reported as that only. For programs: it wraps the panic hook, of which a
/// process has one.
pub fn quiet_decoders() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !DECODING.get() {
            report(panic);
        }
    }));
}

fn decode_as(
    format: Format,
    bytes: &[u8],
    color: ColorMode,
    limits: &DecodeLimits,
) -> Result<Image, Error> {
    match format {
        Format::Jpeg => {
            let decoder = JpegDecoder::new(Cursor::new(bytes))
                .map_err(|error| from_decoder(Format::Jpeg, error))?;
            check_size(Format::Jpeg, decoder.dimensions(), bytes.len(), limits)?;
            if !structure::jpeg_is_complete(bytes) {
                return Err(truncated(Format::Jpeg));
            }
            finish(Format::Jpeg, decoder, color)
        }
        Format::Png => {
            // The sides stand at a fixed place, so they are checked before the decoder starts.
            let dimensions =
                structure::png_dimensions(bytes).ok_or_else(|| truncated(Format::Png))?;
            check_size(Format::Png, dimensions, bytes.len(), limits)?;
            structure::check_png_palette(bytes)?;
            let mut memory = Limits::no_limits();
            memory.max_alloc = Some(PNG_SIDE_BYTES);
            let decoder = PngDecoder::with_limits(Cursor::new(bytes), memory)
                .map_err(|error| from_decoder(Format::Png, error))?;
            finish(Format::Png, decoder, color)
        }
    }
}

fn truncated(format: Format) -> Error {
    Error::new(
        ErrorKind::Truncated,
        format!(
            "the {} file ends before its picture does: copy or download it again",
            format.name()
        ),
    )
}

/// Recognises the format by the first bytes; the name of the file does not matter.
fn sniff(bytes: &[u8]) -> Result<Format, Error> {
    if bytes.starts_with(&[0xFF, 0xD8, 0xFF]) {
        return Ok(Format::Jpeg);
    }
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Ok(Format::Png);
    }
    let container = bytes.get(4..12);
    let found = match bytes {
        [] => "an empty file".to_owned(),
        [b'G', b'I', b'F', b'8', ..] => "a GIF".to_owned(),
        [b'B', b'M', ..] => "a BMP".to_owned(),
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => "a TIFF".to_owned(),
        [b'R', b'I', b'F', b'F', ..] if bytes.get(8..12) == Some(b"WEBP") => "a WebP".to_owned(),
        _ if container == Some(b"ftypavif") => "an AVIF".to_owned(),
        _ if container.is_some_and(|found| found.starts_with(b"ftyphei")) => "a HEIC".to_owned(),
        _ => {
            let start = &bytes[..bytes.len().min(8)];
            if start.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
                "text".to_owned()
            } else {
                format!("unknown content that starts with the bytes {start:02x?}")
            }
        }
    };
    Err(Error::new(ErrorKind::Image, format!("expected a JPEG or PNG picture, found {found}")))
}

fn check_size(
    format: Format,
    (width, height): (u32, u32),
    file_bytes: usize,
    limits: &DecodeLimits,
) -> Result<(), Error> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(Error::new(
            ErrorKind::Image,
            format!("expected at least one pixel, found a {width} x {height} picture"),
        ));
    }
    if width.max(height) > limits.max_side || pixels > limits.max_pixels {
        return Err(Error::new(
            ErrorKind::Limit,
            format!(
                "expected at most {} pixels and sides of at most {}, found a {width} x {height} \
                 picture: scale it down first",
                limits.max_pixels, limits.max_side
            ),
        ));
    }
    // Keeps a file of a few bytes from demanding memory for millions of pixels.
    if pixels > (file_bytes as u64).saturating_mul(format.max_pixels_per_byte()) {
        return Err(Error::new(
            ErrorKind::Truncated,
            format!(
                "a {} file of {file_bytes} bytes cannot hold its {width} x {height} pixels: copy \
                 or download it again",
                format.name()
            ),
        ));
    }
    Ok(())
}

/// Runs the decoder and converts its pixels.
fn finish(format: Format, decoder: impl ImageDecoder, color: ColorMode) -> Result<Image, Error> {
    let (width, height) = decoder.dimensions();
    let kind = decoder.color_type();
    let too_large = || {
        Error::new(
            ErrorKind::Limit,
            format!("a {width} x {height} picture does not fit into memory"),
        )
    };
    let length = usize::try_from(decoder.total_bytes()).map_err(|_| too_large())?;
    let mut pixels = Vec::new();
    pixels.try_reserve_exact(length).map_err(|_| too_large())?;
    pixels.resize(length, 0);
    decoder.read_image(&mut pixels).map_err(|error| from_decoder(format, error))?;
    let (native, pixels) = match kind {
        ColorType::L8 => (ColorMode::Grey, pixels),
        ColorType::Rgb8 => (ColorMode::Rgb, pixels),
        ColorType::La8 => (ColorMode::Grey, keep::<2, 1>(&pixels, |[grey, _]| [grey])),
        ColorType::Rgba8 => (ColorMode::Rgb, keep::<4, 3>(&pixels, |[r, g, b, _]| [r, g, b])),
        ColorType::L16 => (ColorMode::Grey, keep::<2, 1>(&pixels, |[a, b]| [high([a, b])])),
        ColorType::La16 => (ColorMode::Grey, keep::<4, 1>(&pixels, |[a, b, ..]| [high([a, b])])),
        ColorType::Rgb16 => (ColorMode::Rgb, keep::<6, 3>(&pixels, high_rgb)),
        ColorType::Rgba16 => (
            ColorMode::Rgb,
            keep::<8, 3>(&pixels, |[a, b, c, d, e, f, ..]| high_rgb([a, b, c, d, e, f])),
        ),
        other => {
            return Err(Error::new(
                ErrorKind::Image,
                format!("expected 8- or 16-bit grey or RGB pixels, found {other:?}"),
            ));
        }
    };
    if native == ColorMode::Rgb && color == ColorMode::Grey {
        // Same as `into_color`, without the second pass over an RGB copy.
        let grey = keep::<3, 1>(&pixels, |pixel| [luminance(pixel)]);
        return Image::new(width, height, ColorMode::Grey, grey);
    }
    Ok(Image::new(width, height, native, pixels)?.into_color(color))
}

/// Turns pixels of `FROM` bytes into pixels of `TO` bytes.
fn keep<const FROM: usize, const TO: usize>(
    pixels: &[u8],
    convert: impl Fn([u8; FROM]) -> [u8; TO],
) -> Vec<u8> {
    let (pixels, _) = pixels.as_chunks::<FROM>();
    pixels.iter().flat_map(|&pixel| convert(pixel)).collect()
}

/// The high byte of a sample in the machine's byte order.
fn high(sample: [u8; 2]) -> u8 {
    let [high, _] = u16::from_ne_bytes(sample).to_be_bytes();
    high
}

fn high_rgb([a, b, c, d, e, f]: [u8; 6]) -> [u8; 3] {
    [high([a, b]), high([c, d]), high([e, f])]
}

/// Sorts a decoder's error into the kinds of this crate.
fn from_decoder(format: Format, error: ImageError) -> Error {
    let name = format.name();
    match error {
        ImageError::IoError(error) if error.kind() == IoErrorKind::UnexpectedEof => {
            truncated(format)
        }
        ImageError::IoError(error) => Error::io(format!("cannot read the {name} file"), error),
        ImageError::Limits(error) => Error::new(
            ErrorKind::Limit,
            format!("the {name} file demands more memory than allowed"),
        )
        .with_source(error),
        ImageError::Unsupported(error) => Error::new(
            ErrorKind::Image,
            format!("the {name} file uses a feature that is not read: convert it"),
        )
        .with_source(error),
        error => {
            Error::new(ErrorKind::Image, format!("the {name} file is damaged")).with_source(error)
        }
    }
}

#[cfg(test)]
mod tests;
