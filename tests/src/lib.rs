//! What the whole-program tests share: fixtures, the large real data where it is at hand, devices.

pub mod browser;
pub mod programs;
pub mod python;
pub mod scratch;

use std::io::Write;
use std::path::{Path, PathBuf};

use fresnel_kernels::{Arithmetic, Isa};
use fresnel_quantizer::device::Device;

/// A file or folder of `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// The checkpoint of the digits model that the program carries.
pub fn digits_checkpoint() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../quantizer/assets/digits")
}

/// The real checkpoints and photographs that are too large or not free to lie in the repository:
/// `models/` and `images/` under `FRESNEL_SHARED`, or under `shared` beside the checkout.
///
/// Returns `None`, and says that `test` is skipped, where they are not at hand.
///
/// # Panics
/// Panics if `FRESNEL_SHARED` names a folder that is not there.
pub fn real_data(test: &str) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("FRESNEL_SHARED") {
        let folder = PathBuf::from(folder);
        assert!(folder.is_dir(), "FRESNEL_SHARED: no folder {}", folder.display());
        return Some(folder);
    }
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    if beside.join("models").is_dir() {
        return Some(beside);
    }
    say(&format!("{test}: skipped, needs real weights and photographs (set FRESNEL_SHARED)"));
    None
}

/// Numbers between -1 and 1 that look random, the same for the same `seed`.
pub fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// Every device the host has: the CPU, and the GPU (software renderers included).
///
/// # Panics
/// Panics where there is no GPU and `FRESNEL_REQUIRE_GPU` is set; without it the GPU is reported
/// as skipped.
pub fn devices(test: &str) -> Vec<Device> {
    let mut devices = vec![Device::cpu()];
    match Device::gpu(None) {
        Ok(gpu) => devices.push(gpu),
        Err(error) if std::env::var_os("FRESNEL_REQUIRE_GPU").is_some() => {
            panic!("{test}: FRESNEL_REQUIRE_GPU is set, but {error}");
        }
        Err(error) => say(&format!("{test}: GPU skipped, {error}")),
    }
    devices
}

/// Whether the host multiplies bfloat16, which the compute mode `half` needs.
///
/// Says that `test` is skipped where it does not.
pub fn multiplies_bfloat16(test: &str) -> bool {
    let found = Isa::best().supports(Arithmetic::Half);
    if !found {
        say(&format!("{test}: half skipped, {} has no products of bfloat16", Isa::best()));
    }
    found
}

/// Says that `test` is skipped, and why.
pub fn skipped(test: &str, why: &str) {
    say(&format!("{test}: skipped, {why}"));
}

/// Says something whether or not the test passes: the test runner keeps what `println!` prints of
/// passing tests to itself.
fn say(line: &str) {
    // A closed standard error must not fail a test.
    let _ = writeln!(std::io::stderr(), "{line}");
}
