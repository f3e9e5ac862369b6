//! Products and operations on a GPU: WGSL through wgpu (Vulkan, Metal, DX12).
//!
//! ```text
//! shader      texts of the shaders, from templates           no wgpu: feature `shaders`
//! adapters    the adapters of a machine, choosing one
//! capabilities what a device offers
//! device      an open device, its errors and waits
//! buffer      its memory
//! kernel      compiled shaders and their arguments
//! recorder    recording, submitting, reading back
//! timer       times by the device's clock
//! matrix      weights, packed, on a device
//! rows        activations on a device, and their codes
//! matmul      products
//! plan        which kernel computes a product: chosen, or
//! autotune    measured
//! operations  what a Vision Transformer does between its products
//! ```
//!
//! A device may be a renderer on the host's cores: every kernel runs there as well, and is tested there.

#[cfg(feature = "gpu")]
mod adapters;
#[cfg(feature = "gpu")]
mod autotune;
#[cfg(feature = "gpu")]
mod buffer;
#[cfg(feature = "gpu")]
mod capabilities;
#[cfg(feature = "gpu")]
mod device;
#[cfg(feature = "gpu")]
mod error;
#[cfg(feature = "gpu")]
mod kernel;
#[cfg(feature = "gpu")]
mod matmul;
#[cfg(feature = "gpu")]
mod matrix;
#[cfg(feature = "gpu")]
mod operations;
#[cfg(feature = "gpu")]
mod plan;
#[cfg(feature = "gpu")]
mod recorder;
#[cfg(feature = "gpu")]
mod rows;
pub mod shader;
#[cfg(all(test, feature = "gpu"))]
mod tests;
#[cfg(feature = "gpu")]
mod timer;

#[cfg(feature = "gpu")]
pub use {
    adapters::{AdapterSummary, SELECTOR_VARIABLE, SOFTWARE_VARIABLE, Selector, adapters},
    autotune::{AUTOTUNE_VARIABLE, Autotuner, Timing},
    buffer::{Binding, Buffer},
    capabilities::Capabilities,
    device::Gpu,
    error::GpuError,
    kernel::{Access, Arguments, Kernel, KernelSource},
    matmul::{Epilogue, Matmul, MatmulDescriptor, Operand, Placement, Residual},
    matrix::{Matrix, MatrixBuilder},
    operations::{Attention, Pooling, Prefix, RowGroups, RowOperation},
    plan::{Plan, UnknownPlan, Variant},
    recorder::{Readback, Recorder, Submission},
    rows::{Quantize, Quantized, QuantizedRows, Rows, row_stride},
    timer::Elapsed,
    // Devices are shared through its types.
    wgpu,
};
