//! Rows fail one by one; csv and json say the same.

use std::path::Path;

use serde_json::Value;

use super::results::{Calibration, Comparison, Evaluation, Metric};
use super::*;
use crate::algorithm::{Method, StatisticsOptions};
use crate::digits;
use crate::widths::StoredWidth;
use fresnel_runtime::cli::results::{ModelFacts, csv};
use fresnel_runtime::csv::Records;
use fresnel_runtime::evaluation::Accuracy;

/// A comparison with a float row, two methods at two widths, and one failure; `top1` counts of 800.
pub(super) fn sample(metric: Metric) -> Comparison {
    let row = |method: &str, bits: &str, first: usize, error: f64| Row {
        method: method.to_owned(),
        bits: bits.parse().unwrap(),
        tuned: false,
        settings: vec![("bits".to_owned(), bits.to_owned()), ("seed".to_owned(), "0".to_owned())],
        outcome: Ok(Figures {
            accuracy: Accuracy { images: 800, first, fifth: 790 },
            file_bytes: 2_000_000,
            seconds: (method != FLOAT).then_some(1.25),
            layers: ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"]
                .map(|kind| LayerErrors {
                    name: format!("blocks.0.{kind}"),
                    output_error: (method != FLOAT).then_some(error),
                    error_per_sweep: if method == "beacon" { vec![0.5, 0.25] } else { Vec::new() },
                })
                .to_vec(),
        }),
    };
    let mut failed = row("beacon", "3", 0, 0.0);
    failed.outcome = Err("no \"good\", <bad> & gone".to_owned());
    Comparison {
        model: ModelFacts {
            architecture: "vit_<b>&\"x\", y".to_owned(),
            image_size: [224, 224],
            parameters: 5_717_416,
            multiply_accumulates: 1_258_000_000,
            activations: 5_975_000,
            crop_pct: 0.9,
            interpolation: "bicubic",
        },
        source_sha256: "ab".repeat(32),
        evaluation: Evaluation { metric, images: 800, sha256: "cd".repeat(32), compute: "f32" },
        calibration: Some(Calibration { images: 64, sha256: "ef".repeat(32) }),
        planned: 6,
        rows: vec![
            row(FLOAT, "32", 696, 0.0),
            row("rtn", "2", 8, 0.5),
            row("beacon", "2", 256, 0.25),
            row("rtn", "3", 400, 0.125),
            failed,
        ],
    }
}

/// The records of a comparison's csv, fields unquoted.
fn records(comparison: &Comparison) -> Vec<Vec<String>> {
    let text = csv(&record::records(comparison));
    Records::new(&text).map(|record| record.unwrap().fields).collect()
}

#[test]
fn csv_begins_with_the_columns_of_timm_and_quotes_what_needs_it() {
    let records = records(&sample(Metric::Accuracy));
    assert_eq!(
        records[0][..9].join(","),
        "model,img_size,top1,top1_err,top5,top5_err,param_count,crop_pct,interpolation"
    );
    assert_eq!(records.len(), 6);
    assert!(records.iter().all(|record| record.len() == records[0].len()));
    let expected =
        ["vit_<b>&\"x\", y", "224", "32.0", "68.0", "98.75", "1.25", "5.72", "0.9", "bicubic"];
    assert_eq!(records[3][..9], expected);
    let column = |name: &str| records[0].iter().position(|found| found == name).unwrap();
    assert_eq!(records[3][column("drop")], "55.0");
    assert_eq!(records[3][column("margin95")], "3.233", "196 sqrt(0.32 * 0.68 / 800)");
    assert_eq!(records[3][column("layer_error")], "0.25");
    assert_eq!(records[5][column("error")], "no \"good\", <bad> & gone");
    assert_eq!(records[5][column("top1")], "");
}

#[test]
fn agreement_is_no_accuracy() {
    let comparison = sample(Metric::Agreement);
    let record = record::record(&comparison, &comparison.rows[2]);
    let value = |name: &str| record.get(name);
    for name in ["top1", "top1_err", "top5", "top5_err"] {
        assert_eq!(value(name), &Value::Null, "{name}");
    }
    assert_eq!((value("agreement1"), value("agreement5")), (&32.0.into(), &98.75.into()));
    for text in
        [table::table(&comparison), record::json(&comparison).to_string(), html::page(&comparison)]
    {
        assert!(text.contains("No accuracy: agreement with the float model"), "{text}");
    }
}

#[test]
fn json_has_the_columns_of_csv() {
    let comparison = sample(Metric::Accuracy);
    let records = records(&comparison);
    let json = record::json(&comparison);
    assert_eq!((&json["metric"], &json["rows_planned"]), (&"accuracy".into(), &6.into()));
    for (row, record) in json["rows"].as_array().unwrap().iter().zip(&records[1..]) {
        for (name, field) in records[0].iter().zip(record).filter(|(name, _)| *name != "settings") {
            let value = match &row[name] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            assert_eq!(value, *field, "{name}");
        }
    }
    assert_eq!(json["rows"][2]["layers"][0]["error_per_sweep"][1], 0.25);
    assert_eq!(json["rows"][2]["settings"]["seed"], "0");
}

#[test]
fn a_row_that_fails_says_why_and_spoils_no_other() {
    let model = digits::model().unwrap();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/digits/samples");
    let paths: Vec<_> =
        std::fs::read_dir(samples).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(paths.len(), 10, "a digit of each class");
    let device = Device::cpu();
    let session = SessionOptions { compute: fresnel_runtime::Compute::F32, ..Default::default() };
    let comparer = Comparer::new(&model, None, &device, session);
    let recipe = |bits: StoredWidth, method: Method| Recipe {
        bits,
        edge_bits: if bits.codes().is_some() { "8".parse().unwrap() } else { bits },
        method,
        statistics: StatisticsOptions::default(),
        layers: Vec::new(),
        tuning: None,

        seed: 0,
    };
    let rtn = Method::Rtn { symmetric: false };
    let float = comparer.float_model(&recipe(StoredWidth::Float32, rtn.clone())).unwrap();
    let mut session = comparer.session(&float).unwrap();
    let pictures = LabelledPictures::labelled_by(&mut session, paths, |_| {}).unwrap();
    let four: StoredWidth = "4".parse().unwrap();
    let rows = [
        recipe(StoredWidth::Float32, rtn.clone()),
        recipe(four, Method::Gptq(Default::default())),
        recipe(four, rtn),
    ]
    .map(|recipe| {
        let mut done = 0;
        let row = comparer.row(&recipe, &pictures, |steps| done += steps);
        assert!(row.outcome.is_err() || done == comparer.steps(&recipe, pictures.len()));
        row
    });
    assert_eq!(rows[0].figures().unwrap().accuracy.top1(), 100.0, "the float model with itself");
    assert!(rows[1].outcome.as_ref().unwrap_err().contains("needs calibration images"));
    let figures = rows[2].figures().unwrap();
    assert_eq!(figures.accuracy.images, 10);
    assert!(figures.accuracy.top1() >= 90.0 && figures.mean_layer_error().is_none());
}
