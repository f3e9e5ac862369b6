//! Methods by their names on the command line, and the flags that change their defaults: the one list
//! that `quantize` and `compare` choose from.

use clap::{Args, ValueEnum};
use fresnel_runtime::cli::Failure;

use crate::algorithm::comq::ScaleRule;
use crate::algorithm::gptq::RoundingOrder;
use crate::algorithm::method::GptqOptions;
use crate::algorithm::{CalibrateOn, Method, StatisticsOptions, beacon, beacon_plus, comq};
use crate::calibration::TokenWeights;
use crate::widths::StoredWidth;

/// Ways to choose codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum MethodName {
    /// Beacon's objective from better starts, real-valued offsets, statistics that look at what the
    /// classifier reads: the most accurate
    BeaconPlus,
    /// Beacon (arXiv 2508.20293): finds each channel's scale by itself
    Beacon,
    /// GPTQ on the min-max grid
    Gptq,
    /// GPTQ on the grid whose scale Beacon finds
    GptqStar,
    /// COMQ: coordinate descent on a scale set by hand or updated
    Comq,
    /// Round to nearest on the min-max grid: needs no images
    Rtn,
}

impl MethodName {
    /// As the command line spells it.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether a flag of this name means something to the method.
    fn takes(self, flag: &str) -> bool {
        match flag {
            "--sweeps" => {
                matches!(self, Self::Beacon | Self::BeaconPlus | Self::GptqStar | Self::Comq)
            }
            "--comq-scale" => self == Self::Comq,
            "--symmetric" => matches!(self, Self::Beacon | Self::GptqStar | Self::Rtn),
            "--act-order" => matches!(self, Self::Gptq | Self::GptqStar),
            "--damping" => matches!(self, Self::Gptq | Self::GptqStar | Self::BeaconPlus),
            _ => self != Self::Rtn,
        }
    }
}

/// Settings of a method; those that are not given are the method's defaults.
#[derive(Debug, Default, Args)]
pub(super) struct MethodFlags {
    /// Refinement sweeps K; iterations of comq [default: 6; beacon-plus and comq 4]
    #[arg(long, value_name = "K")]
    sweeps: Option<u32>,
    /// Strength of error correction, from 0 (none) to 1 (the paper's) [default: 0; beacon-plus 0.25]
    #[arg(long, value_name = "A")]
    error_correction: Option<f64>,
    /// Strength of residual-stream correction, from 0 (none) to 1 [default: 0; beacon-plus 0.25]
    #[arg(long, value_name = "B")]
    stream_correction: Option<f64>,
    /// Weight of the tokens: none, class:F to count the class token F times, or fisher, by the Fisher
    /// information of each [default: none; beacon-plus fisher up to 2 bit, class:10 above]
    #[arg(long, value_name = "W")]
    token_weights: Option<TokenWeights>,
    /// GPTQ: round strong inputs first
    #[arg(long)]
    act_order: bool,
    /// Damping as a share of the mean diagonal of the Gram matrix [default: 0.01; beacon-plus 0.03]
    #[arg(long, value_name = "D")]
    damping: Option<f64>,
    /// COMQ: scale as a fixed multiple of the min-max scale, or `updated` by least squares after
    /// every iteration [default: updated]
    #[arg(long, value_name = "S")]
    comq_scale: Option<ScaleRule>,
    /// Model whose activations calibrate each layer [default: quantized]
    #[arg(long, value_enum)]
    calibrate_on: Option<CalibrateOn>,
    /// Symmetric levels instead of asymmetric ones
    #[arg(long)]
    symmetric: bool,
}

impl MethodFlags {
    /// Defaults but for the scale of COMQ, the one setting that a user has to find by hand.
    pub(super) fn with_comq_scale(comq_scale: Option<ScaleRule>) -> Self {
        Self { comq_scale, ..Self::default() }
    }

