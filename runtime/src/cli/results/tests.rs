//! Every format shows the same values.

use serde_json::{Value, json};

use super::*;
use crate::csv::Records;
use crate::evaluation::Accuracy;
use crate::exec::synthetic::{file, plain_config};
use crate::format::{CodeWidth, Container, Encoding};

fn records() -> Vec<Record> {
    let record = |name: &str, time: Option<f64>| {
        let mut record = Record::default();
        record.push("model", name);
        record.push_number("ms", time, 2);
        record.push("bytes", 1_234_567);
        record.push("nothing", Value::Null);
        record.push_detail("profile", json!([1, 2]));
        record
    };
    vec![record("a, \"b\"", Some(12.3456)), record("c", None)]
}

const SHOWN: [Column; 4] = [
    Column::plain("model", "model"),
    Column::number("time in ms", "ms", 1),
    Column::megabytes("MB", "bytes"),
    Column::plain("nothing", "nothing"),
];

#[test]
fn csv_and_json_have_every_column() {
    let text = csv(&records());
    let read: Vec<Vec<String>> = Records::new(&text).map(|record| record.unwrap().fields).collect();
    assert_eq!(read[0], ["model", "ms", "bytes", "nothing"]);
    assert_eq!(read[1], ["a, \"b\"", "12.35", "1234567", ""]);
    assert_eq!(read[2], ["c", "", "1234567", ""]);
    let object = records()[0].object();
    assert_eq!(
        object,
        json!({"model": "a, \"b\"", "ms": 12.35, "bytes": 1_234_567, "nothing": null, "profile": [1, 2]})
    );
    assert_eq!(csv(&[]), "");
}

#[test]
fn tables_leave_out_what_no_row_has() {
    let markdown = table::table(Format::Markdown, &records(), &SHOWN);
    let lines: Vec<&str> = markdown.lines().collect();
    assert_eq!(lines[0], "| model  | time in ms |   MB |");
    assert_eq!(lines[2], "| a, \"b\" |       12.3 | 1.23 |");
    assert_eq!(lines[3], "| c      |          - | 1.23 |");
    let plain = table::table(Format::Table, &records(), &SHOWN);
    assert!(plain.lines().all(|line| !line.contains('|') && line.trim_end() == line), "{plain}");
    assert!(plain.contains("12.3"), "{plain}");
}

#[test]
fn numbers_that_are_none_are_null() {
    let mut record = Record::default();
    record.push_number("infinite", Some(f64::INFINITY), 2);
    assert_eq!(record.get("infinite"), &Value::Null);
    assert_eq!(record.get("missing"), &Value::Null);
}

#[test]
fn rows_begin_with_the_columns_of_timm() {
    let bytes = file(&plain_config(), Encoding::Codes(CodeWidth::Ternary), Encoding::F16, &[]);
    let container = Container::from_bytes(bytes).unwrap();
    let manifest = container.manifest();
    let facts = ModelFacts::new(&manifest.config, &manifest.preprocessing);
    let accuracy = Accuracy { images: 8, first: 3, fifth: 6 };
    assert_eq!(
        csv(&[facts.accuracy_record(Some(&accuracy))]).lines().next().unwrap(),
        "model,img_size,top1,top1_err,top5,top5_err,param_count,crop_pct,interpolation"
    );
    assert_eq!(
        csv(&[facts.speed_record(4, 8.0)]).lines().next().unwrap(),
        "model,infer_samples_per_sec,infer_step_time,infer_batch_size,infer_img_size,infer_gmacs,\
         infer_macts,param_count"
    );
    let speed = facts.speed_record(4, 8.0);
    assert_eq!(
        (speed.get("infer_samples_per_sec"), speed.get("infer_step_time")),
        (&json!(500.0), &json!(8.0))
    );
    let stored = Stored::new(manifest);
    assert_eq!((&stored.bits, stored.tuned), (&json!(1.58), false));
    let mut mixed = manifest.clone();
    for entry in mixed.tensors.iter_mut().filter(|entry| entry.name.contains("fc1")) {
        entry.encoding = Encoding::Codes(CodeWidth::Four);
    }
    let bits = Stored::new(&mixed).bits.as_f64().unwrap();
    assert!(1.6 < bits && bits < 4.0, "{bits}");
}
