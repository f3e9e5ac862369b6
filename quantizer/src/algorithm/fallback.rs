//! Round to nearest where a method leaves a larger error: no channel ends worse than without data.
//!
//! Solvers are searches, and a search can lose: at 8 bit Beacon's greedy path clips more than the
//! min-max grid rounds. The squared error of a channel is the measure for every method, since the best
//! cosine is the smallest error at the best scale.
//!
//! With `D = w^ - w` the error is `D'G D + 2 D'(G - M) w` and a constant. At 8 bit it is a hundred
//! thousandth of the layer's output, too little for f32 if it were the difference of sums of that
//! size; this form has no such difference. What it does have is rounding of the order of
//! `(sum_j |D_j| ||X~_j||)^2`, far above the error where few calibration rows let huge weights cancel
//! each other; a channel is compared by its error and that allowance.

use burn::tensor::Tensor;
use fresnel_runtime::Error;

use super::{QuantizedLinear, rtn, transpose};
use crate::calibration::Statistics;
use crate::device::{Device, read};

/// A layer after the comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// Each channel as the method or as round to nearest left it, whichever is better.
    pub linear: QuantizedLinear,
    /// Number of channels that are rounded to nearest.
    pub rounded_channels: usize,
    /// `||X_t W - X~ W^|| / ||X_t W||`.
    pub relative_error: f64,
}

/// Replaces the channels of `linear` that round to nearest on the min-max grid serves better.
///
/// `weights` are N x C row-major and `levels` and `symmetric` describe the grid. On a tie a channel is
/// replaced if it came out without any scale, as happens where all inputs are zero.
///
/// # Errors
/// Fails when the device fails.
pub fn keep_better(
    device: &Device,
    statistics: &Statistics,
    weights: &[f32],
    (levels, symmetric): (u32, bool),
    mut linear: QuantizedLinear,
) -> Result<Compared, Error> {
    let (inputs, channels) = (linear.inputs, linear.outputs);
    let nearest = rtn::quantize(weights, channels, levels, symmetric);
    let measure = Measure::new(device, statistics, weights, channels);
    let mut errors = measure.errors(&linear)?;
    let mut rounded_channels = 0;
    for (channel, rounded) in measure.errors(&nearest)?.into_iter().enumerate() {
        let (least, own) = (rounded.at_most(), errors[channel].at_most());
        if least < own || (least == own && linear.scale[channel] == 0.0) {
            errors[channel] = rounded;
            rounded_channels += 1;
            let row = channel * inputs..(channel + 1) * inputs;
            linear.codes[row.clone()].copy_from_slice(&nearest.codes[row]);
            linear.scale[channel] = nearest.scale[channel];
            linear.offset[channel] = nearest.offset[channel];
        }
    }
    let energy: f64 = statistics.target_energy(device, weights)?.iter().sum();
    let excess: f64 = errors.iter().map(|error| error.error).sum();
    let left = (excess + measure.constant(energy)?).max(0.0);
    let relative_error = if energy > 0.0 { (left / energy).sqrt() } else { 0.0 };
    Ok(Compared { linear, rounded_channels, relative_error })
}

/// One channel's squared error, less the error of the float weights themselves.
#[derive(Debug, Clone, Copy)]
struct ChannelError {
    error: f64,
    /// How far off rounding may put it.
    allowance: f64,
}

impl ChannelError {
    fn at_most(self) -> f64 {
        self.error + self.allowance
    }
}

/// Squared errors of codes.
struct Measure {
    device: Device,
    /// `G`, N x N.
    gram: Tensor<2>,
    /// `||X~_j||`, N x 1.
    norms: Tensor<2>,
    /// `W`, N x C.
    weights: Tensor<2>,
    /// `(G - M) W`, N x C; `None` where `M = G`.
    pull: Option<Tensor<2>>,
}

impl Measure {
    fn new(device: &Device, statistics: &Statistics, weights: &[f32], channels: usize) -> Self {
        let inputs = statistics.inputs();
        let upload = |values: Vec<f32>| device.matrix(values, inputs, inputs);
        let gram = statistics.gram_matrix();
        let weights = device.matrix(weights.to_vec(), inputs, channels);
        let pull = statistics.has_cross().then(|| {
            let cross = statistics.cross_matrix();
            let difference = gram.iter().zip(cross).map(|(g, m)| (g - m) as f32).collect();
            upload(difference).matmul(weights.clone())
        });
        let gram = upload(gram.iter().map(|&value| value as f32).collect());
        let norms =
            (0..inputs).map(|j| statistics.column_energy(j).max(0.0).sqrt() as f32).collect();
        let norms = device.matrix(norms, inputs, 1);
        Self { device: device.clone(), gram, norms, weights, pull }
    }

    fn errors(&self, linear: &QuantizedLinear) -> Result<Vec<ChannelError>, Error> {
        let (inputs, channels) = (linear.inputs, linear.outputs);
        let values = transpose(&linear.dequantize(), channels, inputs);
        let difference = self.device.matrix(values, inputs, channels) - self.weights.clone();
        let mut slope = self.gram.clone().matmul(difference.clone());
        if let Some(pull) = &self.pull {
            slope = slope + pull.clone() * 2.0;
        }
        let lengths = read((difference.clone().abs() * self.norms.clone()).sum_dim(0))?;
        let errors = read((difference * slope).sum_dim(0))?;
        let rounding = f64::from(f32::EPSILON);
        Ok(errors
            .iter()
            .zip(&lengths)
            .map(|(&error, &length)| ChannelError {
                error: f64::from(error),
                allowance: rounding * f64::from(length).powi(2),
            })
            .collect())
    }

    /// The error of the float weights over all channels, `||X_t W||^2 - 2 W'M W + W'G W`, given
    /// `energy`, `||X_t W||^2`.
    fn constant(&self, energy: f64) -> Result<f64, Error> {
        let Some(pull) = &self.pull else {
            return Ok(0.0);
        };
        let sum = |left: &Tensor<2>| -> Result<f64, Error> {
            let sums = read((left.clone() * self.weights.clone()).sum_dim(0))?;
            Ok(sums.into_iter().map(f64::from).sum())
        };
        let output = self.gram.clone().matmul(self.weights.clone());
        Ok(energy + 2.0 * sum(pull)? - sum(&output)?)
    }
}