    /// The flags that are given.
    fn given(&self) -> impl Iterator<Item = &'static str> {
        [
            (self.sweeps.is_some(), "--sweeps"),
            (self.symmetric, "--symmetric"),
            (self.act_order, "--act-order"),
            (self.damping.is_some(), "--damping"),
            (self.comq_scale.is_some(), "--comq-scale"),
            (self.error_correction.is_some(), "--error-correction"),
            (self.stream_correction.is_some(), "--stream-correction"),
            (self.token_weights.is_some(), "--token-weights"),
            (self.calibrate_on.is_some(), "--calibrate-on"),
        ]
        .into_iter()
        .filter_map(|(given, flag)| given.then_some(flag))
    }

    /// The first flag that is given and means nothing to `name`; to a float model (`None`) none does.
    pub(super) fn meaningless(&self, name: Option<MethodName>) -> Option<&'static str> {
        self.given().find(|flag| name.is_none_or(|name| !name.takes(flag)))
    }

    /// The method called `name` with these settings.
    pub(super) fn method(&self, name: MethodName) -> Result<Method, Failure> {
        if let Some(damping) = self.damping.filter(|damping| !(0.0..=10.0).contains(damping)) {
            return Err(Failure::usage(format!(
                "--damping {damping}: expected a number from 0 to 10"
            )));
        }
        let mut gptq = GptqOptions::default();
        gptq.damping = self.damping.unwrap_or(gptq.damping);
        if self.act_order {
            gptq.order = RoundingOrder::DecreasingNorm;
        }
        let mut beacon =
            beacon::Options { symmetric: self.symmetric, ..beacon::Options::default() };
        beacon.sweeps = self.sweeps.unwrap_or(beacon.sweeps);
        let mut plus = beacon_plus::Options::default();
        plus.sweeps = self.sweeps.unwrap_or(plus.sweeps);
        plus.damping = self.damping.unwrap_or(plus.damping);
        let mut comq = comq::Options::default();
        comq.iterations = self.sweeps.unwrap_or(comq.iterations);
        comq.scale = self.comq_scale.unwrap_or(comq.scale);
        if comq.iterations == 0 && name == MethodName::Comq {
            return Err(Failure::usage("--sweeps 0: comq needs at least one iteration"));
        }
        Ok(match name {
            MethodName::Comq => Method::Comq(comq),
            MethodName::Rtn => Method::Rtn { symmetric: self.symmetric },
            MethodName::Gptq => Method::Gptq(gptq),
            MethodName::GptqStar => Method::GptqStar(gptq, beacon),
            MethodName::Beacon => Method::Beacon(beacon),
            MethodName::BeaconPlus => Method::BeaconPlus(plus),
        })
    }

    /// What the method's statistics are made of at `bits`, with these settings.
    pub(super) fn statistics(
        &self,
        name: MethodName,
        bits: StoredWidth,
    ) -> Result<StatisticsOptions, Failure> {
        let on_float = self.calibrate_on == Some(CalibrateOn::Float);
        let mut options = match (name, bits) {
            (MethodName::BeaconPlus, StoredWidth::Codes(width)) => {
                StatisticsOptions::for_beacon_plus(width)
            }
            _ => StatisticsOptions::default(),
        };
        if on_float {
            options.calibrate_on = CalibrateOn::Float;
            options.error_correction = 0.0;
            options.stream_correction = 0.0;
        }
        for (value, flag, option) in [
            (self.error_correction, "--error-correction", &mut options.error_correction),
            (self.stream_correction, "--stream-correction", &mut options.stream_correction),
        ] {
            let Some(value) = value else { continue };
            if !(0.0..=1.0).contains(&value) {
                return Err(Failure::usage(format!(
                    "{flag} {value}: expected a number from 0 to 1"
                )));
            }
            if on_float && value > 0.0 {
                return Err(Failure::usage(format!(
                    "--calibrate-on float with {flag} above 0: correcting errors needs the quantized model's inputs"
                )));
            }
            *option = value;
        }
        options.token_weights = self.token_weights.unwrap_or(options.token_weights);
        Ok(options)
    }
}
