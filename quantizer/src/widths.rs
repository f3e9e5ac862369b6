//! How many bits a weight takes in the file.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use fresnel_runtime::format::CodeWidth;
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// Width of stored weights: codes, or float.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoredWidth {
    /// Codes with a scale and an offset per output channel.
    Codes(CodeWidth),
    /// Float in 16 bits, 32 for tensors that 16 would harm.
    Float16,
    /// Float in 32 bits.
    Float32,
}

impl StoredWidth {
    /// All widths and what the command line calls them.
    const NAMES: [(Self, &'static str); 7] = [
        (Self::Codes(CodeWidth::Ternary), "1.58"),
        (Self::Codes(CodeWidth::Two), "2"),
        (Self::Codes(CodeWidth::Three), "3"),
        (Self::Codes(CodeWidth::Four), "4"),
        (Self::Codes(CodeWidth::Eight), "8"),
        (Self::Float16, "16"),
        (Self::Float32, "32"),
    ];

    /// The width as the command line spells it.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(width, _)| *width == self).map_or("", |(_, name)| name)
    }

    /// Bits per weight, as a number.
    pub fn bits(self) -> f64 {
        match self {
            Self::Codes(CodeWidth::Ternary) => 3.0_f64.log2(),
            Self::Codes(CodeWidth::Two) => 2.0,
            Self::Codes(CodeWidth::Three) => 3.0,
            Self::Codes(CodeWidth::Four) => 4.0,
            Self::Codes(CodeWidth::Eight) => 8.0,
            Self::Float16 => 16.0,
            Self::Float32 => 32.0,
        }
    }

    /// The width of the codes, or `None` for float.
    pub fn codes(self) -> Option<CodeWidth> {
        match self {
            Self::Codes(width) => Some(width),
            Self::Float16 | Self::Float32 => None,
        }
    }
}

impl fmt::Display for StoredWidth {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for StoredWidth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::NAMES
            .iter()
            .find(|(_, name)| *name == text)
            .map(|(width, _)| *width)
            .ok_or_else(|| format!("expected one of 1.58, 2, 3, 4, 8, 16, 32, found `{text}`"))
    }
}

/// From a number or a string: `1.58`, `2`, `"2"`.
impl<'de> Deserialize<'de> for StoredWidth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Width;

        impl Visitor<'_> for Width {
            type Value = StoredWidth;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a number of bits")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<StoredWidth, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, bits: i64) -> Result<StoredWidth, E> {
                self.visit_str(&bits.to_string())
            }

            fn visit_f64<E: de::Error>(self, bits: f64) -> Result<StoredWidth, E> {
                self.visit_str(&bits.to_string())
            }
        }

        deserializer.deserialize_any(Width)
    }
}

/// The width of every linear layer of the blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerWidths {
    /// Width of the layers that are not named.
    pub uniform: CodeWidth,
    /// Widths of single layers, by timm's name of the weight.
    pub named: BTreeMap<String, CodeWidth>,
}

impl LayerWidths {
    /// The same width everywhere.
    pub fn uniform(width: CodeWidth) -> Self {
        Self { uniform: width, named: BTreeMap::new() }
    }

    /// The width of the weight called `name`.
    pub fn of(&self, name: &str) -> CodeWidth {
        self.named.get(name).copied().unwrap_or(self.uniform)
    }
}
