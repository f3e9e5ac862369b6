//! Calibration: images through the model, layer by layer, and the statistics that solvers need.

pub mod images;
pub mod statistics;
pub mod streams;

pub use images::CalibrationImages;
pub use statistics::{Accumulator, Statistics};
