//! Programs around the fresnel crates that are worth reading but belong to neither of them.
//!
//! - `train_digits` trains the small Vision Transformer for handwritten digits that `fresnel demo`
//!   quantizes, and writes it with timm's names and configuration.
//! - `export_digits` takes the calibration and evaluation digits that lie beside it out of the MNIST
//!   archive.
//!
//! Their parts are in [`digits`].

pub mod digits;
