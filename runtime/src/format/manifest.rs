//! What a file says about its model: the second part of the file, in postcard's encoding.
//!
//! postcard writes no field names: the order of fields and of enum variants here *is* the format, and
//! neither changes within a major version. Additions travel as extension records behind the manifest
//! (see `FORMAT.md`). There are no recursive types and no `usize`, and every list is capped while it is
//! being decoded, so that a small manifest cannot decode into a large value.

use std::fmt;
use std::marker::PhantomData;

use fresnel_kernels::Width;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::limits::{MAX_CLASS_NAMES, MAX_METADATA_PAIRS, MAX_PAIRS, MAX_RANK, MAX_TENSORS};
use crate::error::{Error, ErrorKind};
use crate::model::config::VitConfig;

/// Everything in a file but the tensors' data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The model's hyper-parameters; they determine the tensor set.
    pub config: VitConfig,
    /// How an image becomes the model's input.
    pub preprocessing: Preprocessing,
    /// The tensors, in the order of their data.
    #[serde(deserialize_with = "capped::<_, _, MAX_TENSORS>")]
    pub tensors: Vec<TensorEntry>,
    /// The names of the classes in the order of the outputs, or nothing.
    #[serde(deserialize_with = "capped::<_, _, MAX_CLASS_NAMES>")]
    pub class_names: Vec<String>,
    /// How the weights were quantized: key and value pairs.
    #[serde(deserialize_with = "capped::<_, _, MAX_PAIRS>")]
    pub recipe: Vec<(String, String)>,
    /// What the file was made from, such as checksums of the source and of the calibration list.
    #[serde(deserialize_with = "capped::<_, _, MAX_PAIRS>")]
    pub provenance: Vec<(String, String)>,
    /// What was measured on the finished model, such as `int8_agreement` in percent.
    #[serde(deserialize_with = "capped::<_, _, MAX_PAIRS>")]
    pub measured: Vec<(String, f64)>,
    /// Anything else the maker wants to state.
    #[serde(deserialize_with = "capped::<_, _, MAX_METADATA_PAIRS>")]
    pub metadata: Vec<(String, String)>,
}

/// Key of the recipe pair whose value is the whole recipe as TOML, as the quantizer reads it back.
pub const RECIPE_TOML: &str = "toml";

impl Manifest {
    /// The whole recipe as TOML, where the file holds it.
    pub fn recipe_toml(&self) -> Option<&str> {
        self.recipe.iter().find(|(key, _)| key == RECIPE_TOML).map(|(_, text)| text.as_str())
    }

    /// The manifest's bytes in a file.
    pub(super) fn encode(&self) -> Result<Vec<u8>, Error> {
        postcard::to_allocvec(self).map_err(|source| {
            Error::new(ErrorKind::Invalid, "cannot encode the manifest").with_source(source)
        })
    }

    /// The measured value named `key`, where the file states one.
    pub fn measured(&self, key: &str) -> Option<f64> {
        self.measured.iter().find(|(name, _)| name == key).map(|(_, value)| *value)
    }
}

/// How an image becomes the model's input: timm's evaluation transform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// Height and width after resizing and cropping; equal to the configuration's `image_size`.
    pub input_size: [u32; 2],
    /// The fraction of the resized image that the crop keeps: images are resized to
    /// `floor(input_size / crop_pct)` first.
    pub crop_pct: f32,
    /// How the crop is taken.
    pub crop_mode: CropMode,
    /// The resampling filter.
    pub interpolation: Interpolation,
    /// Mean of each channel, pixels being in 0..=1; a grey model uses the first entry.
    pub mean: [f32; 3],
    /// Standard deviation of each channel; a grey model uses the first entry.
    pub std: [f32; 3],
}

/// How the middle of an image is taken (timm: `crop_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CropMode {
    /// The shorter side is resized, keeping the aspect, and the middle is cut out.
    Center,
    /// Both sides are resized to the target, ignoring the aspect, and the middle is cut out.
    Squash,
    /// The longer side is resized, keeping the aspect, and the rest is filled with the mean colour.
    Border,
}

/// A resampling filter, as Pillow defines it (antialiased when shrinking).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Interpolation {
    /// The nearest pixel.
    Nearest,
    /// Triangle filter.
    Bilinear,
    /// Cubic convolution with a = -0.5.
    Bicubic,
    /// Windowed sinc with three lobes.
    Lanczos,
}

/// How the values of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Encoding {
    /// IEEE 754 binary32, little-endian.
    F32,
    /// IEEE 754 binary16, little-endian.
    F16,
    /// Unsigned codes `k`, packed; the value is `scale[n] * k + offset[n]` for output channel `n`, with
    /// `scale` and `offset` in the companion tensors `<name>.scale` and `<name>.offset`.
    Codes(CodeWidth),
}

/// The width of a packed code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CodeWidth {
    /// 3 levels, 5 codes per byte (1.58 bit).
    Ternary,
    /// 4 levels.
    Two,
    /// 8 levels.
    Three,
    /// 16 levels.
    Four,
    /// 256 levels.
    Eight,
}

impl From<CodeWidth> for Width {
    fn from(width: CodeWidth) -> Width {
        match width {
            CodeWidth::Ternary => Width::Ternary,
            CodeWidth::Two => Width::Two,
            CodeWidth::Three => Width::Three,
            CodeWidth::Four => Width::Four,
            CodeWidth::Eight => Width::Eight,
        }
    }
}

impl From<Width> for CodeWidth {
    fn from(width: Width) -> CodeWidth {
        match width {
            Width::Ternary => CodeWidth::Ternary,
            Width::Two => CodeWidth::Two,
            Width::Three => CodeWidth::Three,
            Width::Four => CodeWidth::Four,
            Width::Eight => CodeWidth::Eight,
        }
    }
}

/// One row of the tensor table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorEntry {
    /// The name: one that the configuration demands, or a companion's.
    pub name: String,
    /// Dimensions, outermost first; row-major. Codes have `shape[0]` rows, the rest being the columns.
    #[serde(deserialize_with = "capped::<_, _, MAX_RANK>")]
    pub shape: Vec<u32>,
    /// How the values are stored.
    pub encoding: Encoding,
    /// First byte, counted from the start of the data section; a multiple of 64.
    pub offset: u64,
    /// Length in bytes; determined by shape and encoding.
    pub length: u64,
    /// CRC-32 (IEEE) of the bytes.
    pub crc32: u32,
}

/// Decodes a list of at most `MAX` elements: a longer one is an error before it is stored.
fn capped<'de, D, T, const MAX: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Capped<T, const MAX: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Capped<T, MAX> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX} elements")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
            // The stated length is only a claim: what is stored grows with what is really there.
            let mut list = Vec::new();
            while let Some(element) = elements.next_element()? {
                if list.len() == MAX {
                    return Err(A::Error::invalid_length(MAX, &self));
                }
                list.push(element);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_seq(Capped::<T, MAX>(PhantomData))
}
