//! Calibration: images through the model, layer by layer, and the statistics that solvers need.

pub mod cache;
pub mod fisher;
pub mod images;
pub mod statistics;
pub mod stream_correction;
pub mod streams;
pub mod token_weights;

pub use cache::Cache;
pub use fisher::Information;
pub use images::CalibrationImages;
pub use statistics::{Accumulator, Batch, Products, Statistics};
pub use stream_correction::{DifferenceProducts, StreamDifference};
pub use token_weights::{LayerWeights, TokenWeights, WeightTable};

/// What a model is calibrated with.
#[derive(Debug, Clone, Copy)]
pub struct Calibration<'a> {
    /// The images.
    pub images: &'a CalibrationImages,
    /// Their tokens' Fisher information, where the token weights are made of it.
    pub information: Option<&'a Information>,
    /// Where statistics of float inputs are kept between runs.
    pub cache: Option<&'a Cache>,
}
