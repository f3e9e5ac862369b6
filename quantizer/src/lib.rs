//! Quantizes Vision Transformers to 1.58, 2, 3 and 4 bit: the host side of fresnel.
//!
//! ```text
//! import       timm checkpoint and config.json -> FloatModel
//! calibration  images through the model on burn tensors -> Statistics of each linear layer
//! algorithm    Statistics and weights -> codes, scales, offsets (Beacon, Beacon+, GPTQ, COMQ, round to nearest)
//! mixed        which layer gets which width, under a budget
//! pipeline     the whole model, layer after layer
//! tuning       gradient descent on the vectors around the codes
//! model_file   codes and floats -> tensors of a .fresnel file
//! compare      methods x widths on one model: tables, csv, json and a page with figures
//! report       results of eval, bench and compare as one page
//! cli          the commands of the program `fresnel`
//! ```
//!
//! Pages for readers of the paper, for users and for those who add a model family: [`guide`].
//!
//! The file format, image preprocessing and inference belong to [`fresnel_runtime`].

pub mod agreement;
pub mod algorithm;
pub mod calibration;
pub mod cli;
pub mod compare;
pub mod device;
pub mod digest;
pub mod digits;
pub mod divergence;
pub mod guide;
pub mod import;
pub mod layer_bits;
pub mod linear_algebra;
pub mod mixed;
pub mod model_file;
pub mod pipeline;
pub mod recipe;
pub mod report;
pub mod search;
pub mod size;
pub mod synth;
pub mod tuning;
pub mod vit;
pub mod widths;
