//! Runs low-bit Vision Transformers from `.fresnel` files.
//!
//! A [`Model`] is loaded once and shared; each thread of inference has a [`Session`] on it:
//!
//! ```
//! use fresnel_runtime::{ColorMode, Image, Model, Session, SessionOptions};
//!
//! // Handwritten digits at 2 bit; `fresnel quantize` makes such files.
//! let model = Model::open("examples/digits_2bit.fresnel")?;
//! let mut session = Session::new(&model, SessionOptions::default())?;
//!
//! // A picture of any size, as a camera gives it: here a white stroke, drawn by hand.
//! let (width, height) = (64, 48);
//! let mut rgb = vec![0; width * height * 3];
//! for row in rgb.chunks_exact_mut(3 * width).take(40).skip(8) {
//!     row[3 * 30..3 * 34].fill(255);
//! }
//! let picture = Image::new(width as u32, height as u32, ColorMode::Rgb, rgb)?;
//!
//! let best = session.classify(&picture, 3)?[0];
//! assert_eq!(model.class_name(best.class), Some("1"));
//! assert!(best.probability > 0.5);
//! # Ok::<(), fresnel_runtime::Error>(())
//! ```
//!
//! What is prepared elsewhere goes in as numbers, and logits come out:
//!
//! ```
//! # use fresnel_runtime::{Model, Session, SessionOptions};
//! # let model = Model::open("examples/digits_2bit.fresnel")?;
//! # let mut session = Session::new(&model, SessionOptions::default())?;
//! let batch = 2;
//! let pixels = vec![0.0; batch * model.input_shape().iter().product::<usize>()];
//! let logits = session.run(&pixels, batch)?;
//! assert_eq!(logits.len(), batch * model.output_len());
//! # Ok::<(), fresnel_runtime::Error>(())
//! ```
//!
//! The [guide](embedding) shows the rest: cancelling, progress, memory, small builds, and the same from C and Python.
//!
//! Arithmetic is that of `fresnel-kernels`: packed weights of 1.58, 2, 3, 4 and 8 bit are expanded while
//! they are multiplied, with float or 8-bit activations ([`Compute`]). Weights of 16 and 32 bit run too.
//!
//! Loading any bytes and running any input returns a result or an [`Error`]; nothing panics on what
//! comes from a file, a picture or a caller's tensor.

mod cancel;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "images")]
pub mod csv;
pub mod device;
pub mod embedding;
mod error;
#[cfg(feature = "images")]
pub mod evaluation;
pub mod exec;
#[cfg(feature = "ffi")]
pub mod ffi;
pub mod format;
pub mod image;
pub mod input_file;
pub mod model;
pub mod new_file;
mod prediction;
mod printable;
pub mod session;

pub use cancel::CancelFlag;
pub use device::{Device, DeviceChoice};
pub use error::{Error, ErrorKind};
pub use image::{ColorMode, Image, Preprocessor};
pub use model::Model;
pub use prediction::Prediction;
pub use session::{Compute, DeviceTiming, Session, SessionOptions};

/// The front page's example compiles.
#[cfg(all(doctest, feature = "images"))]
#[doc = include_str!("../../README.md")]
struct FrontPage;
