//! The methods by name, and one layer's way through any of them.

use fresnel_runtime::format::CodeWidth;
use fresnel_runtime::{Error, ErrorKind};
use serde::Deserialize;

use super::alphabet::Alphabet;
use super::gptq::{RoundingOrder, Solver};
use super::lanes::on_pool;
use super::{QuantizedLinear, beacon, beacon_plus, comq, fallback, rtn};
use crate::calibration::{Statistics, StreamDifference, TokenWeights};
use crate::device::Device;

/// How codes are chosen.
#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    /// Round to nearest on the min-max grid; needs no images.
    Rtn {
        /// Symmetric grid instead of the asymmetric one.
        symmetric: bool,
    },
    /// GPTQ on the min-max grid.
    Gptq(GptqOptions),
    /// GPTQ*: GPTQ on the grid whose scale Beacon found.
    GptqStar(GptqOptions, beacon::Options),
    /// COMQ on a scale set by hand or updated.
    Comq(comq::Options),
    /// The paper's method.
    Beacon(beacon::Options),
    /// Beacon's objective from better starts, with a real-valued offset.
    BeaconPlus(beacon_plus::Options),
}

/// GPTQ's choices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GptqOptions {
    /// Order of rounding.
    pub order: RoundingOrder,
    /// Damping as a share of the mean of `G`'s diagonal.
    pub damping: f64,
}

impl Default for GptqOptions {
    fn default() -> Self {
        Self { order: RoundingOrder::Natural, damping: 0.01 }
    }
}

/// Whose inputs the statistics of a layer are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CalibrateOn {
    /// The float model's: layers do not see each other's errors
    Float,
    /// The model whose earlier layers are quantized already
    #[default]
    Quantized,
}

/// What a method's statistics are made of.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StatisticsOptions {
    /// Whose inputs.
    pub calibrate_on: CalibrateOn,
    /// Strength A of error correction: 0 is none, 1 the paper's.
    pub error_correction: f64,
    /// Strength B of residual-stream correction.
    pub stream_correction: f64,
    /// How much each token counts.
    pub token_weights: TokenWeights,
}

impl StatisticsOptions {
    /// What measured best with Beacon+ on classifiers. Up to 2 bit, where errors are as large as
    /// the signal, the Fisher information of single tokens pays; above, a fixed factor on the class
    /// token does better and spares the backward pass.
    pub fn for_beacon_plus(width: CodeWidth) -> Self {
        let token_weights = match width {
            CodeWidth::Ternary | CodeWidth::Two => TokenWeights::Fisher,
            CodeWidth::Three | CodeWidth::Four | CodeWidth::Eight => TokenWeights::ClassToken(10.0),
        };
        Self {
            calibrate_on: CalibrateOn::Quantized,
            error_correction: 0.25,
            stream_correction: 0.25,
            token_weights,
        }
    }

    /// The settings by their names on the command line.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let on = match self.calibrate_on {
            CalibrateOn::Float => "float",
            CalibrateOn::Quantized => "quantized",
        };
        vec![
            ("calibrate_on", on.to_owned()),
            ("error_correction", self.error_correction.to_string()),
            ("stream_correction", self.stream_correction.to_string()),
            ("token_weights", self.token_weights.to_string()),
        ]
    }

    /// Whether a layer's statistics depend on the codes of the layers before it.
    pub fn depends_on_codes(&self) -> bool {
        self.calibrate_on == CalibrateOn::Quantized || self.needs_float_walk()
    }

    /// Whether the float model has to be walked through as well.
    pub fn needs_float_walk(&self) -> bool {
        self.error_correction > 0.0 || self.stream_correction > 0.0
    }
}

/// One layer's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Codes and grid.
    pub linear: QuantizedLinear,
    /// Relative error after each phase of the method, and after channels were rounded to nearest.
    pub relative_errors: Vec<f64>,
    /// Number of channels that round to nearest serves better than the method's codes.
    pub rounded_channels: usize,
}

