//! The device that calibration and the solvers run on, chosen at run time.
//!
//! Both devices run the same code on burn tensors: `gpu` is burn's wgpu backend (Vulkan, Metal,
//! DX12), `cpu` is burn's pure-Rust flex backend.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use burn::tensor::wgpu::WgpuBackend;
use burn::tensor::{Device as BurnDevice, DeviceKind as BurnKind, Tensor, TensorData};
use fresnel_kernels::gpu::wgpu::{Backend, DeviceType};
use fresnel_kernels::gpu::{Gpu, SELECTOR_VARIABLE, adapters};
use fresnel_runtime::{DeviceChoice, Error, ErrorKind};
use rayon::prelude::*;

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
    /// The same device, for the runtime.
    runtime: fresnel_runtime::Device,
}

impl Device {
    /// The host's cores.
    pub fn cpu() -> Self {
        Self {
            burn: BurnDevice::flex(),
            kind: DeviceKind::Cpu,
            name: "cpu".to_owned(),
            is_card: false,
            runtime: fresnel_runtime::Device::Cpu,
        }
    }

    /// The GPU that [`DeviceChoice::Gpu`] describes: the one named, else the one that the environment names, else the best that
    /// wgpu offers, software renderers included.
    ///
    /// # Errors
    /// Fails with [`ErrorKind::Device`] where there is no such adapter or it can't be opened.
    pub fn gpu(adapter: Option<&str>) -> Result<Self, Error> {
        // burn's wgpu runtime can be started once in a process for each adapter; later callers share it.
        static OPENED: Mutex<Option<HashMap<String, Result<Device, String>>>> = Mutex::new(None);
        let named = adapter
            .map_or_else(|| std::env::var(SELECTOR_VARIABLE).unwrap_or_default(), str::to_owned);
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = opened.get_or_insert_default().entry(named.clone());
        opened.or_insert_with(|| Self::open_gpu(&named)).clone().map_err(|reason| {
            Error::new(
                ErrorKind::Device,
                format!("no GPU can be used ({reason}); use --device cpu"),
            )
        })
    }

    /// Starts burn on an adapter, and lets the runtime share its device.
    fn open_gpu(named: &str) -> Result<Self, String> {
        let options = match named {
            "" | "auto" => BurnDevice::wgpu_options(),
            named => {
                let (kind, api) = selected(named)?;
                BurnDevice::wgpu_options().device_kind(kind).graphics_api(api)
            }
        };
        let (burn, setup) = options.init_with_setup().map_err(|error| error.to_string())?;
        let identity = burn.identity();
        let is_card = identity.as_ref().is_some_and(|identity| identity.physical.is_some());
        let name = identity.map_or_else(|| "gpu".to_owned(), |identity| identity.name);
        let matrices = setup.adapter.cooperative_matrix_properties();
        let runtime = fresnel_runtime::Device::Gpu(Gpu::wrap(setup.device, setup.queue, &matrices));
        Ok(Self { burn, kind: DeviceKind::Gpu, name, is_card, runtime })
    }

    /// Opens the device that was asked for; `auto` takes a GPU where there is one that is not a software renderer.
    ///
    /// # Errors
    /// As [`Device::gpu`], when a GPU was asked for.
    pub fn open(choice: &DeviceChoice) -> Result<Self, Error> {
        match choice {
            DeviceChoice::Cpu => Ok(Self::cpu()),
            DeviceChoice::Gpu(adapter) => Self::gpu(adapter.as_deref()),
            DeviceChoice::Auto => {
                Ok(Self::gpu(None).ok().filter(|device| device.is_card).unwrap_or_else(Self::cpu))
            }
        }
    }

    /// The same device for the runtime: models can be evaluated where they were quantized.
    pub fn runtime(&self) -> &fresnel_runtime::Device {
        &self.runtime
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

/// How burn names an adapter that is given by its index, its backend or a part of its name.
fn selected(named: &str) -> Result<(BurnKind, WgpuBackend), String> {
    let adapters = adapters();
    let lower = named.to_lowercase();
    let index = named.parse::<usize>().ok().or_else(|| {
        adapters.iter().position(|adapter| {
            adapter.backend.to_str() == lower || adapter.name.to_lowercase().contains(&lower)
        })
    });
    let Some((index, adapter)) = index.and_then(|index| Some((index, adapters.get(index)?))) else {
        let found: Vec<String> = adapters.iter().map(ToString::to_string).collect();
        return Err(format!("none is {named:?}; there are {found:?}"));
    };
    // burn counts the adapters of one kind and interface.
    let same = |other: &&fresnel_kernels::gpu::AdapterSummary| {
        other.device_type == adapter.device_type && other.backend == adapter.backend
    };
    let place = adapters[..index].iter().filter(same).count();
    let kind = match adapter.device_type {
        DeviceType::DiscreteGpu => BurnKind::DiscreteGpu(place),
        DeviceType::IntegratedGpu => BurnKind::IntegratedGpu(place),
        DeviceType::VirtualGpu => BurnKind::VirtualGpu(place),
        DeviceType::Cpu => BurnKind::Cpu,
        DeviceType::Other => BurnKind::DefaultDevice,
    };
    let api = match adapter.backend {
        Backend::Vulkan => WgpuBackend::Vulkan,
        Backend::Metal => WgpuBackend::Metal,
        Backend::Dx12 => WgpuBackend::Dx12,
        _ => WgpuBackend::Auto,
    };
    Ok((kind, api))
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
