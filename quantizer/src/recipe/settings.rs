//! What a user may settle about a quantization, spelled as flags or as a recipe in TOML.
//!
//! One struct is both: `--error-correction 0.25` is `error_correction = 0.25` in the recipe's table
//! `[statistics]`. Every setting is optional; what neither flag nor recipe says takes the default
//! of the method. A flag given beside a recipe overrides it.

use std::path::Path;

use clap::Args;
use fresnel_runtime::cli::Failure;
use fresnel_runtime::{DeviceChoice, input_file};
use serde::Deserialize;

use super::Recipe;
use super::method_settings::{MethodName, MethodSettings};
use super::tuning_settings::TuningSettings;
use crate::algorithm::{CalibrateOn, StatisticsOptions};
use crate::calibration::TokenWeights;
use crate::layer_bits::LayerBits;
use crate::mixed::{Budget, FileSize, MixedPrecision};
use crate::widths::StoredWidth;

/// Longest recipe.
const MAX_BYTES: u64 = 1 << 20;

/// All settings of a quantization.
#[derive(Debug, Clone, Default, PartialEq, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Table `[widths]`.
    #[command(flatten)]
    pub widths: WidthSettings,
    /// Table `[method]`.
    #[command(flatten)]
    pub method: MethodSettings,
    /// Table `[statistics]`.
    #[command(flatten)]
    pub statistics: StatisticsSettings,
    /// Table `[tuning]`.
    #[command(flatten)]
    pub tuning: TuningSettings,
    /// Table `[calibration]`.
    #[command(flatten)]
    pub calibration: CalibrationSettings,
}

/// How many bits each layer's weights take.
#[derive(Debug, Clone, Default, PartialEq, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WidthSettings {
    /// Bits per weight of the blocks' linear layers: 1.58, 2, 3, 4, 8; 16 and 32 store the float model
    #[arg(long, value_name = "BITS", conflicts_with_all = ["target_size", "average_bits"])]
    pub bits: Option<StoredWidth>,
    /// Choose each layer's bits by how much it matters, the file taking at most SIZE: 12MB, 11.5MiB
    #[arg(long, value_name = "SIZE", conflicts_with = "average_bits")]
    pub target_size: Option<FileSize>,
    /// Choose each layer's bits by how much it matters, BITS on average (1.58 counts as the stored 1.6)
    #[arg(long, value_name = "BITS")]
    pub average_bits: Option<f64>,
    /// Bits to choose from with --target-size or --average-bits [default: 1.58,2,3,4]
    #[arg(long, value_name = "BITS", value_delimiter = ',')]
    pub candidate_bits: Vec<StoredWidth>,
    /// Bits of the layers whose name matches: 'blocks.0.mlp.*=4'; of several patterns the last decides
    #[arg(long = "layer-bits", value_name = "PATTERN=BITS", value_delimiter = ',')]
    pub layers: Vec<LayerBits>,
    /// Bits of the patch embedding and the head: 8, 16 or 32 [default: 8; with --bits 16 or 32, the same]
    #[arg(long, value_name = "BITS")]
    pub edge_bits: Option<StoredWidth>,
}

/// What the method's statistics are made of.
#[derive(Debug, Clone, Default, PartialEq, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StatisticsSettings {
    /// Strength of error correction, from 0 (none) to 1 (the paper's) [default: 0; beacon-plus 0.25]
    #[arg(long, value_name = "A")]
    pub error_correction: Option<f64>,
    /// Strength of residual-stream correction, from 0 (none) to 1 [default: 0; beacon-plus 0.25]
    #[arg(long, value_name = "B")]
    pub stream_correction: Option<f64>,
    /// Weight of the tokens: none, class:F to count the class token F times, or fisher, by the Fisher
    /// information of each [default: none; beacon-plus fisher up to 2 bit, class:10 above]
    #[arg(long, value_name = "W")]
    pub token_weights: Option<TokenWeights>,
    /// Model whose activations calibrate each layer [default: quantized]
    #[arg(long, value_enum)]
    pub calibrate_on: Option<CalibrateOn>,
}

/// Which images, and where.
#[derive(Debug, Clone, Default, PartialEq, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CalibrationSettings {
    /// Number of calibration images [default: all, at most 256]
    #[arg(long = "calib-count", value_name = "N")]
    pub images: Option<usize>,
    /// Seed of the choice of calibration images [default: 0]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Where to calibrate and quantize: cpu, gpu, gpu:INDEX, gpu:NAME (see `devices`), or auto, a GPU that is no
    /// software renderer [default: auto]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceChoice>,
}

