//! The adapters of a machine, and choosing one of them.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use wgpu::{Backend, Backends, DeviceType};

use super::capabilities::{Capabilities, OPTIONAL};
use super::{GpuError, Variant};

/// Lets [`Selector::Auto`] and [`Selector::Backend`] take a renderer on the host's cores.
pub const SOFTWARE_VARIABLE: &str = "FRESNEL_GPU_SOFTWARE";

/// The adapter to use if none is named.
pub const SELECTOR_VARIABLE: &str = "FRESNEL_GPU";

/// Which adapter to open.
///
/// Its text is `auto`, the index of an adapter in [`adapters`], a backend (`vulkan`, `metal` or `dx12`), or a part of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Selector {
    /// The best: a discrete card before an integrated one, that before a virtual one. A renderer on the host's cores only where
    /// [`SOFTWARE_VARIABLE`] is set to something other than `0`.
    #[default]
    Auto,
    /// The one at this place in [`adapters`].
    Index(usize),
    /// The best of one backend, as [`Selector::Auto`].
    Backend(Backend),
    /// The best of those whose name contains this, upper or lower case.
    Name(String),
}

impl Selector {
    /// What [`SELECTOR_VARIABLE`] names, or else [`Selector::Auto`].
    pub fn from_env() -> Selector {
        let text = std::env::var_os(SELECTOR_VARIABLE).unwrap_or_default();
        // A text that is not Unicode is the name of no adapter.
        text.to_string_lossy().parse().unwrap_or_else(|never: Infallible| match never {})
    }

    fn matches(&self, index: usize, adapter: &AdapterSummary, software: bool) -> bool {
        let by_itself = software || adapter.device_type != DeviceType::Cpu;
        match self {
            Selector::Auto => by_itself,
            Selector::Index(wanted) => index == *wanted,
            Selector::Backend(backend) => by_itself && adapter.backend == *backend,
            Selector::Name(part) => adapter.name.to_lowercase().contains(&part.to_lowercase()),
        }
    }
}

impl FromStr for Selector {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Selector, Infallible> {
        let text = text.trim();
        Ok(match text.to_lowercase().as_str() {
            "" | "auto" => Selector::Auto,
            "vulkan" => Selector::Backend(Backend::Vulkan),
            "metal" => Selector::Backend(Backend::Metal),
            "dx12" => Selector::Backend(Backend::Dx12),
            _ => text.parse().map_or_else(|_| Selector::Name(text.to_owned()), Selector::Index),
        })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Auto => formatter.write_str("auto"),
            Selector::Index(index) => write!(formatter, "{index}"),
            Selector::Backend(backend) => formatter.write_str(backend.to_str()),
            Selector::Name(part) => formatter.write_str(part),
        }
    }
}

/// An adapter, for lists and messages.
#[derive(Clone, Debug)]
pub struct AdapterSummary {
    /// Name of the device.
    pub name: String,
    /// The interface that it is reached by.
    pub backend: Backend,
    /// The kind of device.
    pub device_type: DeviceType,
    /// Name and version of the driver.
    pub driver: String,
    /// What it offers.
    pub capabilities: Capabilities,
}

impl AdapterSummary {
    pub(super) fn new(info: &wgpu::AdapterInfo, capabilities: Capabilities) -> AdapterSummary {
        let driver = [info.driver.trim(), info.driver_info.trim()];
        AdapterSummary {
            name: info.name.clone(),
            backend: info.backend,
            device_type: info.device_type,
            driver: driver.join(" ").trim().to_owned(),
            capabilities,
        }
    }

    fn of(adapter: &wgpu::Adapter) -> AdapterSummary {
        let capabilities = Capabilities::new(
            &adapter.get_info(),
            adapter.features() & OPTIONAL,
            adapter.limits(),
            &adapter.cooperative_matrix_properties(),
        );
        AdapterSummary::new(&adapter.get_info(), capabilities)
    }

    /// The kernels that products would use on it, best first.
    pub fn variants(&self) -> Vec<Variant> {
        Variant::offered(&self.capabilities)
    }
}

impl fmt::Display for AdapterSummary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({}, {:?})", self.name, self.backend.to_str(), self.device_type)
    }
}

/// Every adapter of this machine; the place in this list is its index for [`Selector::Index`].
pub fn adapters() -> Vec<AdapterSummary> {
    enumerate().iter().map(AdapterSummary::of).collect()
}

fn enumerate() -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    // OpenGL has too little of what kernels need.
    let backends = Backends::VULKAN | Backends::METAL | Backends::DX12;
    descriptor.backends = backends;
    // Making an instance without any backend would panic.
    if (wgpu::Instance::enabled_backend_features() & backends).is_empty() {
        return Vec::new();
    }
    pollster::block_on(wgpu::Instance::new(descriptor).enumerate_adapters(backends))
}

/// The adapter that is asked for, and what it offers.
pub(super) fn choose(selector: &Selector) -> Result<(wgpu::Adapter, AdapterSummary), GpuError> {
    let software = std::env::var(SOFTWARE_VARIABLE).is_ok_and(|value| !matches!(&*value, "" | "0"));
    let mut adapters: Vec<_> = enumerate()
        .into_iter()
        .map(|adapter| {
            let summary = AdapterSummary::of(&adapter);
            (adapter, summary)
        })
        .collect();
    let chosen = adapters
        .iter()
        .enumerate()
        .filter(|(index, (_, summary))| selector.matches(*index, summary, software))
        .min_by_key(|(_, (_, summary))| rank(summary.device_type))
        .map(|(index, _)| index);
    match chosen {
        Some(index) => Ok(adapters.swap_remove(index)),
        None => Err(GpuError::NoAdapter {
            selector: selector.to_string(),
            found: adapters.iter().map(|(_, summary)| summary.to_string()).collect(),
        }),
    }
}

/// Best first.
fn rank(device_type: DeviceType) -> u32 {
    match device_type {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    }
}
