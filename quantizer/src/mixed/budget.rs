//! What mixed precision may spend: bytes of the file, or bits per weight.

use std::fmt;
use std::str::FromStr;

use fresnel_runtime::format::CodeWidth;
use serde::Deserialize;

/// Length of a file in bytes, as the command line spells it: `12MB`, `11.5MiB`, `900000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct FileSize(pub u64);

impl FileSize {
    /// Suffixes and their bytes; the longer ones first, as `B` ends them all.
    const UNITS: [(&'static str, f64); 8] = [
        ("GiB", 1024.0 * 1024.0 * 1024.0),
        ("MiB", 1024.0 * 1024.0),
        ("KiB", 1024.0),
        ("GB", 1e9),
        ("MB", 1e6),
        ("KB", 1e3),
        ("kB", 1e3),
        ("B", 1.0),
    ];
}

impl FromStr for FileSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = Self::UNITS
            .iter()
            .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)))
            .unwrap_or((text, 1.0));
        let bytes = number.trim_end().parse::<f64>().ok().map(|number| (number * unit).floor());
        match bytes {
            // Exactly representable.
            Some(bytes) if (1.0..=9e15).contains(&bytes) => Ok(Self(bytes as u64)),
            _ => Err(format!(
                "expected a number of bytes with or without a unit (KB, MB, GB, KiB, MiB, GiB), found `{text}`"
            )),
        }
    }
}

impl TryFrom<String> for FileSize {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for FileSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.0)
    }
}

/// The most that a model may take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// Length of the finished file.
    FileSize(FileSize),
    /// Mean bits of the codes over the weights of the blocks' linear layers, see [`tenths`].
    AverageBits(f64),
}

impl fmt::Display for Budget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FileSize(size) => write!(formatter, "--target-size {size}"),
            Self::AverageBits(bits) => write!(formatter, "--average-bits {bits}"),
        }
    }
}

/// Tenths of a bit that a code takes in the file: a ternary code of 1.58 bits counts 1.6, five of
/// them making a byte.
pub fn tenths(width: CodeWidth) -> u64 {
    match width {
        CodeWidth::Ternary => 16,
        CodeWidth::Two => 20,
        CodeWidth::Three => 30,
        CodeWidth::Four => 40,
        CodeWidth::Eight => 80,
    }
}

/// Mean bits of the codes of layers given as number of weights and width.
pub fn average_bits(layers: impl IntoIterator<Item = (u64, CodeWidth)>) -> f64 {
    let (weights, spent) = layers.into_iter().fold((0, 0), |(weights, spent), (count, width)| {
        (weights + count, spent + count * tenths(width))
    });
    spent as f64 / (10 * weights.max(1)) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("12MB", 12_000_000),
            ("1.5 MiB", 1_572_864),
            ("900000", 900_000),
            ("2KB", 2000),
            ("2KiB", 2048),
            ("1GB", 1_000_000_000),
            ("17B", 17),
        ] {
            assert_eq!(text.parse(), Ok(FileSize(bytes)), "{text}");
        }
        for text in ["", "MB", "12 parsecs", "-1MB", "0", "nan", "inf", "1e30", "MBMB"] {
            let error = text.parse::<FileSize>().expect_err(text);
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }

    #[test]
    fn ternary_codes_count_what_they_take() {
        let average = average_bits([(300, CodeWidth::Ternary), (100, CodeWidth::Four)]);
        assert!((average - 2.2).abs() < 1e-12, "{average}");
        for width in [CodeWidth::Ternary, CodeWidth::Two, CodeWidth::Three, CodeWidth::Four] {
            let bits = fresnel_kernels::Width::from(width).row_bytes(1000) as u64 * 8;
            assert_eq!(bits, 100 * tenths(width), "{width:?}");
        }
    }
}
