//! Post-training quantization of one linear layer.
//!
//! Notation as in the paper (arXiv 2508.20293): `W` is N x C with one output channel per column,
//! `X` the layer's inputs in the float model and `X~` those in the partly quantised model, one row
//! per token. Solvers see the inputs only through `G = X~'X~` and `M = X~'X_t`
//! ([`crate::calibration::Statistics`]), and answer with unsigned codes `k` and, per channel, a
//! scale `c` and an offset `d` so that `w = c*k + d`.

pub mod alphabet;
pub mod beacon;
pub mod beacon_plus;
pub mod block;
pub mod comq;
pub mod fallback;
pub mod gptq;
pub mod method;
pub mod rtn;

mod lanes;
mod pieces;

use burn::tensor::Tensor;

use crate::device::Device;

pub use method::{CalibrateOn, Method, StatisticsOptions};

/// Codes and grid of one linear layer.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedLinear {
    /// Number of input features, N.
    pub inputs: usize,
    /// Number of output channels, C.
    pub outputs: usize,
    /// Unsigned codes, C x N row-major: one row per output channel, as timm lays weights out.
    pub codes: Vec<u8>,
    /// Scale `c` of each channel, finite and not negative.
    pub scale: Vec<f32>,
    /// Offset `d` of each channel.
    pub offset: Vec<f32>,
}

impl QuantizedLinear {
    /// From codes of N x C, one output channel per column, with scale and offset per channel.
    pub fn new(codes: &[u8], scale: &[f64], offset: &[f64]) -> Self {
        let outputs = scale.len();
        let inputs = codes.len() / outputs.max(1);
        let narrow = |values: &[f64]| values.iter().map(|&value| value as f32).collect();
        Self {
            inputs,
            outputs,
            codes: transpose(codes, inputs, outputs),
            scale: narrow(scale),
            offset: narrow(offset),
        }
    }

    /// As [`QuantizedLinear::new`], on a grid with zero points: `d = -c z`.
    pub fn on_grid(codes: &[u8], scale: &[f64], zero: &[f64]) -> Self {
        let offset: Vec<f64> = scale.iter().zip(zero).map(|(scale, zero)| -scale * zero).collect();
        Self::new(codes, scale, &offset)
    }

    /// The weights that the codes stand for, C x N row-major.
    pub fn dequantize(&self) -> Vec<f32> {
        self.codes
            .chunks_exact(self.inputs.max(1))
            .zip(self.scale.iter().zip(&self.offset))
            .flat_map(|(row, (&scale, &offset))| {
                row.iter().map(move |&code| scale * f32::from(code) + offset)
            })
            .collect()
    }
}

impl QuantizedLinear {
    /// The weights that the codes stand for on a device, N x C.
    pub fn on_device(&self, device: &Device) -> Tensor<2> {
        device.matrix(self.dequantize(), self.outputs, self.inputs).transpose()
    }
}

/// Transposes a `rows` x `columns` row-major matrix.
pub fn transpose<T: Copy>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    debug_assert_eq!(values.len(), rows * columns);
    (0..columns)
        .flat_map(|column| (0..rows).map(move |row| values[row * columns + column]))
        .collect()
}
