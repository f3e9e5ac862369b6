//! Devices: what the user asks for, and what was opened.
//!
//! A [`DeviceChoice`] is a request, as `--device` states it. A [`Device`] is open, and models are loaded onto it
//! ([`Model::open_on`](crate::Model::open_on)). GPUs need the feature `gpu` of this crate: without it every request for one is
//! an error that says so.

use std::fmt;
use std::str::FromStr;

#[cfg(feature = "gpu")]
use fresnel_kernels::gpu::{Gpu, GpuError, Selector};

use serde::Deserialize;

use crate::error::{Error, ErrorKind};

/// Which device is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum DeviceChoice {
    /// The host's cores.
    #[default]
    Cpu,
    /// A GPU; an error where there is none. Of several, the one that the text selects: a number in the list that `devices`
    /// prints, a backend (`vulkan`, `metal`, `dx12`) or a part of a name; else the one that `FRESNEL_GPU` selects in the same
    /// way, else the best, a software renderer being the last.
    Gpu(Option<String>),
    /// The faster of both, which is measured; software renderers take no part.
    Auto,
}

impl DeviceChoice {
    /// The best GPU.
    pub const GPU: Self = Self::Gpu(None);
}

impl FromStr for DeviceChoice {
    type Err = Error;

    /// Reads `cpu`, `gpu`, `gpu:INDEX`, `gpu:NAME` or `auto`.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::GPU),
            "auto" => Ok(Self::Auto),
            _ => match text.strip_prefix("gpu:").filter(|adapter| !adapter.is_empty()) {
                Some(adapter) => Ok(Self::Gpu(Some(adapter.to_owned()))),
                None => Err(Error::new(
                    ErrorKind::Input,
                    format!("expected cpu, gpu, gpu:INDEX, gpu:NAME or auto, found {text:?}"),
                )),
            },
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu(None) => f.write_str("gpu"),
            Self::Gpu(Some(adapter)) => write!(f, "gpu:{adapter}"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

/// A device ready for use: cheap to clone, the clones stand for the same one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Device {
    /// The host's cores.
    Cpu,
    /// A GPU.
    #[cfg(feature = "gpu")]
    Gpu(Gpu),
}

impl Device {
    /// Opens the GPU that [`DeviceChoice::Gpu`] describes.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] in a build without the feature `gpu`, [`ErrorKind::Device`] when there is no such GPU or it
    /// can't be opened.
    #[cfg(feature = "gpu")]
    pub fn gpu(adapter: Option<&str>) -> Result<Self, Error> {
        let selector = match adapter {
            Some(text) => text.parse().unwrap_or_default(),
            None => Selector::from_env(),
        };
        // Any name contains the empty one, so that software renderers may be taken too.
        let selector = match selector {
            Selector::Auto => Selector::Name(String::new()),
            selector => selector,
        };
        Ok(Self::Gpu(Gpu::open(&selector)?))
    }

    /// Opens the best GPU that is not a software renderer.
    ///
    /// # Errors
    /// As [`Device::gpu`].
    #[cfg(feature = "gpu")]
    pub(crate) fn card() -> Result<Self, Error> {
        Ok(Self::Gpu(Gpu::open(&Selector::from_env())?))
    }

    /// Opens the GPU that [`DeviceChoice::Gpu`] describes.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] in a build without the feature `gpu`, [`ErrorKind::Device`] when there is no such GPU or it
    /// can't be opened.
    #[cfg(not(feature = "gpu"))]
    pub fn gpu(_: Option<&str>) -> Result<Self, Error> {
        Err(no_support())
    }

    #[cfg(not(feature = "gpu"))]
    pub(crate) fn card() -> Result<Self, Error> {
        Err(no_support())
    }

    /// `cpu` or `gpu`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            #[cfg(feature = "gpu")]
            Self::Gpu(_) => "gpu",
        }
    }
}

#[cfg(not(feature = "gpu"))]
fn no_support() -> Error {
    Error::new(ErrorKind::Unsupported, "this build has no GPU support: build with --features gpu")
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => write!(f, "{}", gpu.summary()),
        }
    }
}

#[cfg(feature = "gpu")]
impl From<GpuError> for Error {
    fn from(error: GpuError) -> Self {
        let (kind, what) = match &error {
            GpuError::Limit { .. } => (ErrorKind::Limit, "the GPU's limits are too small"),
            GpuError::Matrix(_) => (ErrorKind::Invalid, "cannot lay out the matrix"),
            GpuError::NoAdapter { .. } => (ErrorKind::Device, "no GPU can be used"),
            GpuError::OutOfMemory { .. } => (ErrorKind::Device, "the GPU's memory is too small"),
            _ => (ErrorKind::Device, "the GPU failed"),
        };
        Error::new(kind, what).with_source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::DeviceChoice;
    use crate::error::ErrorKind;

    #[test]
    fn choices_are_read_from_their_text() {
        for text in ["cpu", "gpu", "auto", "gpu:0", "gpu:vulkan", "gpu:GeForce RTX"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        for text in ["", "GPU", "gpu:", "cuda"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap_err().kind(), ErrorKind::Input);
        }
    }
}
