//! What `quantize` says when it is done: layers with widths and errors, sizes, measurements.

use std::collections::BTreeMap;
use std::path::Path;

use fresnel_runtime::cli::{Failure, Output};
use fresnel_runtime::session::{HALF_AGREEMENT, INT8_AGREEMENT};
use serde_json::{Value, json};

use crate::cli::tuning;
use crate::mixed::{LayerSensitivity, MixedPrecision};
use crate::pipeline::QuantizedLayer;
use crate::recipe::{Finished, Recipe};
use crate::search::Trial;
use crate::widths::StoredWidth;

/// A finished run.
pub(super) struct Report<'a> {
    pub(super) file: &'a Path,
    pub(super) recipe: &'a Recipe,
    pub(super) finished: &'a Finished,
    /// How widths were chosen, and from what.
    pub(super) mixed: Option<(&'a MixedPrecision, &'a [LayerSensitivity])>,
    /// What the search of constants tried.
    pub(super) trials: &'a [Trial],
    pub(super) file_bytes: u64,
    pub(super) seconds: f64,
}

impl Report<'_> {
    /// Prints the report, as JSON if asked.
    pub(super) fn print(&self, output: &Output) -> Result<(), Failure> {
        let bound = self.finished.bound_bytes();
        let average = self.recipe.average_bits(&self.finished.parts.config)?;
        if output.json() {
            return output.line(self.document(bound, average));
        }
        if let Some((mixed, sensitivities)) = self.mixed {
            print_sensitivities(output, mixed, sensitivities)?;
        }
        print_trials(output, self.trials)?;
        for layer in &self.finished.layers {
            if let Some(error) = layer.relative_errors.last() {
                output.line(format_args!(
                    "{:<28} {:>4} bit  relative error {error:.4}",
                    layer.name,
                    StoredWidth::Codes(layer.width)
                ))?;
            }
        }
        if let Some(report) = &self.finished.tuning {
            output.line(tuning::line(report))?;
        }
        for (name, value) in &self.finished.parts.measured {
            if [INT8_AGREEMENT, HALF_AGREEMENT].contains(&name.as_str()) {
                output.line(format_args!("{name} {value:.1} %"))?;
            }
        }
        output.line(format_args!(
            "{}: {average:.3} bits on average, {:.2} MB (bound {:.2} MB), {:.1} s",
            self.file.display(),
            self.file_bytes as f64 / 1e6,
            bound as f64 / 1e6,
            self.seconds
        ))
    }

    fn document(&self, bound: u64, average: f64) -> Value {
        let layer = |layer: &QuantizedLayer| {
            json!({
                "name": layer.name,
                "bits": StoredWidth::Codes(layer.width).name(),
                "relative_error": layer.relative_errors.last(),
                "relative_error_per_sweep": layer.relative_errors,
                "channels_rounded_to_nearest": layer.rounded_channels,
            })
        };
        let finished = self.finished;
        let mut document = json!({
            "file": self.file,
            "bits": self.recipe.bits.name(),
            "average_bits": average,
            "edge_bits": self.recipe.edge_bits.name(),
            "recipe": finished.parts.recipe.iter().cloned().collect::<BTreeMap<_, _>>(),
            "measured": finished.parts.measured.iter().cloned().collect::<BTreeMap<_, _>>(),
            "file_bytes": self.file_bytes,
            "bound_bytes": bound,
            "tuning": finished.tuning.as_ref().map(tuning::json),
            "seconds": self.seconds,
            "statistics_seconds": finished.seconds[0],
            "solver_seconds": finished.seconds[1],
            "layers": finished.layers.iter().map(layer).collect::<Vec<_>>(),
            "trials": self.trials.iter().map(trial_document).collect::<Vec<_>>(),
        });
        if let (Some((mixed, sensitivities)), Some(document)) =
            (self.mixed, document.as_object_mut())
        {
            document.insert("sensitivities".into(), sensitivities_document(mixed, sensitivities));
        }
        document
    }
}

fn print_trials(output: &Output, trials: &[Trial]) -> Result<(), Failure> {
    for trial in trials {
        let settings = trial.statistics.settings();
        let settings: Vec<String> =
            settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
        output.line(format_args!(
            "held-back divergence {:.4} with {}",
            trial.divergence,
            settings.join(", ")
        ))?;
    }
    Ok(())
}

fn trial_document(trial: &Trial) -> Value {
    json!({
        "statistics": trial.statistics.settings().into_iter().collect::<BTreeMap<_, _>>(),
        "divergence": trial.divergence,
    })
}

/// One row per layer, one column per candidate width.
fn print_sensitivities(
    output: &Output,
    mixed: &MixedPrecision,
    sensitivities: &[LayerSensitivity],
) -> Result<(), Failure> {
    let cells = |cells: Vec<String>| -> String {
        cells.iter().map(|cell| format!(" {cell:>10}")).collect()
    };
    let bits = mixed.candidates().iter().map(|&width| format!("{} bit", StoredWidth::Codes(width)));
    output.line(format_args!("{:<28}{}", "loss of one layer alone", cells(bits.collect())))?;
    for layer in sensitivities.iter().filter(|layer| !layer.losses.is_empty()) {
        let losses = layer.losses.iter().map(|loss| format!("{loss:.3e}"));
        output.line(format_args!("{:<28}{}", layer.name, cells(losses.collect())))?;
    }
    output.line("")
}

fn sensitivities_document(mixed: &MixedPrecision, sensitivities: &[LayerSensitivity]) -> Value {
    let losses = |layer: &LayerSensitivity| -> BTreeMap<&'static str, f64> {
        let names = mixed.candidates().iter().map(|&width| StoredWidth::Codes(width).name());
        names.zip(layer.losses.iter().copied()).collect()
    };
    sensitivities
        .iter()
        .filter(|layer| !layer.losses.is_empty())
        .map(|layer| json!({ "name": layer.name, "losses": losses(layer) }))
        .collect()
}
