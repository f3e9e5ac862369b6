//! The `.fresnel` file: a checked, compact container of a Vision Transformer with low-bit weights.
//!
//! A 64-byte [`header`], a [`manifest`] in postcard's encoding, then 64-byte-aligned tensor data; every
//! byte is covered by a checksum or a rule. `FORMAT.md` is the specification; it is enough to write an
//! independent reader.
//!
//! One validator serves both sides: [`writer`] refuses to write what the reader would refuse to read.
//! Reading checks everything that can be checked from header and manifest before it allocates anything for
//! the data. It then reads tensor by tensor, a piece at a time, into what becomes a
//! [`Model`](crate::Model) or a [`Container`]: beyond that it needs no more memory than
//! [`limits::MAX_READER_OVERHEAD_BYTES`]. It takes time linear in the file's length (`n log n` in the number
//! of tensors). No bytes make it panic.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        clippy::arithmetic_side_effects
    )
)]

pub mod container;
pub mod float;
pub mod header;
pub mod limits;
pub mod manifest;
pub mod size;
mod validate;
pub mod writer;

mod aligned;
mod front_matter;
pub(crate) mod reader;

#[cfg(test)]
mod tests;

pub use container::{Container, TensorView};
pub use float::encode_float;
pub use manifest::{
    CodeWidth, CropMode, Encoding, Interpolation, Manifest, Preprocessing, TensorEntry,
};
pub use size::{file_size_limit, size_bound};
pub use writer::{FileSummary, ManifestParts, TensorData, encode, write};
