//! Methods by their names, and what a user may settle about each: the recipe's table `[method]`.

use clap::{Args, ValueEnum};
use fresnel_runtime::cli::Failure;
use serde::Deserialize;

use crate::algorithm::comq::ScaleRule;
use crate::algorithm::gptq::RoundingOrder;
use crate::algorithm::method::GptqOptions;
use crate::algorithm::{Method, beacon, beacon_plus, comq};

/// Most sweeps: a recipe may come from anywhere, and must not make the program run for days.
const MAX_SWEEPS: u32 = 10_000;

/// How codes are chosen.
#[derive(Debug, Clone, Default, PartialEq, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MethodSettings {
    /// How codes are chosen [default: beacon-plus]
    #[arg(long = "method", value_enum, value_name = "METHOD")]
    pub name: Option<MethodName>,
    /// Refinement sweeps K; iterations of comq [default: 6; beacon-plus and comq 4]
    #[arg(long, value_name = "K")]
    pub sweeps: Option<u32>,
    /// GPTQ: round strong inputs first
    #[arg(long, num_args = 0, default_missing_value = "true")]
    pub act_order: Option<bool>,
    /// Damping as a share of the mean diagonal of the Gram matrix [default: 0.01; beacon-plus 0.03]
    #[arg(long, value_name = "D")]
    pub damping: Option<f64>,
    /// Symmetric levels instead of asymmetric ones
    #[arg(long, num_args = 0, default_missing_value = "true")]
    pub symmetric: Option<bool>,
    /// COMQ: scale as a fixed multiple of the min-max scale, or `updated` by least squares after
    /// every iteration [default: updated]
    #[arg(long, value_name = "S")]
    pub comq_scale: Option<ScaleRule>,
}

/// Ways to choose codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MethodName {
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
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether a flag of this name means something to the method.
    pub(super) fn takes(self, flag: &str) -> bool {
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

impl MethodSettings {
    /// These settings where they say something, those of `recipe` elsewhere.
    #[must_use]
    pub fn over(self, recipe: Self) -> Self {
        Self {
            name: self.name.or(recipe.name),
            sweeps: self.sweeps.or(recipe.sweeps),
            act_order: self.act_order.or(recipe.act_order),
            damping: self.damping.or(recipe.damping),
            symmetric: self.symmetric.or(recipe.symmetric),
            comq_scale: self.comq_scale.or(recipe.comq_scale),
        }
    }

    /// The flags of settings that are given.
    pub(super) fn given(&self) -> impl Iterator<Item = &'static str> {
        [
            (self.sweeps.is_some(), "--sweeps"),
            (self.symmetric.is_some(), "--symmetric"),
            (self.act_order.is_some(), "--act-order"),
            (self.damping.is_some(), "--damping"),
            (self.comq_scale.is_some(), "--comq-scale"),
        ]
        .into_iter()
        .filter_map(|(given, flag)| given.then_some(flag))
    }

    /// The method called `name` with these settings.
    ///
    /// # Errors
    /// A usage error when a setting lies outside its range.
    pub fn method(&self, name: MethodName) -> Result<Method, Failure> {
        if let Some(damping) = self.damping.filter(|damping| !(0.0..=10.0).contains(damping)) {
            return Err(Failure::usage(format!(
                "--damping {damping}: expected a number from 0 to 10"
            )));
        }
        if let Some(sweeps) = self.sweeps.filter(|&sweeps| sweeps > MAX_SWEEPS) {
            return Err(Failure::usage(format!(
                "--sweeps {sweeps}: expected at most {MAX_SWEEPS}"
            )));
        }
        let symmetric = self.symmetric.unwrap_or(false);
        let mut gptq = GptqOptions::default();
        gptq.damping = self.damping.unwrap_or(gptq.damping);
        if self.act_order.unwrap_or(false) {
            gptq.order = RoundingOrder::DecreasingNorm;
        }
        let mut beacon = beacon::Options { symmetric, ..beacon::Options::default() };
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
            MethodName::Rtn => Method::Rtn { symmetric },
            MethodName::Gptq => Method::Gptq(gptq),
            MethodName::GptqStar => Method::GptqStar(gptq, beacon),
            MethodName::Beacon => Method::Beacon(beacon),
            MethodName::BeaconPlus => Method::BeaconPlus(plus),
        })
    }
}
