//! Calibration: images through the model, layer by layer, and the statistics that solvers need.

pub mod cache;
pub mod fisher;
pub mod images;
pub mod prepared;
pub mod statistics;
pub mod stream_correction;
pub mod streams;
pub mod token_weights;

pub use cache::Cache;
pub use fisher::Information;
pub use images::CalibrationImages;
pub use prepared::{Calibration, Prepared};
pub use statistics::{Accumulator, Batch, Products, Statistics};
pub use stream_correction::{DifferenceProducts, StreamDifference};
pub use token_weights::{LayerWeights, TokenWeights, WeightTable};
