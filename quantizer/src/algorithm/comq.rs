//! COMQ (arXiv 2403.07134): cyclic coordinate descent on the squared error of a layer's output.
//!
//! With the scale `c` fixed, the error as a function of one weight is a parabola, so the best code of
//! one coordinate with all others held is the level nearest to its minimiser
//! `v_t + r_t / G_tt`, where `V` holds the current values (the float weights at first) and
//! `R = M W - G V` what they leave. The scale is either set by hand as a share of the min-max scale,
//! as the authors' 2-bit results are, or updated by least squares after every iteration.
//!
//! Blocks as in Beacon ([`block`]): coordinates are visited in the layer's own order, the same for
//! all channels. The authors can also sort each channel's coordinates by `|w_j| ||X~_j||`; channels
//! that visit different coordinates share no matrix product, and the error gains 1 to 5 %.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Tensor;
use fresnel_runtime::Error;
use serde::Deserialize;

use super::QuantizedLinear;
use super::alphabet::Alphabet;
use super::beacon::objective::Problem;
use super::block::{self, DescentBlock, ranges};
use crate::calibration::Statistics;
use crate::device::{Device, read};

/// Where a channel's scale comes from.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(try_from = "Spelling")]
pub enum ScaleRule {
    /// The min-max scale at first, then the best one for the codes after every iteration.
    #[default]
    Updated,
    /// This share of the min-max scale throughout.
    Fixed(f64),
}

/// What the user may choose.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Visits to every coordinate, at least 1.
    pub iterations: u32,
    /// Where the scales come from.
    pub scale: ScaleRule,
}

impl Default for Options {
    fn default() -> Self {
        Self { iterations: 4, scale: ScaleRule::Updated }
    }
}

impl fmt::Display for ScaleRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Updated => formatter.write_str("updated"),
            Self::Fixed(share) => share.fmt(formatter),
        }
    }
}

/// How a recipe spells a [`ScaleRule`].
#[derive(Deserialize)]
#[serde(untagged)]
enum Spelling {
    Share(f64),
    Name(String),
}

impl TryFrom<Spelling> for ScaleRule {
    type Error = String;

    fn try_from(spelling: Spelling) -> Result<Self, String> {
        match spelling {
            Spelling::Share(share) => share.to_string().parse(),
            Spelling::Name(name) => name.parse(),
        }
    }
}

impl FromStr for ScaleRule {
    type Err = String;

    /// Reads `updated` or a number above 0 and up to 10.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "updated" {
            return Ok(Self::Updated);
        }
        match text.parse() {
            Ok(share) if share > 0.0 && share <= 10.0 => Ok(Self::Fixed(share)),
            _ => Err("expected `updated`, or a number above 0 and at most 10".to_owned()),
        }
    }
}

/// COMQ's answer for one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// Codes `k`, N x C row-major.
    pub codes: Vec<u8>,
    /// Final scales and the zero points.
    pub alphabet: Alphabet,
}

impl Solution {
    /// The answer in the form that files store: C x N codes with scale and offset per channel.
    pub fn into_linear(self) -> QuantizedLinear {
        QuantizedLinear::on_grid(&self.codes, &self.alphabet.scale, &self.alphabet.zero)
    }
}

/// Quantizes `weights` (N x C row-major) to `levels` levels per channel.
///
/// # Errors
/// Fails with [`fresnel_runtime::ErrorKind::Invalid`] when the statistics hold values that are not
/// finite or are of another width than the weights, and with
/// [`fresnel_runtime::ErrorKind::Device`] when the device fails.
pub fn solve(
    device: &Device,
    statistics: &Statistics,
    weights: &[f32],
    levels: u32,
    options: &Options,
) -> Result<Solution, Error> {
    statistics.check(weights.len())?;
    let inputs = statistics.inputs();
    let channels = weights.len() / inputs;
    let mut alphabet = Alphabet::anchored(weights, channels, levels);
    if let ScaleRule::Fixed(share) = options.scale {
        alphabet.scale.iter_mut().for_each(|scale| *scale *= share);
    }
    let order: Vec<usize> = (0..inputs).collect();
    let problem = Problem::new(device, statistics, weights, &alphabet, &order);
    let target = problem.target();
    let row = |scales: &[f64]| {
        let narrow = scales.iter().map(|&scale| scale as f32).collect();
        device.matrix(narrow, 1, channels)
    };
    let mut scales = alphabet.scale.clone();
    let mut scale = row(&scales);
    let mut values = problem.weights.clone();
    let mut codes = Tensor::<2>::zeros([inputs, channels], device.burn());
    for _ in 0..options.iterations.max(1) {
        codes = iterate(&problem, &target, values, &scale, device)?;
        if options.scale == ScaleRule::Updated {
            let state = problem.state(codes.clone(), &target)?;
            for (scale, updated) in scales.iter_mut().zip(problem.optimal_scale(&state)?) {
                if updated > 0.0 {
                    *scale = updated;
                }
            }
            scale = row(&scales);
        }
        values = (codes.clone() - problem.zero.clone()) * scale.clone();
    }
    let codes = problem.to_layer_order(&read(codes)?);
    drop(problem);
    alphabet.scale = scales;
    Ok(Solution { codes, alphabet })
}

/// Visits every coordinate once, from `values`; returns codes, N x C.
fn iterate(
    problem: &Problem,
    target: &Tensor<2>,
    values: Tensor<2>,
    scale: &Tensor<2>,
    device: &Device,
) -> Result<Tensor<2>, Error> {
    let inputs = problem.inputs();
    let channels = problem.alphabet.channels();
    let residual = target.clone() - problem.gram.clone().matmul(values.clone());
    let mut codes = Tensor::<2>::zeros([inputs, channels], device.burn());
    let mut change = codes.clone();
    for (start, end) in ranges(inputs) {
        let length = end - start;
        let mut block_residual = residual.clone().narrow(0, start, length);
        if start > 0 {
            block_residual = block_residual
                - problem
                    .gram
                    .clone()
                    .slice([start..end, 0..start])
                    .matmul(change.clone().narrow(0, 0, start));
        }
        let before = values.clone().narrow(0, start, length);
        let decided = block::descend(
            device,
            DescentBlock {
                gram: problem.gram.clone().slice([start..end, start..end]),
                residual: block_residual,
                values: before.clone(),
                scale: scale.clone(),
                zero: problem.zero.clone(),
                levels: problem.alphabet.levels,
            },
        )?;
        let after = (decided.clone() - problem.zero.clone()) * scale.clone();
        change = change.slice_assign([start..end, 0..channels], after - before);
        codes = codes.slice_assign([start..end, 0..channels], decided);
    }
    Ok(codes)
}
