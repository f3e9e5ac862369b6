//! Rows are put together, changes counted, and the page is well-formed whatever it is made of.

use std::fs;

use serde_json::{Value, json};

use super::changes::{self, ClassChanges, Counts};
use super::entry::{Entries, Entry, Quality};
use super::page::page;
use super::source::{ModelFile, Predictions, Row, Sources};
use crate::compare::html::tests::{assert_self_contained, elements};

fn row(value: Value) -> Row {
    match value {
        Value::Object(values) => Row(values),
        other => panic!("not an object: {other}"),
    }
}

fn accuracy(method: &str, bits: f64, compute: &str, bytes: u64, top1: f64) -> Row {
    row(json!({
        "model": "vit_<b>", "method": method, "bits": bits, "tuned": false, "compute": compute,
        "file": format!("some/where/{method}{bits}.fresnel"), "file_bytes": bytes, "images": 8,
        "top1": top1, "top5": 99.0, "margin95": 3.0, "drop": 90.0 - top1, "processor": "A & B",
    }))
}

fn speed(method: &str, bits: f64, compute: &str, bytes: u64, milliseconds: f64) -> Row {
    row(json!({
        "model": "vit_<b>", "method": method, "bits": bits, "tuned": false, "compute": compute,
        "file": format!("{method}{bits}.fresnel"), "file_bytes": bytes, "infer_batch_size": 1,
        "infer_step_time": milliseconds, "median_ms": milliseconds, "speedup": 20.0 / milliseconds,
    }))
}

fn sources() -> Sources {
    Sources {
        rows: vec![
            speed("float", 32.0, "f32", 1_000, 20.0),
            speed("beacon", 2.0, "int8", 90, 5.0),
            accuracy("float", 32.0, "f32", 1_000, 90.0),
            accuracy("beacon", 2.0, "f32", 90, 70.0),
            accuracy("beacon", 2.0, "int8", 90, 69.0),
            accuracy("beacon", 4.0, "int8", 160, 89.5),
            accuracy("rtn", 4.0, "int8", 160, 60.0),
        ],
        predictions: vec![predictions()],
        models: vec![ModelFile {
            name: "beacon2.fresnel".to_owned(),
            bytes: 90,
            class_names: vec!["ash & oak".to_owned(), "beech".to_owned()],
            bits: [
                ("patch_embed.proj", 8.0),
                ("blocks.0.attn.qkv", 2.0),
                ("blocks.0.mlp.fc1", 3.0),
            ]
            .map(|(name, bits)| (name.to_owned(), bits))
            .into(),
            settings: vec![("method".to_owned(), "<beacon>".to_owned())],
        }],
        ..Sources::default()
    }
}

fn predictions() -> Predictions {
    Predictions {
        names: ["x/float32.fresnel f32", "x/beacon2.fresnel int8", "y.fresnel f32"]
            .map(str::to_owned)
            .into(),
        labels: vec![0, 0, 0, 1, 1],
        classes: vec![vec![0, 0, 0], vec![0, 1, 2], vec![1, 0, 1], vec![1, 2, 1], vec![0, 2, 0]],
    }
}

#[test]
fn rows_of_one_model_and_mode_become_one_entry() {
    let entries = Entries::new(&sources());
    assert_eq!(entries.quality, Quality::Top1);
    let labels: Vec<&str> = entries.list.iter().map(|entry| entry.label.as_str()).collect();
    assert_eq!(
        labels,
        [
            "float, f32, 32 bit",
            "beacon, f32, 2 bit",
            "beacon, int8, 2 bit",
            "beacon, int8, 4 bit",
            "rtn, int8, 4 bit"
        ]
    );
    let times: Vec<Option<f64>> = entries.list.iter().map(Entry::milliseconds).collect();
    assert_eq!(times, [Some(20.0), None, Some(5.0), None, None]);
    assert!(entries.float().is_some_and(|float| float.first(entries.quality) == Some(90.0)));
}

