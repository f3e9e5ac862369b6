//! The forward pass of the Vision Transformer family, and its oracle.
//!
//! `cpu` runs a model through the kernels of `fresnel-kernels` in the buffers of `arena`, `gpu` through its WGSL (feature
//! `gpu`), `executor` through the one where the weights lie; `patches` has the two ends of the pass (pixels to tokens, tokens
//! to features); `auto` times float against integer arithmetic; [`profile`] tells where the time of a pass goes;
//! [`reference`](mod@reference) is a slow `f64` forward that shares nothing with them.

mod arena;
mod auto;
mod cpu;
mod executor;
#[cfg(feature = "gpu")]
mod gpu;
mod head;
mod patches;
pub mod profile;
pub mod reference;
#[cfg(test)]
pub(crate) mod synthetic;
#[cfg(test)]
mod tests;

pub(crate) use executor::Executor;
pub(crate) use patches::Sizes;
