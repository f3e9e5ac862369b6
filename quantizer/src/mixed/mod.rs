//! Mixed precision: each layer gets the width that the model's answers are worth, under a budget
//! that is never exceeded.
//!
//! [`sensitivity`] measures what each layer loses at each candidate width, [`pooling`] takes the
//! noise out, [`allocation`] picks the best combination, and [`budget`] says what may be spent. Bytes are counted as the file will
//! have them ([`file_size_limit`](fresnel_runtime::format::file_size_limit)): codes, padding, and
//! all that is not chosen here.

pub mod allocation;
pub mod budget;
pub mod pooling;
pub mod sensitivity;

use fresnel_runtime::format::CodeWidth;
use fresnel_runtime::model::config::TensorSpec;
use fresnel_runtime::{Error, ErrorKind};

pub use budget::{Budget, FileSize, average_bits};
pub use sensitivity::{LayerSensitivity, Measurement};

use crate::calibration::{Calibration, CalibrationImages};
use crate::device::Device;
use crate::import::FloatModel;
use crate::layer_bits::named_widths;
use crate::recipe::Recipe;
use crate::size::{self, linear_weights};
use crate::widths::StoredWidth;
use allocation::{Choice, allocate, repair_order};
use pooling::pooled;

/// Images that the statistics of a measurement are of, at most.
const STATISTICS_IMAGES: usize = 64;
/// Images that losses are measured on, at most.
const PROBE_IMAGES: usize = 24;

/// How widths are chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct MixedPrecision {
    budget: Budget,
    /// Ascending, each once, at least one.
    candidates: Vec<CodeWidth>,
}

impl MixedPrecision {
    /// Chooses from `candidates`, or from 1.58, 2, 3 and 4 bits where none are named.
    pub fn new(budget: Budget, candidates: &[CodeWidth]) -> Self {
        let mut candidates = candidates.to_vec();
        if candidates.is_empty() {
            candidates =
                vec![CodeWidth::Ternary, CodeWidth::Two, CodeWidth::Three, CodeWidth::Four];
        }
        candidates.sort_by_key(|&width| budget::tenths(width));
        candidates.dedup();
        Self { budget, candidates }
    }

    /// The most that the model may take.
    pub fn budget(&self) -> Budget {
        self.budget
    }

    /// Candidate widths, ascending.
    pub fn candidates(&self) -> &[CodeWidth] {
        &self.candidates
    }

    /// The narrowest candidate.
    pub fn narrowest(&self) -> CodeWidth {
        self.candidates.first().copied().unwrap_or(CodeWidth::Ternary)
    }

    /// Measures the layers that `recipe` gives no width of their own; also returns the number of
    /// images that the losses were measured on.
    ///
    /// # Errors
    /// As [`Measurement::run`], and when there are no images.
    pub fn measure(
        &self,
        model: &FloatModel,
        recipe: &Recipe,
        calibration: Option<Calibration>,
        device: &Device,
        progress: impl FnMut(usize),
    ) -> Result<Vec<LayerSensitivity>, Error> {
        let calibration =
            calibration.filter(|given| !given.images.is_empty()).ok_or_else(|| {
                Error::new(
                    ErrorKind::Input,
                    format!(
                        "{} measures layers on calibration images: give them with --calib",
                        self.budget
                    ),
                )
            })?;
        let (images, probes) = split(calibration.images);
        let tokens = model.config.tokens() as usize;
        let information = calibration.information.map(|all| all.first(images.len(), tokens));
        let fixed = named_widths(&model.config, &recipe.layers)?;
        let measurement = Measurement {
            model,
            method: &recipe.method,
            token_weights: recipe.statistics.token_weights,
            calibration: Calibration {
                images: &images,
                information: information.as_ref(),
                cache: None,
            },
            probes: &probes,
            device,
        };
        measurement.run(&self.candidates, |name| !fixed.contains_key(name), progress)
    }

