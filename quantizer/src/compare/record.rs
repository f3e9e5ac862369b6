//! A comparison's rows, and all of it as one JSON object.
//!
//! Rows are those of `fresnel eval`, so that they can be put beside them; percentages of agreement are no accuracy
//! and have columns of their own.

use fresnel_runtime::cli::results::{PROGRAM, Record, Stored};
use serde_json::{Map, Value, json};

use super::results::{Comparison, LayerErrors, Metric, Row};

/// All rows.
pub fn records(comparison: &Comparison) -> Vec<Record> {
    comparison.rows.iter().map(|row| record(comparison, row)).collect()
}

/// One row; null where there is nothing to say.
pub fn record(comparison: &Comparison, row: &Row) -> Record {
    let figures = row.figures();
    let of = |metric: Metric| {
        figures.filter(|_| comparison.evaluation.metric == metric).map(|figures| &figures.accuracy)
    };
    let agreement = of(Metric::Agreement);
    let mut record = comparison.model.accuracy_record(of(Metric::Accuracy));
    let stored = Stored {
        method: json!(row.method),
        bits: serde_json::from_str(row.bits.name()).unwrap_or_default(),
        tuned: row.tuned,
    };
    stored.push(&mut record);
    record.push("images", comparison.evaluation.images);
    record.push_number("margin95", figures.map(|figures| figures.accuracy.top1_margin()), 3);
    record.push_number("drop", comparison.drop(row), 3);
    record.push("file_bytes", json!(figures.map(|figures| figures.file_bytes)));
    record.push("compute", comparison.evaluation.compute);
    record.push("program", PROGRAM);
    record.push_number("agreement1", agreement.map(|accuracy| accuracy.top1()), 3);
    record.push_number("agreement5", agreement.map(|accuracy| accuracy.top5()), 3);
    record.push_number("layer_error", figures.and_then(|figures| figures.mean_layer_error()), 5);
    record.push_number("quantize_seconds", figures.and_then(|figures| figures.seconds), 2);
    let pairs: Vec<String> =
        row.settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
    record.push("settings", pairs.join(" "));
    record.push("error", json!(row.outcome.as_ref().err()));
    let settings = row.settings.iter().map(|(key, value)| (key.clone(), json!(value)));
    record.push_detail("settings", settings.collect::<Map<String, Value>>());
    let layers = figures.map(|figures| figures.layers.iter().map(layer).collect());
    record.push_detail("layers", layers.unwrap_or_else(|| json!([])));
    record
}

/// Everything as one JSON object: each row with its columns, its settings and its layers.
pub fn json(comparison: &Comparison) -> Value {
    let rows: Vec<Value> = records(comparison).iter().map(Record::object).collect();
    let evaluation = &comparison.evaluation;
    json!({
        "model": comparison.model.architecture,
        "source_sha256": comparison.source_sha256,
        "quantizer": PROGRAM,
        "metric": evaluation.metric.name(),
        "statement": comparison.statement(),
        "images": evaluation.images,
        "evaluation_sha256": evaluation.sha256,
        "compute": evaluation.compute,
        "calibration_images": comparison.calibration.as_ref().map(|calibration| calibration.images),
        "calibration_sha256": comparison.calibration.as_ref().map(|calibration| &calibration.sha256),
        "rows_planned": comparison.planned,
        "rows": rows,
    })
}

fn layer(layer: &LayerErrors) -> Value {
    json!({
        "name": layer.name,
        "output_error": layer.output_error,
        "error_per_sweep": layer.error_per_sweep,
    })
}
