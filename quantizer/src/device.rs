//! The device that calibration and the solvers run on, chosen at run time.
//!
//! Both devices run the same code on burn tensors: `gpu` is burn's wgpu backend (Vulkan, Metal,
//! DX12), `cpu` is burn's pure-Rust flex backend.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::{Device as BurnDevice, Tensor, TensorData};
use fresnel_runtime::{Error, ErrorKind};

/// Which device the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
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
}

impl Device {
    /// The host's cores.
    pub fn cpu() -> Self {
        Self { burn: BurnDevice::flex(), kind: DeviceKind::Cpu, name: "cpu".to_owned() }
    }

    /// The first GPU adapter that wgpu offers, software renderers included.
    ///
    /// # Errors
    /// Fails with [`ErrorKind::Device`] where there is no adapter or it can't be opened.
    pub fn gpu() -> Result<Self, Error> {
        let no_device = |reason: String| {
            Error::new(
                ErrorKind::Device,
                format!("no GPU can be used ({reason}); use --device cpu"),
            )
        };
        // Adapter discovery panics on some drivers' failures; none of it touches our state.
        let opened = catch_unwind(AssertUnwindSafe(|| BurnDevice::wgpu_options().init()));
        let burn = match opened {
            Ok(Ok(device)) => device,
            Ok(Err(error)) => return Err(no_device(error.to_string())),
            Err(panic) => return Err(no_device(panic_message(panic.as_ref()))),
        };
        let name =
            burn.identity().map_or_else(|| "gpu".to_owned(), |identity| format!("{identity:?}"));
        Ok(Self { burn, kind: DeviceKind::Gpu, name })
    }

    /// Opens the device that was asked for.
    ///
    /// # Errors
    /// As [`Device::gpu`], when the GPU was asked for by name.
    pub fn open(choice: DeviceChoice) -> Result<Self, Error> {
        match choice {
            DeviceChoice::Cpu => Ok(Self::cpu()),
            DeviceChoice::Gpu => Self::gpu(),
            DeviceChoice::Auto => Ok(Self::gpu()
                .ok()
                .filter(|device| !device.is_software())
                .unwrap_or_else(Self::cpu)),
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

    /// Whether the adapter renders on the host's cores: no gain over the CPU device.
    fn is_software(&self) -> bool {
        let name = self.name.to_lowercase();
        ["llvmpipe", "lavapipe", "swiftshader", "software"]
            .iter()
            .any(|software| name.contains(software))
    }

    /// Uploads a matrix of `rows` x `columns` row-major values.
    pub fn matrix(&self, values: Vec<f32>, rows: usize, columns: usize) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values, [rows, columns]), &self.burn)
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

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "the driver failed".to_owned())
}
