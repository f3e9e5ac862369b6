//! A Vision Transformer for handwritten digits: its data, training and files.
//!
//! The digits are the 10,000 of an MIT-licensed package of MNIST. The first 9,000
//! ([`TRAINING`]) are for training, calibration and every choice of a setting; the last 1,000
//! ([`HELD_OUT`]) are for the final evaluation and nothing else.

pub mod archive;
pub mod augmentation;
pub mod checkpoint;
mod error;
pub mod export;
pub mod training;
pub mod vision_transformer;

use std::ops::Range;

pub use archive::Digits;
pub use error::Error;

/// Digits of the archive for training, calibration and the choice of settings.
pub const TRAINING: Range<usize> = 0..9_000;
/// The end of [`TRAINING`], left out of training while settings are chosen.
pub const VALIDATION: Range<usize> = 8_000..9_000;
/// Digits of the archive for the final evaluation only.
pub const HELD_OUT: Range<usize> = 9_000..10_000;

/// Mean of the pixels of MNIST's 60,000 training digits, on the scale 0 to 1.
pub const MEAN: f32 = 0.1307;
/// Standard deviation of the same pixels.
pub const STANDARD_DEVIATION: f32 = 0.3081;
