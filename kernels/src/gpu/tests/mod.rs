//! Tests on a device: a card, or a renderer on the host's cores.

mod autotune;
mod device;
mod epilogue;
mod matmul;
mod operations;

use super::{Gpu, GpuError, Selector};

/// A device of its own for a test: what `FRESNEL_GPU` names, or else any. Without an adapter the test is skipped, which
/// `FRESNEL_REQUIRE_GPU=1` makes a failure.
pub(crate) fn test_gpu() -> Option<Gpu> {
    let selector = match Selector::from_env() {
        Selector::Auto => Selector::Name(String::new()),
        named => named,
    };
    match Gpu::open(&selector) {
        Ok(gpu) => Some(gpu),
        Err(GpuError::NoAdapter { .. }) if !gpu_is_required() => {
            println!("skipped: this machine has no GPU adapter");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn gpu_is_required() -> bool {
    std::env::var("FRESNEL_REQUIRE_GPU").is_ok_and(|value| value == "1")
}