impl Answer {
    /// The answer of a method that looks at no data.
    pub fn data_free(linear: QuantizedLinear) -> Self {
        Self { linear, relative_errors: Vec::new(), rounded_channels: 0 }
    }
}

/// What a layer is quantized from.
#[derive(Debug)]
pub struct Layer<'a> {
    /// Float weights, N x C row-major.
    pub weights: &'a [f32],
    /// Statistics of the inputs, not centred.
    pub statistics: &'a Statistics,
    /// What the residual stream lacks, with the strength B of its correction.
    pub stream: Option<(&'a StreamDifference, f64)>,
    /// Whether the layer has a bias that can absorb a mean.
    pub has_bias: bool,
    /// Number of levels L.
    pub levels: u32,
}

impl Method {
    /// The method's name on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Rtn { .. } => "rtn",
            Self::Gptq(..) => "gptq",
            Self::GptqStar(..) => "gptq-star",
            Self::Comq(..) => "comq",
            Self::Beacon(..) => "beacon",
            Self::BeaconPlus(..) => "beacon-plus",
        }
    }

    /// The method's settings by their names on the command line.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let gptq = |options: &GptqOptions| {
            let act_order = options.order == RoundingOrder::DecreasingNorm;
            vec![("act_order", act_order.to_string()), ("damping", options.damping.to_string())]
        };
        let beacon = |options: &beacon::Options| {
            vec![
                ("symmetric", options.symmetric.to_string()),
                ("sweeps", options.sweeps.to_string()),
            ]
        };
        match self {
            Self::Rtn { symmetric } => vec![("symmetric", symmetric.to_string())],
            Self::Gptq(options) => gptq(options),
            Self::GptqStar(options, scale) => [gptq(options), beacon(scale)].concat(),
            Self::Comq(options) => vec![
                ("sweeps", options.iterations.to_string()),
                ("comq_scale", options.scale.to_string()),
            ],
            Self::Beacon(options) => beacon(options),
            Self::BeaconPlus(options) => vec![
                ("sweeps", options.sweeps.to_string()),
                ("damping", options.damping.to_string()),
            ],
        }
    }

    /// Whether the method looks at calibration images.
    pub fn needs_calibration(&self) -> bool {
        !matches!(self, Self::Rtn { .. })
    }

    /// Whether the mean of the target goes into the bias.
    fn absorbs_mean(&self) -> bool {
        matches!(self, Self::BeaconPlus(..))
    }

    /// Whether the grid is the symmetric one.
    fn symmetric(&self) -> bool {
        match self {
            Self::Rtn { symmetric } => *symmetric,
            Self::GptqStar(_, options) | Self::Beacon(options) => options.symmetric,
            Self::Gptq(..) | Self::Comq(..) | Self::BeaconPlus(..) => false,
        }
    }

    /// Quantizes one layer. Channels that round to nearest serves better on the calibration inputs
    /// are rounded to nearest.
    ///
    /// # Errors
    /// As the method's own function, and with [`ErrorKind::Invalid`] when weights are not finite.
    pub fn solve(&self, device: &Device, layer: &Layer) -> Result<Answer, Error> {
        layer.statistics.check(layer.weights.len())?;
        let centred = if self.absorbs_mean() && layer.has_bias {
            layer.statistics.clone().centred()
        } else {
            layer.statistics.clone()
        };
        let weights: Vec<f64> = match layer.stream {
            Some((difference, strength)) => {
                difference.target_weights(layer.statistics, &centred, layer.weights, strength)?
            }
            None => layer.weights.iter().map(|&weight| f64::from(weight)).collect(),
        };
        let narrow: Vec<f32> = weights.iter().map(|&weight| weight as f32).collect();
        if !narrow.iter().all(|weight| weight.is_finite()) {
            return Err(Error::new(
                ErrorKind::Invalid,
                "weights of this layer are not finite, or its statistics ask for such weights",
            ));
        }
        let (linear, mut relative_errors) =
            on_pool(|| self.search(device, &centred, (&weights, &narrow), layer.levels))?;
        if !self.needs_calibration() {
            return Ok(Answer::data_free(linear));
        }
        let grid = (layer.levels, self.symmetric());
        let compared = fallback::keep_better(device, &centred, &narrow, grid, linear)?;
        match relative_errors.last_mut() {
            Some(last) if compared.rounded_channels > 0 => *last = compared.relative_error,
            Some(_) => {}
            None => relative_errors.push(compared.relative_error),
        }
        let (linear, rounded_channels) = (compared.linear, compared.rounded_channels);
        Ok(Answer { linear, relative_errors, rounded_channels })
    }

    /// The method's own codes, and the relative error after each phase of methods that have phases;
    /// `weights` in f64 and in f32.
    fn search(
        &self,
        device: &Device,
        statistics: &Statistics,
        (weights, narrow): (&[f64], &[f32]),
        levels: u32,
    ) -> Result<(QuantizedLinear, Vec<f64>), Error> {
        let channels = narrow.len() / statistics.inputs().max(1);
        let gptq = |options: &GptqOptions, alphabet: &Alphabet| {
            let solver = Solver::new(device, statistics, options.order, options.damping)?;
            let codes = solver.codes(narrow, alphabet)?;
            Ok::<_, Error>(QuantizedLinear::on_grid(&codes, &alphabet.scale, &alphabet.zero))
        };
        let linear = match self {
            Self::Rtn { symmetric } => rtn::quantize(narrow, channels, levels, *symmetric),
            Self::Gptq(options) => gptq(options, &Alphabet::asymmetric(narrow, channels, levels))?,
            Self::GptqStar(options, beacon) => {
                let solution = beacon::solve(device, statistics, narrow, levels, beacon)?;
                gptq(options, &Alphabet { scale: solution.scale, ..solution.alphabet })?
            }
            Self::Comq(options) => {
                comq::solve(device, statistics, narrow, levels, options)?.into_linear()
            }
            Self::Beacon(options) => {
                let solution = beacon::solve(device, statistics, narrow, levels, options)?;
                let relative_errors = solution.relative_errors();
                return Ok((solution.into_linear(), relative_errors));
            }
            Self::BeaconPlus(options) => {
                let solution = beacon_plus::solve(device, statistics, weights, levels, options)?;
                let relative_errors = solution.relative_errors.clone();
                return Ok((solution.into_linear(), relative_errors));
            }
        };
        Ok((linear, Vec::new()))
    }

    /// What to add to the layer's bias, given the dequantized weights (N x C row-major): the mean
    /// of the target less the mean of the output, `None` for methods that leave biases alone.
    pub fn bias_change(&self, layer: &Layer, quantized: &[f32]) -> Option<Vec<f32>> {
        if !(self.absorbs_mean() && layer.has_bias) {
            return None;
        }
        let (mean, target_mean) = (layer.statistics.mean(), layer.statistics.target_mean());
        let channels = quantized.len() / mean.len().max(1);
        let mut change = match layer.stream {
            Some((difference, strength)) => difference
                .mean(layer.statistics.rows())
                .into_iter()
                .map(|mean| strength * mean)
                .collect(),
            None => vec![0.0; channels],
        };
        let rows = layer.weights.chunks_exact(channels).zip(quantized.chunks_exact(channels));
        for ((weights, quantized), (mean, target)) in rows.zip(mean.iter().zip(&target_mean)) {
            for ((change, &weight), &quantized) in change.iter_mut().zip(weights).zip(quantized) {
                *change += target * f64::from(weight) - mean * f64::from(quantized);
            }
        }
        Some(change.into_iter().map(|change| change as f32).collect())
    }
}
