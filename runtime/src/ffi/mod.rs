//! The C interface, declared in `include/fresnel.h`.
//!
//! A thin layer over this crate's own types, with what Rust's compiler checks elsewhere done by hand:
//!
//! - `status`: every failing call returns a [`Status`] and keeps its message for the thread. No panic leaves a function;
//! - `arguments`: null pointers, lengths and alignment, before anything is read;
//! - `model`, `session`: opaque handles and what is done with them.
//!
//! The header is generated from these files (`.ci/header`), so that documentation and declarations are written once, here.
//! `EMBEDDING.md` tells how the libraries are built.

// The callers are C: what they pass is read through raw pointers.
#![allow(unsafe_code)]

mod arguments;
pub mod model;
pub mod session;
pub mod status;
#[cfg(test)]
mod tests;

use std::ffi::{CStr, c_char};

pub use model::ModelHandle;
pub use session::{ComputeMode, Options, Prediction, SessionHandle};
pub use status::Status;

/// Version of this interface. It grows when something that existed changes its meaning or goes; additions leave it.
pub const FRESNEL_ABI_VERSION: u32 = 1;

/// The interface's version that the library was built with: compare it with FRESNEL_ABI_VERSION of the header.
#[unsafe(no_mangle)]
pub extern "C" fn fresnel_abi_version() -> u32 {
    FRESNEL_ABI_VERSION
}

/// The library's own version, such as "0.1.0". The text is never freed.
#[unsafe(no_mangle)]
pub extern "C" fn fresnel_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => c"",
        };
    VERSION.as_ptr()
}
