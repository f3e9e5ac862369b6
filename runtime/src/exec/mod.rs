//! The forward pass of the Vision Transformer family, and its oracle.
//!
//! `cpu` runs a model through the kernels of `fresnel-kernels`; `patches` has its two ends (pixels to
//! tokens, tokens to features); `auto` times float against integer arithmetic; [`profile`] tells where the
//! time of a pass goes; [`reference`](mod@reference) is a slow
//! `f64` forward that shares nothing with them.

pub(crate) mod auto;
pub(crate) mod cpu;
mod patches;
pub mod profile;
pub mod reference;
#[cfg(test)]
pub(crate) mod synthetic;
#[cfg(test)]
mod tests;

pub(crate) use patches::Sizes;