    /// `recipe` with the widths that lose least by `sensitivities` within the budget, less
    /// `reserve` bytes where the budget is the file's size.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] when the smallest possible model exceeds the budget, saying how much it
    /// takes.
    pub fn choose(
        &self,
        model: &FloatModel,
        recipe: &Recipe,
        images: usize,
        sensitivities: &[LayerSensitivity],
        reserve: u64,
    ) -> Result<Recipe, Error> {
        let specs = linear_weights(&model.config);
        let fixed = named_widths(&model.config, &recipe.layers)?;
        let free: Vec<&TensorSpec> =
            specs.iter().filter(|spec| !fixed.contains_key(&spec.name)).collect();
        let pooled = pooled(sensitivities);
        let losses = free.iter().map(|spec| self.losses(pooled.get(&*spec.name), &spec.name));
        let losses: Vec<Vec<f64>> = losses.collect::<Result<_, _>>()?;
        let cost = |spec: &TensorSpec, width| match self.budget {
            Budget::FileSize(_) => size::padded_code_bytes(spec, width),
            Budget::AverageBits(_) => size::values(spec) * budget::tenths(width),
        };
        let layers: Vec<Vec<Choice>> = free
            .iter()
            .zip(&losses)
            .map(|(spec, losses)| {
                let options = self.candidates.iter().zip(losses);
                options.map(|(&width, &loss)| Choice { cost: cost(spec, width), loss }).collect()
            })
            .collect();
        let with = |options: &[usize]| {
            let chosen = free.iter().zip(options);
            let chosen = chosen.map(|(spec, &option)| (spec.name.clone(), self.candidates[option]));
            recipe.with_widths(&model.config, &chosen.chain(fixed.clone()).collect())
        };
        let spent = |options: &[usize]| -> u64 {
            layers.iter().zip(options).map(|(layer, &option)| layer[option].cost).sum()
        };
        let narrowest = vec![0; free.len()];
        match self.budget {
            Budget::AverageBits(bits) => {
                let all: u64 = specs.iter().map(size::values).sum();
                let taken: u64 =
                    specs.iter().filter_map(|spec| Some(cost(spec, *fixed.get(&spec.name)?))).sum();
                // Half a tenth of a bit of one weight: what the decimal fraction may be off.
                let total = (bits * 10.0 * all as f64 + 0.5).floor() as u64;
                let options = total.checked_sub(taken).and_then(|budget| allocate(&layers, budget));
                options.map(|options| with(&options)).ok_or_else(|| {
                    let least = (taken + spent(&narrowest)) as f64 / (10 * all.max(1)) as f64;
                    self.too_small(&format!("the smallest possible average is {least:.3} bits"))
                })
            }
            Budget::FileSize(FileSize(target)) => {
                let size = |options: &[usize]| -> Result<u64, Error> {
                    Ok(size::planned(model, &with(options), images)?.file_bytes + reserve)
                };
                // All that is not codes: nearly, but not quite, the same whatever the widths.
                let mut rest = size(&narrowest)?.saturating_sub(spent(&narrowest));
                loop {
                    let Some(options) =
                        target.checked_sub(rest).and_then(|budget| allocate(&layers, budget))
                    else {
                        let least = size(&narrowest)?;
                        return Err(self.too_small(&format!(
                            "the smallest possible file takes {least} bytes ({:.2} MB)",
                            least as f64 / 1e6
                        )));
                    };
                    let excess = size(&options)?.saturating_sub(target);
                    if excess == 0 {
                        return Ok(with(&options));
                    }
                    rest += excess;
                }
            }
        }
    }

    /// Mean bits that the budget leaves at the most, for models whose widths are not chosen yet.
    ///
    /// # Errors
    /// As [`MixedPrecision::choose`].
    pub fn affordable_bits(
        &self,
        model: &FloatModel,
        recipe: &Recipe,
        images: usize,
    ) -> Result<f64, Error> {
        // Every weight as sensitive as any other: the budget is used up as far as widths allow.
        let even = linear_weights(&model.config).into_iter().map(|spec| {
            let weights = size::values(&spec) as f64;
            let loss = |&width: &CodeWidth| weights / budget::tenths(width) as f64;
            LayerSensitivity { name: spec.name, losses: self.candidates.iter().map(loss).collect() }
        });
        let chosen = self.choose(model, recipe, images, &even.collect::<Vec<_>>(), 0)?;
        chosen.average_bits(&model.config)
    }

    /// A layer's losses in the order of the candidates, never rising.
    fn losses(&self, pooled: Option<&Vec<f64>>, name: &str) -> Result<Vec<f64>, Error> {
        let mut losses =
            pooled.cloned().filter(|losses| losses.len() == self.candidates.len()).ok_or_else(
                || Error::new(ErrorKind::Invalid, "this layer was not measured").at_tensor(name),
            )?;
        repair_order(&mut losses);
        Ok(losses)
    }

    fn too_small(&self, least: &str) -> Error {
        Error::new(
            ErrorKind::Input,
            format!(
                "{} is too little: {least}, with {} bits wherever they are free",
                self.budget,
                StoredWidth::Codes(self.narrowest())
            ),
        )
    }
}

/// Images for the statistics and images to measure on: others, where there are enough.
fn split(images: &CalibrationImages) -> (CalibrationImages, CalibrationImages) {
    let count = images.len();
    if count < 4 {
        return (images.part(0..count), images.part(0..count));
    }
    let probes = PROBE_IMAGES.min(count / 4);
    let statistics = STATISTICS_IMAGES.min(count - probes);
    (images.part(0..statistics), images.part(count - probes..count))
}
