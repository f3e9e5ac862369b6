//! Fuzz targets: each a function of bytes that returns whatever the bytes are, and panics on a finding.
//!
//! | target | what it asks |
//! |---|---|
//! | [`load_bytes`] | does loading any bytes return, and do the two ways to load agree? |
//! | [`load_struct`] | the same of files that are whole but for a few changes, all checksums being right; what loads, runs |
//! | [`round_trip`] | is what is written read back, and nothing written that is refused? |
//! | [`unpack`] | are packed codes read as the specification says? |
//! | [`matmul`] | does every instruction set give the bits of the portable kernels? |
//! | [`import_safetensors`], [`config_json`] | does the importer return, and only valid models? |
//! | [`image_decode`] | does decoding and preparing a picture return? |
//!
//! `.ci/fuzz` builds the programs in `fuzz_targets/` with coverage and the address sanitizer, and runs them; `cargo fuzz run
//! TARGET` in this folder does too. `corpus/TARGET` holds the inputs that reach all that has been reached, and every input
//! that was ever a finding; ordinary tests run all of them through the same functions.
//!
//! Recipes need the rest of the quantizer, and are changed at random by its whole-program tests instead (promise 17).
//!
//! Random changes to a file die at its checksums, so that most targets build their input from the bytes instead ([`files`]).

#[path = "../../../quantizer/src/digest.rs"]
#[allow(dead_code, unreachable_pub, reason = "the importer uses a part of it")]
mod digest;
pub mod files;
mod image;
#[path = "../../../quantizer/src/import/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "the targets use a part of it")]
mod import;
mod importer;
mod load;
mod matmul;
mod round_trip;
mod unpack;

pub use image::image_decode;
pub use importer::{config_json, import_safetensors};
pub use load::{load_bytes, load_struct};
pub use matmul::matmul;
pub use round_trip::round_trip;
pub use unpack::unpack;
