//! `quantize --dry-run`: the layers, their widths and sizes, without images and without a file.

use std::collections::BTreeMap;

use fresnel_runtime::cli::{Failure, Output};
use fresnel_runtime::model::config::{Role, TensorSpec};
use serde_json::{Value, json};

use crate::calibration::images::DEFAULT_COUNT;
use crate::cli::tuning;
use crate::import::FloatModel;
use crate::layer_bits::named_widths;
use crate::mixed::MixedPrecision;
use crate::recipe::{Recipe, Settings};
use crate::size::{PlannedFile, planned, weight_bytes};
use crate::widths::StoredWidth;

/// Prints what `recipe` would make of `model`. With `mixed`, widths follow from measurements that a
/// dry run does not make: then the layers' own widths, where they have some, and the mean that the
/// budget allows are shown.
pub(super) fn dry_run(
    output: &Output,
    model: &FloatModel,
    settings: &Settings,
    recipe: &Recipe,
    mixed: Option<&MixedPrecision>,
) -> Result<(), Failure> {
    // Only the number of digits matters.
    let images = if recipe.needs_calibration() || mixed.is_some() {
        settings.calibration.images.unwrap_or(DEFAULT_COUNT)
    } else {
        0
    };
    let plan = match mixed {
        None => Plan {
            average: recipe.average_bits(&model.config)?,
            file: Some(planned(model, recipe, images)?),
        },
        Some(mixed) => Plan { average: mixed.affordable_bits(model, recipe, images)?, file: None },
    };
    if output.json() {
        return output.line(plan.document(model, recipe, mixed)?);
    }
    plan.print(output, model, recipe, mixed)
}

struct Plan {
    /// Mean bits, or the most that the budget allows.
    average: f64,
    /// The file, where all widths are known.
    file: Option<PlannedFile>,
}

/// A weight with its width and bytes, where they are known.
struct Row {
    spec: TensorSpec,
    width: Option<StoredWidth>,
    bytes: Option<u64>,
}

impl Plan {
    fn rows(
        &self,
        model: &FloatModel,
        recipe: &Recipe,
        mixed: Option<&MixedPrecision>,
    ) -> Result<Vec<Row>, Failure> {
        let fixed = named_widths(&model.config, &recipe.layers)?;
        let usual = mixed.is_none().then_some(recipe.bits);
        let bytes = self.file.as_ref().map(|file| weight_bytes(file, &model.config));
        let weights = model.config.tensors().into_iter().filter(|spec| spec.role != Role::Other);
        Ok(weights
            .map(|spec| Row {
                width: match spec.role {
                    Role::Edge => Some(recipe.edge_bits),
                    _ => fixed.get(&spec.name).map(|&width| StoredWidth::Codes(width)).or(usual),
                },
                bytes: bytes.as_ref().and_then(|bytes| bytes.get(&spec.name).copied()),
                spec,
            })
            .collect())
    }

    fn print(
        &self,
        output: &Output,
        model: &FloatModel,
        recipe: &Recipe,
        mixed: Option<&MixedPrecision>,
    ) -> Result<(), Failure> {
        output
            .line(format_args!("{:<28} {:>18} {:>5} {:>12}", "layer", "shape", "bits", "bytes"))?;
        for row in self.rows(model, recipe, mixed)? {
            let sizes: Vec<String> = row.spec.shape.iter().map(u32::to_string).collect();
            output.line(format_args!(
                "{:<28} {:>18} {:>5} {:>12}",
                row.spec.name.trim_end_matches(".weight"),
                sizes.join(" x "),
                row.width.map_or("?", StoredWidth::name),
                row.bytes.map_or("?".to_owned(), |bytes| bytes.to_string())
            ))?;
        }
        output.line("")?;
        if let Some(tuning) = &recipe.tuning {
            output.line(tuning::plan(tuning))?;
        }
        match (&self.file, mixed) {
            (Some(file), _) => output.line(format_args!(
                "{:.3} bits on average, file {} bytes, arithmetic bound {} bytes",
                self.average, file.file_bytes, file.bound_bytes
            )),
            (None, Some(mixed)) => output.line(format_args!(
                "{}: at most {:.3} bits on average; the layers' widths depend on measured sensitivities",
                mixed.budget(),
                self.average
            )),
            (None, None) => Ok(()),
        }
    }

    fn document(
        &self,
        model: &FloatModel,
        recipe: &Recipe,
        mixed: Option<&MixedPrecision>,
    ) -> Result<Value, Failure> {
        let row = |row: Row| {
            json!({
                "name": row.spec.name,
                "shape": row.spec.shape,
                "bits": row.width.map(StoredWidth::name),
                "bytes": row.bytes,
            })
        };
        let tuning = recipe.tuning.as_ref();
        Ok(json!({
            "dry_run": true,
            "layers": self.rows(model, recipe, mixed)?.into_iter().map(row).collect::<Vec<_>>(),
            "average_bits": self.average,
            "file_bytes": self.file.as_ref().map(|file| file.file_bytes),
            "bound_bytes": self.file.as_ref().map(|file| file.bound_bytes),
            "widths_are_measured": mixed.is_some(),
            "tuning": tuning.map(|tuning| tuning.settings().into_iter().collect::<BTreeMap<_, _>>()),
        }))
    }
}
