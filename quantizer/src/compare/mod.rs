//! Methods x widths on one model: the tables and figures of a quantization paper for a model of one's
//! own.
//!
//! ```text
//! mod          one row: quantize, write, run, measure
//! results      what was found, as plain data
//! layer_error  each layer's output beside the float model's
//! pictures     evaluation and calibration images kept apart
//! record       the columns of csv and json; table: the terminal
//! html         one page without scripts or external resources; charts, plot: its figures; page: its parts
//! ```
//!
//! Every row is made and measured by itself, so that one that fails does not take others with it, and
//! whatever is finished can be shown at any time.

pub mod charts;
pub mod html;
pub mod layer_error;
pub mod page;
pub mod pictures;
pub mod plot;
pub mod record;
pub mod results;
pub mod table;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fresnel_runtime::cli::results::FLOAT;
use fresnel_runtime::evaluation::LabelledPictures;
use fresnel_runtime::format::manifest::RECIPE_TOML;
use fresnel_runtime::format::{Container, encode, write};
use fresnel_runtime::{Error, Model, Session, SessionOptions};

use crate::calibration::{CalibrationImages, Prepared};
use crate::device::Device;
use crate::import::FloatModel;
use crate::recipe::{Finished, Recipe};
use crate::vit::Vit;
use results::{Figures, LayerErrors, Row};

/// What all rows of a comparison share.
#[derive(Debug)]
pub struct Comparer<'a> {
    model: &'a FloatModel,
    calibration: Option<&'a Prepared>,
    device: &'a Device,
    session: SessionOptions,
    /// Where model files are kept, and whether existing ones may be overwritten.
    keep: Option<(&'a Path, bool)>,
    /// The float model, which layer errors are measured against; only with calibration images.
    float: Option<Vit>,
}

impl<'a> Comparer<'a> {
    /// Compares recipes on `model`: calibrated with `calibration` on `device`, evaluated there too, by
    /// sessions with the options `session`.
    pub fn new(
        model: &'a FloatModel,
        calibration: Option<&'a Prepared>,
        device: &'a Device,
        session: SessionOptions,
    ) -> Self {
        let float = calibration.map(|_| Vit::load(device, model));
        Self { model, calibration, device, session, keep: None, float }
    }

    /// Keeps the model files in `folder`.
    #[must_use]
    pub fn keeping_models(mut self, folder: &'a Path, force: bool) -> Self {
        self.keep = Some((folder, force));
        self
    }

    /// A session on a model in memory, as rows are evaluated.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn session(&self, model: &Arc<Model>) -> Result<Session, Error> {
        Session::new(model, self.session)
    }

    /// The float model as the runtime runs it.
    ///
    /// # Errors
    /// Fails when the model can't be stored in float.
    pub fn float_model(&self, recipe: &Recipe) -> Result<Arc<Model>, Error> {
        let finished = recipe.run(self.model, None, self.device, self.session.threads, |_| {})?;
        let bytes = encode(&finished.parts, &finished.tensors)?;
        Model::from_bytes_on(bytes, self.device.runtime())
    }

    /// Steps of progress that [`Comparer::row`] reports for `recipe`.
    pub fn steps(&self, recipe: &Recipe, pictures: usize) -> usize {
        pictures + recipe.steps(self.model, self.images())
    }

    /// Quantizes the model with `recipe` and measures the result on `pictures`. A failure becomes
    /// part of the row.
    pub fn row(
        &self,
        recipe: &Recipe,
        pictures: &LabelledPictures,
        progress: impl FnMut(usize),
    ) -> Row {
        let mut settings = Vec::new();
        let outcome = self.measure(recipe, pictures, &mut settings, progress);
        Row {
            method: method(recipe).to_owned(),
            bits: recipe.bits,
            tuned: recipe.tuning.is_some(),
            settings,
            outcome: outcome.map_err(|error| error.to_string().replace('\n', " ")),
        }
    }

    fn measure(
        &self,
        recipe: &Recipe,
        pictures: &LabelledPictures,
        settings: &mut Vec<(String, String)>,
        mut progress: impl FnMut(usize),
    ) -> Result<Figures, Error> {
        let threads = self.session.threads;
        let calibration = self.calibration.map(Prepared::calibration);
        let finished = recipe.run(self.model, calibration, self.device, threads, &mut progress)?;
        let prepared = self.calibration.filter(|_| recipe.needs_information()).map(Prepared::time);
        let tuning = finished.tuning.as_ref().map_or(0.0, |report| report.seconds);
        let seconds = recipe.bits.codes().map(|_| {
            let prepared = prepared.unwrap_or_default().as_secs_f64();
            prepared + finished.seconds.iter().sum::<f64>() + tuning
        });
        // The same settings once more, as a text of many lines.
        let pairs = finished.parts.recipe.iter().filter(|(key, _)| key != RECIPE_TOML);
        settings.extend(pairs.cloned());
        if let Some((folder, force)) = self.keep {
            let path = folder.join(model_file(self.model, recipe));
            write(&path, force, &finished.parts, &finished.tensors)?;
        }
        let container = Container::from_bytes(encode(&finished.parts, &finished.tensors)?)?;
        let layers = self.layers(finished, &container)?;
        let file_bytes = container.file_bytes();
        let model = Model::from_container_on(&container, self.device.runtime())?;
        drop(container);
        let accuracy = pictures.evaluate(&mut self.session(&model)?, progress)?.accuracy();
        Ok(Figures { accuracy, file_bytes, seconds, layers })
    }

    fn images(&self) -> Option<&'a CalibrationImages> {
        self.calibration.map(|prepared| prepared.calibration().images)
    }

    fn layers(&self, finished: Finished, container: &Container) -> Result<Vec<LayerErrors>, Error> {
        if finished.layers.is_empty() {
            return Ok(Vec::new());
        }
        let outputs = match (&self.float, self.images()) {
            (Some(float), Some(images)) => {
                let quantized = layer_error::expanded(self.device, container)?;
                layer_error::output_errors(self.device, (float, &quantized), images)?
            }
            _ => Vec::new(),
        };
        let blocks = finished.layers.into_iter().filter(|layer| layer.name.starts_with("blocks."));
        Ok(blocks
            .map(|layer| {
                let name = layer.name.trim_end_matches(".weight").to_owned();
                let output = outputs.iter().find(|(found, _)| *found == name);
                let output_error = output.map(|(_, error)| *error);
                LayerErrors { name, output_error, error_per_sweep: layer.relative_errors }
            })
            .collect())
    }
}

/// The method's name, or [`FLOAT`] where `recipe` stores the float model.
fn method(recipe: &Recipe) -> &'static str {
    if recipe.bits.codes().is_some() { recipe.method.name() } else { FLOAT }
}

/// The name under which a row's model file is kept.
pub fn model_file(model: &FloatModel, recipe: &Recipe) -> PathBuf {
    // A name from the hub may carry any tag.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let architecture = model.config.architecture.replace(|c| !plain(c), "_");
    let tuned = if recipe.tuning.is_some() { "_tuned" } else { "" };
    let method = method(recipe);
    PathBuf::from(format!("{architecture}_{method}_{}bit{tuned}.fresnel", recipe.bits))
}

#[cfg(test)]
mod tests;
