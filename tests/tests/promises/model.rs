//! The model of these tests: small, of every width, and not in any file.

use std::sync::Arc;

use arbitrary::Unstructured;
use fresnel_fuzz::files::{parts, tensors};
use fresnel_quantizer::import::architecture::defaults;
use fresnel_runtime::format::{Encoding, TensorData, encode};
use fresnel_runtime::model::config::VitConfig;
use fresnel_runtime::{Compute, Model, Session, SessionOptions};
use half::f16;

/// What the names of codes' companions end with.
pub(crate) const COMPANIONS: [&str; 2] = [".scale", ".offset"];

/// A model of two blocks and ten tokens.
pub(crate) fn config() -> VitConfig {
    VitConfig {
        architecture: "promises".to_owned(),
        image_size: [12, 12],
        patch_size: [4, 4],
        embed_dim: 24,
        depth: 2,
        mlp_hidden: 41,
        layer_scale: true,
        num_classes: 5,
        ..defaults("deit_tiny_patch16_224").expect("a known name")
    }
}

/// Bytes that look random, the same for the same `seed`.
pub(crate) fn noise(count: usize, seed: u64) -> Vec<u8> {
    fresnel_tests::noise(count, seed).iter().map(|value| (value.to_bits() >> 5) as u8).collect()
}

/// The tensors of `config` in several encodings, floats from `values` in turn; the largest that 16 bits hold in the place of
/// larger ones.
pub(crate) fn filled(config: &VitConfig, seed: u64, values: &[f32]) -> Vec<TensorData<'static>> {
    let weights: u32 = config.tensors().iter().map(|spec| spec.shape.iter().product::<u32>()).sum();
    let bytes = noise(4 * weights as usize, seed);
    let mut values = values.iter().copied().cycle();
    let mut next = move |_: &mut Unstructured<'_>| Ok(values.next().unwrap_or_default());
    let mut tensors =
        tensors(&mut Unstructured::new(&bytes), config, &mut next).expect("enough bytes");
    for tensor in tensors.iter_mut().filter(|tensor| tensor.encoding == Encoding::F16) {
        for value in tensor.bytes.to_mut().as_chunks_mut().0 {
            let held = f16::from_le_bytes(*value).clamp(f16::MIN, f16::MAX);
            *value = held.to_le_bytes();
        }
    }
    tensors
}

/// The file of a model, another one for each `seed`.
pub(crate) fn file(config: &VitConfig, seed: u64) -> Vec<u8> {
    let values = fresnel_tests::noise(997, seed);
    encode(&parts(config.clone()), &filled(config, seed, &values)).expect("a valid model")
}

/// Pixels of `images` images.
pub(crate) fn pixels(config: &VitConfig, images: usize) -> Vec<f32> {
    let [height, width] = config.image_size;
    fresnel_tests::noise(images * (config.in_channels * height * width) as usize, 7)
}

/// A session with `threads` threads.
pub(crate) fn session(model: &Arc<Model>, compute: Compute, threads: usize) -> Session {
    let options = SessionOptions { threads, compute, ..Default::default() };
    Session::new(model, options).expect("a session")
}

/// The bits of the outputs.
pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}
