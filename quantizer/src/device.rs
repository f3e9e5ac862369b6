//! The device that calibration and the solvers run on, chosen at run time.
//!
//! Both devices run the same code on burn tensors: `gpu` is burn's wgpu backend (Vulkan, Metal,
//! DX12), `cpu` is burn's pure-Rust flex backend.

use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;

use burn::tensor::{Device as BurnDevice, Tensor, TensorData};
use fresnel_runtime::{Error, ErrorKind};
use rayon::prelude::*;
use serde::Deserialize;

/// Which device the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// The GPU where there is one that is not a software renderer, the CPU otherwise.
    #[default]
    Auto,
    /// burn's flex backend on the host's cores.
    Cpu,
    /// burn's wgpu backend; an error where no adapter is found.
    Gpu,
}

/// Where the blocks of coordinates are worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// burn's flex backend.
    Cpu,
    /// burn's wgpu backend.
    Gpu,
}

/// A device ready for use.
#[derive(Debug, Clone)]
pub struct Device {
    burn: BurnDevice,
    kind: DeviceKind,
    name: String,
    /// Whether it is a card, not a renderer on the host's cores.
    is_card: bool,
}

impl Device {
    /// The host's cores.
    pub fn cpu() -> Self {
        Self {
            burn: BurnDevice::flex(),
            kind: DeviceKind::Cpu,
            name: "cpu".to_owned(),
            is_card: false,
        }
    }

    /// The first GPU adapter that wgpu offers, software renderers included.
    ///
    /// # Errors
    /// Fails with [`ErrorKind::Device`] where there is no adapter or it can't be opened.
    pub fn gpu() -> Result<Self, Error> {
        // burn's wgpu runtime can be started once in a process; later callers share it.
        static GPU: OnceLock<Result<Device, String>> = OnceLock::new();
        let opened = GPU.get_or_init(|| {
            let burn = BurnDevice::wgpu_options().init().map_err(|error| error.to_string())?;
            let identity = burn.identity();
            let is_card = identity.as_ref().is_some_and(|identity| identity.physical.is_some());
            let name = identity.map_or_else(|| "gpu".to_owned(), |identity| identity.name);
            Ok(Self { burn, kind: DeviceKind::Gpu, name, is_card })
        });
        opened.clone().map_err(|reason| {
            Error::new(
                ErrorKind::Device,
                format!("no GPU can be used ({reason}); use --device cpu"),
            )
        })
    }

    /// Opens the device that was asked for.
    ///
    /// # Errors
    /// As [`Device::gpu`], when the GPU was asked for by name.
    pub fn open(choice: DeviceChoice) -> Result<Self, Error> {
        match choice {
            DeviceChoice::Cpu => Ok(Self::cpu()),
            DeviceChoice::Gpu => Self::gpu(),
            DeviceChoice::Auto => {
                Ok(Self::gpu().ok().filter(|device| device.is_card).unwrap_or_else(Self::cpu))
            }
        }
    }

    /// The burn device, for creating tensors.
    pub fn burn(&self) -> &BurnDevice {
        &self.burn
    }

    /// CPU or GPU.
    pub fn kind(&self) -> DeviceKind {
        self.kind
    }

    /// The same device, recording operations for gradients.
    pub fn autodiff(&self) -> Self {
        Self { burn: self.burn.clone().autodiff(), ..self.clone() }
    }

    /// How many pieces of work [`Device::map`] has in hand at a time.
    pub fn lanes(&self) -> usize {
        match self.kind {
            DeviceKind::Cpu => rayon::current_num_threads(),
            DeviceKind::Gpu => 1,
        }
    }

    /// Does independent pieces of work, results in order. On the CPU they run side by side: burn's
    /// flex backend computes elementwise operations on the calling thread alone, so that only whole
    /// batches keep all cores busy. A GPU takes them one after the other.
    pub fn map<T: Send>(
        &self,
        pieces: Range<usize>,
        work: impl Fn(usize) -> T + Send + Sync,
    ) -> Vec<T> {
        match self.kind {
            DeviceKind::Cpu => pieces.into_par_iter().map(work).collect(),
            DeviceKind::Gpu => pieces.map(work).collect(),
        }
    }

    /// Uploads a matrix of `rows` x `columns` row-major values.
    pub fn matrix(&self, values: Vec<f32>, rows: usize, columns: usize) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values, [rows, columns]), &self.burn)
    }

    /// Uploads a vector.
    pub fn vector(&self, values: Vec<f32>) -> Tensor<1> {
        let length = values.len();
        Tensor::from_data(TensorData::new(values, [length]), &self.burn)
    }
}

impl fmt::Display for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)
    }
}

/// Reads a tensor back to the host in row-major order.
///
/// # Errors
/// Fails with [`ErrorKind::Device`] when the device is lost or out of memory.
pub fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, Error> {
    tensor.try_into_vec_as::<f32>().map_err(|error| {
        Error::new(ErrorKind::Device, format!("reading a result from the device failed: {error}"))
    })
}