impl Settings {
    /// Reads a recipe.
    ///
    /// # Errors
    /// When the file can't be read or is not a recipe: an unknown key, a value that is none, with
    /// the line that it is in.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = input_file::read_text(path, MAX_BYTES)?;
        Self::parse(&text)
            .map_err(|message| Failure::bad_input(format!("{}: {message}", path.display())))
    }

    /// Parses a recipe's text.
    ///
    /// # Errors
    /// `line N: what is wrong`.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            format!("line {line}: {}", error.message().replace('\n', ", "))
        })
    }

    /// These settings where they say something, those of `recipe` elsewhere. A base width or a
    /// budget replaces all widths of the recipe; widths of layers are added behind the recipe's.
    #[must_use]
    pub fn over(self, recipe: Self) -> Self {
        let widths = if self.widths.names_a_base() {
            WidthSettings {
                edge_bits: self.widths.edge_bits.or(recipe.widths.edge_bits),
                ..self.widths
            }
        } else {
            let candidates = if self.widths.candidate_bits.is_empty() {
                recipe.widths.candidate_bits
            } else {
                self.widths.candidate_bits
            };
            WidthSettings {
                candidate_bits: candidates,
                layers: [recipe.widths.layers, self.widths.layers].concat(),
                edge_bits: self.widths.edge_bits.or(recipe.widths.edge_bits),
                ..recipe.widths
            }
        };
        let (statistics, otherwise) = (self.statistics, recipe.statistics);
        Self {
            widths,
            method: self.method.over(recipe.method),
            statistics: StatisticsSettings {
                error_correction: statistics.error_correction.or(otherwise.error_correction),
                stream_correction: statistics.stream_correction.or(otherwise.stream_correction),
                token_weights: statistics.token_weights.or(otherwise.token_weights),
                calibrate_on: statistics.calibrate_on.or(otherwise.calibrate_on),
            },
            tuning: self.tuning.over(recipe.tuning),
            calibration: CalibrationSettings {
                images: self.calibration.images.or(recipe.calibration.images),
                seed: self.calibration.seed.or(recipe.calibration.seed),
                device: self.calibration.device.or(recipe.calibration.device),
            },
        }
    }

    /// The recipe that the settings describe, and how it is to be completed where the widths follow
    /// from a budget.
    ///
    /// # Errors
    /// A usage error when settings contradict each other or lie outside their range.
    pub fn recipe(&self) -> Result<(Recipe, Option<MixedPrecision>), Failure> {
        let mixed = self.widths.mixed()?;
        let bits = match (self.widths.bits, &mixed) {
            (Some(bits), _) => bits,
            // Replaced by what is chosen.
            (None, Some(mixed)) => StoredWidth::Codes(mixed.narrowest()),
            (None, None) => {
                return Err(Failure::usage(
                    "how many bits? Give --bits, --target-size, --average-bits or a --recipe that says it",
                ));
            }
        };
        let float = bits.codes().is_none();
        let edge_bits = self.widths.edge(bits)?;
        if float && !self.widths.layers.is_empty() {
            return Err(Failure::usage(format!(
                "--layer-bits with --bits {bits}: a float model is stored at one width"
            )));
        }
        let asked = self.method.name.unwrap_or(MethodName::BeaconPlus);
        let name = if float { MethodName::Rtn } else { asked };
        let mut given = self.method.given().chain(self.statistics.given());
        if let Some(flag) = given.find(|flag| float || !name.takes(flag)) {
            return Err(Failure::usage(format!(
                "{flag} means nothing to --method {} at {bits} bit",
                asked.name()
            )));
        }
        let seed = self.calibration.seed.unwrap_or(0);
        let recipe = Recipe {
            bits,
            layers: self.widths.layers.clone(),
            edge_bits,
            method: self.method.method(name)?,
            statistics: self.statistics.options(name, bits)?,
            tuning: self.tuning.options(!float, seed)?,
            seed,
        };
        Ok((recipe, mixed))
    }
}

impl WidthSettings {
    /// Whether they say what the layers without a width of their own get.
    fn names_a_base(&self) -> bool {
        self.bits.is_some() || self.target_size.is_some() || self.average_bits.is_some()
    }

    fn edge(&self, bits: StoredWidth) -> Result<StoredWidth, Failure> {
        let float = bits.codes().is_none();
        let edge_bits = match self.edge_bits {
            None if float => bits,
            None => "8".parse().map_err(Failure::usage)?,
            Some(width) if matches!(width.name(), "8" | "16" | "32") => width,
            Some(width) => {
                return Err(Failure::usage(format!("--edge-bits {width}: expected 8, 16 or 32")));
            }
        };
        if float && edge_bits != bits {
            return Err(Failure::usage(format!(
                "--edge-bits {edge_bits} with --bits {bits}: a float model is stored at one width"
            )));
        }
        Ok(edge_bits)
    }

    fn mixed(&self) -> Result<Option<MixedPrecision>, Failure> {
        let budget = match (self.target_size, self.average_bits) {
            (None, None) if self.candidate_bits.is_empty() => return Ok(None),
            (None, None) => {
                return Err(Failure::usage(
                    "--candidate-bits needs --target-size or --average-bits",
                ));
            }
            (Some(_), Some(_)) => {
                return Err(Failure::usage("--target-size and --average-bits exclude each other"));
            }
            (Some(size), None) => Budget::FileSize(size),
            (None, Some(bits)) if bits > 0.0 && bits <= 8.0 => Budget::AverageBits(bits),
            (None, Some(bits)) => {
                return Err(Failure::usage(format!(
                    "--average-bits {bits}: expected a number above 0 and at most 8"
                )));
            }
        };
        if self.bits.is_some() {
            return Err(Failure::usage(format!("--bits and {budget} exclude each other")));
        }
        let codes = self.candidate_bits.iter().map(|width| {
            width.codes().ok_or_else(|| {
                Failure::usage(format!("--candidate-bits {width}: expected 1.58, 2, 3, 4 or 8"))
            })
        });
        let candidates = codes.collect::<Result<Vec<_>, _>>()?;
        Ok(Some(MixedPrecision::new(budget, &candidates)))
    }
}

impl StatisticsSettings {
    /// The flags of settings that are given.
    fn given(&self) -> impl Iterator<Item = &'static str> {
        [
            (self.error_correction.is_some(), "--error-correction"),
            (self.stream_correction.is_some(), "--stream-correction"),
            (self.token_weights.is_some(), "--token-weights"),
            (self.calibrate_on.is_some(), "--calibrate-on"),
        ]
        .into_iter()
        .filter_map(|(given, flag)| given.then_some(flag))
    }

    fn options(&self, name: MethodName, bits: StoredWidth) -> Result<StatisticsOptions, Failure> {
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
