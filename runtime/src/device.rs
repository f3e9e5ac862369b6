//! Devices: what the user asks for, and what was opened.
//!
//! A [`DeviceChoice`] is a request, as `--device` states it; opening it gives a [`Device`], onto which models are loaded
//! ([`Model::open_on`](crate::Model::open_on)). The GPU needs the feature `gpu` of this crate: without it every request for one is
//! an error that says so.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind};

/// Which device is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeviceChoice {
    /// The host's cores.
    #[default]
    Cpu,
    /// A GPU; an error where there is none.
    Gpu(AdapterChoice),
    /// The faster of both, which is measured; the CPU where there is no GPU.
    Auto,
}

/// Which of several GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum AdapterChoice {
    /// A card where there is one, whatever else is there otherwise.
    #[default]
    Any,
    /// The one of this number in the list that `devices` prints.
    Index(usize),
    /// The first whose name contains this, upper and lower case being the same.
    Name(String),
}

impl FromStr for DeviceChoice {
    type Err = Error;

    /// Reads `cpu`, `gpu`, `gpu:INDEX`, `gpu:NAME` or `auto`.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu(AdapterChoice::Any)),
            "auto" => Ok(Self::Auto),
            _ => match text.strip_prefix("gpu:").filter(|adapter| !adapter.is_empty()) {
                Some(adapter) => Ok(Self::Gpu(match adapter.parse() {
                    Ok(index) => AdapterChoice::Index(index),
                    Err(_) => AdapterChoice::Name(adapter.to_owned()),
                })),
                None => Err(Error::new(
                    ErrorKind::Input,
                    format!("expected cpu, gpu, gpu:INDEX, gpu:NAME or auto, found {text:?}"),
                )),
            },
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Auto => f.write_str("auto"),
            Self::Gpu(AdapterChoice::Any) => f.write_str("gpu"),
            Self::Gpu(AdapterChoice::Index(index)) => write!(f, "gpu:{index}"),
            Self::Gpu(AdapterChoice::Name(name)) => write!(f, "gpu:{name}"),
        }
    }
}

/// A device ready for use: cheap to clone, the clones stand for the same one.
#[derive(Clone, Debug)]
pub enum Device {
    /// The host's cores.
    Cpu,
}

impl Device {
    /// Opens the GPU that is asked for.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] in a build without the feature `gpu`, [`ErrorKind::Device`] when there is no such GPU or it
    /// can't be opened.
    pub fn gpu(_: &AdapterChoice) -> Result<Self, Error> {
        Err(Error::new(
            ErrorKind::Unsupported,
            "this build has no GPU support: build with --features gpu",
        ))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
        }
    }
}