#[test]
fn the_front_is_what_nothing_beats() {
    let entries = Entries::new(&sources());
    let front = entries.front(Entry::megabytes);
    let labels: Vec<&str> = front.iter().map(|(entry, _)| entry.label.as_str()).collect();
    assert_eq!(labels, ["beacon, f32, 2 bit", "beacon, int8, 4 bit", "float, f32, 32 bit"]);
    for (entry, [cost, first]) in &front {
        let beaten = entries.list.iter().any(|other| {
            let (Some(other_cost), Some(other_first)) =
                (other.megabytes(), other.first(entries.quality))
            else {
                return false;
            };
            other_cost <= *cost
                && other_first >= *first
                && (other_cost < *cost || other_first > *first)
        });
        assert!(!beaten, "{}", entry.label);
    }
    assert_eq!(entries.front(Entry::milliseconds).len(), 2);
}

#[test]
fn models_of_one_width_are_told_apart_by_their_files() {
    let mut sources =
        Sources { rows: vec![accuracy("rtn", 4.0, "f32", 160, 60.0)], ..Sources::default() };
    let mut other = accuracy("rtn", 4.0, "f32", 161, 61.0);
    other.0.insert("file".to_owned(), "b.fresnel".into());
    sources.rows.push(other);
    let entries = Entries::new(&sources);
    let labels: Vec<&str> = entries.list.iter().map(|entry| entry.label.as_str()).collect();
    assert_eq!(labels, ["rtn, 4 bit, rtn4.fresnel", "rtn, 4 bit, b.fresnel"]);
}

#[test]
fn changed_answers_are_counted_by_kind_and_by_class() {
    let counts = changes::counts(&predictions());
    assert_eq!(
        counts[0],
        Counts { both_right: 1, same_wrong: 0, other_wrong: 1, lost: 2, gained: 1 }
    );
    assert_eq!(
        counts[1],
        Counts { both_right: 2, same_wrong: 2, other_wrong: 0, lost: 1, gained: 0 }
    );
    assert!(counts.iter().all(|counts| counts.pictures() == 5));
    let classes = changes::classes(&predictions(), 9);
    let expected = [
        ClassChanges { class: 0, pictures: 3, changed: vec![2, 1], usual: Some((0, 1)) },
        ClassChanges { class: 1, pictures: 2, changed: vec![2, 0], usual: Some((2, 2)) },
    ];
    assert_eq!(classes, expected);
    assert_eq!(changes::classes(&predictions(), 1).len(), 1);
}

#[test]
fn the_page_is_well_formed_and_escapes_what_it_shows() {
    let page = page(&sources());
    elements(&page);
    assert_self_contained(&page);
    for part in [
        "<h1>vit_&lt;b&gt;</h1>",
        "A &amp; B",
        "ash &amp; oak",
        "method=&lt;beacon&gt;",
        "Against time",
        "beacon, int8, 2 bit",
        "1 at 2 bit, 1 at 3 bit",
        "4.00\u{d7}",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert_eq!(page.matches("class=\"chart\"").count(), 2);
}

#[test]
fn a_page_shows_only_what_there_is() {
    let sources = Sources { rows: vec![speed("rtn", 4.0, "f32", 160, 3.0)], ..Sources::default() };
    let page = page(&sources);
    elements(&page);
    for absent in
        ["class=\"chart\"", "Answers that changed", "Layer by layer", "Recipes", "top-5 %"]
    {
        assert!(!page.contains(absent), "{absent}");
    }
}

/// Csv and JSON of the same rows are read as the same values.
#[test]
fn csv_is_read_as_json_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let [json_file, csv_file] = ["rows.json", "rows.csv"].map(|name| folder.path().join(name));
    fs::write(
        &json_file,
        "{\"model\": \"a, b\", \"top1\": 1.5, \"tuned\": true, \"error\": null}\n{\"model\": \"2x\", \"top1\": 3}\n",
    )
    .expect("written");
    fs::write(&csv_file, "model,top1,tuned,error\n\"a, b\",1.5,true,\n2x,3,,\n").expect("written");
    let [json, csv] = [json_file, csv_file].map(|file| Sources::read(&[file]).expect("rows").rows);
    assert_eq!(json[0], csv[0]);
    assert_eq!(
        (json[1].number("top1"), json[1].text("model")),
        (csv[1].number("top1"), Some("2x"))
    );
    assert_eq!(csv[1].shown("tuned"), None);
}
