//! Runs low-bit Vision Transformers from `.fresnel` files.
//!
//! A [`Model`] is loaded once and shared; each thread of inference has a [`Session`] on it:
//!
//! ```no_run
//! use fresnel_runtime::image::Preprocessor;
//! use fresnel_runtime::{Model, Session, SessionOptions};
//!
//! # fn main() -> Result<(), fresnel_runtime::Error> {
//! let model = Model::open("model.fresnel")?;
//! let preprocessor = Preprocessor::new(model.preprocessing(), model.config().in_channels)?;
//! let mut session = Session::new(&model, SessionOptions::default())?;
//!
//! let pixels = preprocessor.load("cat.jpg")?;
//! let logits = session.run(&pixels, 1)?;
//! let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
//! println!("{:?}", best.and_then(|class| model.class_names().get(class)));
//! # Ok(())
//! # }
//! ```
//!
//! - [`format`](mod@format): the file, its reader and its writer; `FORMAT.md` is its specification;
//! - [`model`]: hyper-parameters of the Vision Transformer family, and loaded models;
//! - [`image`]: pictures to pixels, as timm and Pillow do it;
//! - [`device`]: the CPU, and GPUs with the feature `gpu`;
//! - [`session`]: running a model; [`exec`]: how that is done, and the oracle of its tests;
//! - [`evaluation`]: accuracy on labelled pictures;
//! - `cli`: the commands of the programs `fresnel-run` and `fresnel` (feature `cli`, on by default).
//!
//! Arithmetic is that of `fresnel-kernels`: packed weights of 1.58, 2, 3, 4 and 8 bit are expanded while
//! they are multiplied, with float or 8-bit activations ([`Compute`]). Weights of 16 and 32 bit run too.
//!
//! Loading any bytes and running any input returns a result or an [`Error`]; nothing panics on what
//! comes from a file, a picture or a caller's tensor.

#[cfg(feature = "cli")]
pub mod cli;
pub mod device;
pub mod error;
pub mod evaluation;
pub mod exec;
pub mod format;
pub mod image;
pub mod model;
pub mod session;

pub use device::{Device, DeviceChoice};
pub use error::{Error, ErrorKind};
pub use model::Model;
pub use session::{Compute, DeviceTiming, Session, SessionOptions};
