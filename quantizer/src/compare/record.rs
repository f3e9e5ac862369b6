//! The columns of a row, for csv and json alike, so that they can't disagree.
//!
//! The first nine are those of timm's tables of results (`results-imagenet.csv`), with their units, so
//! that rows can be put beside them; percentages of agreement are no accuracy and have columns of their
//! own.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::results::{Comparison, LayerErrors, Metric, Row};

/// The columns of `row` in their order; null where there is nothing to say.
pub fn columns(comparison: &Comparison, row: &Row) -> Vec<(&'static str, Value)> {
    let model = &comparison.model;
    let figures = row.figures();
    let of = |metric: Metric| figures.filter(|_| comparison.evaluation.metric == metric);
    let top1 = |metric| of(metric).map(|figures| figures.accuracy.top1());
    let top5 = |metric| of(metric).map(|figures| figures.accuracy.top5());
    let [height, width] = model.image_size;
    let size = if height == width { json!(height) } else { json!(format!("{height}x{width}")) };
    vec![
        ("model", json!(model.architecture)),
        ("img_size", size),
        ("top1", rounded(top1(Metric::Accuracy), 3)),
        ("top1_err", rounded(top1(Metric::Accuracy).map(|top1| 100.0 - top1), 3)),
        ("top5", rounded(top5(Metric::Accuracy), 3)),
        ("top5_err", rounded(top5(Metric::Accuracy).map(|top5| 100.0 - top5), 3)),
        ("param_count", rounded(Some(model.parameters as f64 / 1e6), 2)),
        ("crop_pct", rounded(Some(f64::from(model.crop_pct)), 4)),
        ("interpolation", json!(model.interpolation)),
        ("method", json!(row.method)),
        ("bits", serde_json::from_str(row.bits.name()).unwrap_or_default()),
        ("tuned", json!(row.tuned)),
        ("images", json!(comparison.evaluation.images)),
        ("agreement1", rounded(top1(Metric::Agreement), 3)),
        ("agreement5", rounded(top5(Metric::Agreement), 3)),
        ("margin95", rounded(figures.map(|figures| figures.top1_margin()), 3)),
        ("drop", rounded(comparison.drop(row), 3)),
        ("layer_error", rounded(figures.and_then(|figures| figures.mean_layer_error()), 5)),
        ("quantize_seconds", rounded(figures.and_then(|figures| figures.seconds), 2)),
        ("file_bytes", json!(figures.map(|figures| figures.file_bytes))),
        ("settings", json!(settings(row))),
        ("error", json!(row.outcome.as_ref().err())),
    ]
}

/// The recipe as `key=value` pairs, separated by spaces.
pub fn settings(row: &Row) -> String {
    let pairs: Vec<String> =
        row.settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(" ")
}

/// All rows as comma-separated values after RFC 4180, with a header.
pub fn csv(comparison: &Comparison) -> String {
    let mut text = String::new();
    for (index, row) in comparison.rows.iter().enumerate() {
        let columns = columns(comparison, row);
        if index == 0 {
            push_record(&mut text, columns.iter().map(|(name, _)| (*name).to_owned()));
        }
        push_record(&mut text, columns.iter().map(|(_, value)| plain(value)));
    }
    text
}

/// Everything as one JSON object: each row with its columns, its settings and its layers.
pub fn json(comparison: &Comparison) -> Value {
    let rows: Vec<Value> = comparison
        .rows
        .iter()
        .map(|row| {
            let columns = columns(comparison, row).into_iter();
            let mut object: Map<String, Value> =
                columns.map(|(name, value)| (name.to_owned(), value)).collect();
            let settings = row.settings.iter();
            let settings: Map<String, Value> =
                settings.map(|(key, value)| (key.clone(), json!(value))).collect();
            object.insert("settings".to_owned(), Value::Object(settings));
            let layers = row.figures().map(|figures| figures.layers.iter().map(layer).collect());
            object.insert("layers".to_owned(), layers.unwrap_or_else(|| json!([])));
            Value::Object(object)
        })
        .collect();
    let evaluation = &comparison.evaluation;
    json!({
        "model": comparison.model.architecture,
        "source_sha256": comparison.model.source_sha256,
        "quantizer": concat!("fresnel ", env!("CARGO_PKG_VERSION")),
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

/// A number to `decimals` places; null where there is none.
fn rounded(value: Option<f64>, decimals: i32) -> Value {
    let unit = 10.0_f64.powi(decimals);
    json!(value.map(|value| (value * unit).round() / unit))
}

/// A value as csv has it: text without quotes, nothing for null.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Adds a line; fields with commas, quotes or line breaks are quoted.
fn push_record(text: &mut String, fields: impl Iterator<Item = String>) {
    for (index, field) in fields.enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let written = if field.contains([',', '"', '\n', '\r']) {
            write!(text, "{comma}\"{}\"", field.replace('"', "\"\""))
        } else {
            write!(text, "{comma}{field}")
        };
        debug_assert!(written.is_ok(), "a string takes everything");
    }
    text.push('\n');
}
