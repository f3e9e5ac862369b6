//! Reader of the MNIST archive: a NumPy `.npz` (a zip of `.npy` arrays) with two arrays.
//!
//! | member       | dtype | shape         | meaning                                  |
//! |--------------|-------|---------------|------------------------------------------|
//! | `images.npy` | `u8`  | `[n, 28, 28]` | grey digits, 0 = background, 255 = stroke |
//! | `labels.npy` | `u8`  | `[n]`         | the digit, 0 to 9                        |
//!
//! The array header is the one of NumPy's [format specification][npy]: a magic string, a version, a
//! length and a Python dictionary literal.
//!
//! [npy]: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html

mod zip;

use std::fs;
use std::path::Path;

use super::Error;

/// Rows and columns of a digit.
pub const SIDE: usize = 28;
/// Pixels of a digit.
pub const PIXELS: usize = SIDE * SIDE;
/// Number of classes: the digits 0 to 9.
pub const CLASSES: usize = 10;

/// Largest array that is read, in bytes: the 70,000 digits of the whole of MNIST take 55 MB.
const MAX_ARRAY_BYTES: usize = 64 << 20;

/// Handwritten digits with their labels, in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digits {
    images: Vec<u8>,
    labels: Vec<u8>,
}

impl Digits {
    /// Wraps `images` (`[n, 28, 28]`, row-major) and `labels` (`[n]`).
    ///
    /// # Errors
    /// Says in words when the lengths do not match or a label is above 9.
    pub fn new(images: Vec<u8>, labels: Vec<u8>) -> Result<Self, String> {
        if labels.len().checked_mul(PIXELS) != Some(images.len()) {
            return Err(format!(
                "{} labels need {PIXELS} pixels each, found {} pixels",
                labels.len(),
                images.len()
            ));
        }
        if let Some(position) = labels.iter().position(|&label| usize::from(label) >= CLASSES) {
            return Err(format!("label {position} is {}, expected 0 to 9", labels[position]));
        }
        Ok(Self { images, labels })
    }

    /// Reads the archive at `path`.
    ///
    /// # Errors
    /// When the file cannot be read, is no `.npz`, lacks an array, or holds arrays of another type
    /// or shape than the table above.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes =
            fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::parse(&bytes).map_err(|reason| Error::content(path, reason))
    }

    /// Reads the archive at `path`, which must hold at least the digits of
    /// [`TRAINING`](super::TRAINING) and [`HELD_OUT`](super::HELD_OUT).
    ///
    /// # Errors
    /// As [`read`](Self::read), and when there are fewer digits.
    pub fn read_whole(path: &Path) -> Result<Self, Error> {
        let digits = Self::read(path)?;
        let (needed, found) = (super::HELD_OUT.end, digits.len());
        if found < needed {
            return Err(Error::content(
                path,
                format!("expected at least {needed} digits, found {found}"),
            ));
        }
        Ok(digits)
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let images = read_array(bytes, "images.npy", &[SIDE, SIDE])?;
        let labels = read_array(bytes, "labels.npy", &[])?;
        Self::new(images, labels)
    }

    /// Number of digits.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no digit at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The pixels of digit `index`, `[28, 28]` row-major.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    #[must_use]
    pub fn image(&self, index: usize) -> &[u8] {
        &self.images[index * PIXELS..(index + 1) * PIXELS]
    }

    /// The label of digit `index`, 0 to 9.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    #[must_use]
    pub fn label(&self, index: usize) -> u8 {
        self.labels[index]
    }

    /// The digits named by `indices`, in that order.
    ///
    /// # Panics
    /// If an index is not below [`len`](Self::len).
    #[must_use]
    pub fn select(&self, indices: impl IntoIterator<Item = usize>) -> Self {
        let mut selected = Self { images: Vec::new(), labels: Vec::new() };
        for index in indices {
            selected.images.extend_from_slice(self.image(index));
            selected.labels.push(self.label(index));
        }
        selected
    }

    /// All pixels, `[n, 28, 28]` row-major.
    #[must_use]
    pub fn images(&self) -> &[u8] {
        &self.images
    }

    /// All labels, `[n]`.
    #[must_use]
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }
}

/// Reads the member `name` of `archive` as `u8` array of shape `[n, inner...]`; returns its elements.
fn read_array(archive: &[u8], name: &str, inner: &[usize]) -> Result<Vec<u8>, String> {
    let bytes = zip::read_member(archive, name, MAX_ARRAY_BYTES)?;
    parse_array(&bytes, inner).map_err(|reason| format!("array {name}: {reason}"))
}

/// Parses a `.npy` file of `u8` elements in C order and shape `[n, inner...]`.
fn parse_array(bytes: &[u8], inner: &[usize]) -> Result<Vec<u8>, String> {
    let truncated = || "truncated header".to_owned();
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or("not a NumPy array: wrong first bytes")?;
    let (&[major, _minor], rest) = rest.split_first_chunk::<2>().ok_or_else(truncated)?;
    let (header_length, rest) = if major == 1 {
        let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(truncated)?;
        (usize::from(u16::from_le_bytes(*length)), rest)
    } else {
        let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(truncated)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| truncated())?;
        (length, rest)
    };
    let (header, elements) = rest.split_at_checked(header_length).ok_or_else(truncated)?;
    let header = std::str::from_utf8(header).map_err(|_| "header is not text".to_owned())?;

    let descr = header_value(header, "descr")?;
    if !descr.starts_with("'|u1'") {
        return Err(format!("expected elements of type '|u1' (u8), header says {header:?}"));
    }
    if !header_value(header, "fortran_order")?.starts_with("False") {
        return Err("expected C order, found Fortran order".to_owned());
    }
    let shape = parse_shape(header_value(header, "shape")?)
        .ok_or_else(|| format!("unreadable shape in header {header:?}"))?;
    if shape.is_empty() || shape[1..] != *inner {
        return Err(format!(
            "expected shape [n{}], found {shape:?}",
            inner.iter().map(|n| format!(", {n}")).collect::<String>()
        ));
    }
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    if count != Some(elements.len()) {
        return Err(format!("shape {shape:?} does not match {} bytes of elements", elements.len()));
    }
    Ok(elements.to_vec())
}

/// The text after `'key':` in the dictionary literal `header`.
fn header_value<'a>(header: &'a str, key: &str) -> Result<&'a str, String> {
    header
        .split_once(&format!("'{key}':"))
        .map(|(_, value)| value.trim_start())
        .ok_or_else(|| format!("header has no entry '{key}'"))
}

/// Parses a Python tuple of integers at the start of `text`: `(10000, 28, 28)` or `(10000,)`.
fn parse_shape(text: &str) -> Option<Vec<usize>> {
    let (tuple, _) = text.strip_prefix('(')?.split_once(')')?;
    tuple
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests;
