//! Products and operations on a GPU: WGSL through wgpu (Vulkan, Metal, DX12).
//!
//! ```text
//! shader      texts of the shaders, from templates           no wgpu: feature `shaders`
//! adapters    the adapters of a machine, choosing one
//! capabilities what a device offers
//! device      an open device, its errors and waits
//! buffer      its memory
//! kernel      compiled shaders and their arguments
//! recorder    recording and submitting
//! readback    results on their way to the host
//! timer       times by the device's clock
//! matrix      weights, packed, on a device
//! rows        activations on a device, and their codes
//! descriptor  what a product is made of
//! matmul      products
//! plan        which kernel computes a product: chosen, or
//! autotune    measured
//! row_operation rows that products multiply: normalised, cut out of images, quantised
//! operations  attention, pooling, prefix tokens
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
mod descriptor;
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
mod readback;
#[cfg(feature = "gpu")]
mod recorder;
#[cfg(feature = "gpu")]
mod row_operation;
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
    descriptor::{Epilogue, MatmulDescriptor, Operand, Placement, Residual},
    device::Gpu,
    error::GpuError,
    kernel::{Access, Arguments, Kernel, KernelSource},
    matmul::Matmul,
    matrix::{Matrix, MatrixBuilder},
    operations::{Attention, Pooling, Prefix},
    plan::{Plan, UnknownPlan, Variant},
    readback::Readback,
    recorder::{Recorder, Submission},
    row_operation::{RowGroups, RowOperation},
    rows::{Quantized, QuantizedRows, Rows, row_stride},
    timer::Elapsed,
    // Devices are shared through its types.
    wgpu,
};
