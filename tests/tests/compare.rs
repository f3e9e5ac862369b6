//! `fresnel compare` from end to end on the digits model: table, csv, json and page agree with each
//! other and with `fresnel eval` of the files that were kept.

use std::fs;
use std::path::Path;

use fresnel_tests::digits_checkpoint;
use fresnel_tests::programs::{Finished, fresnel};
use fresnel_tests::scratch::Scratch;
use serde_json::Value;

const USAGE: i32 = 2;
const BAD_INPUT: i32 = 3;
const IO: i32 = 4;

/// A folder with digits as pictures: `calibration.csv` and `evaluation.csv` with labels.
fn bench() -> Scratch {
    let bench = Scratch::new();
    bench.digits("calibration", 24);
    bench.digits("evaluation", 120);
    bench
}

/// Runs `compare` on the digits model with the calibration images.
fn compare(bench: &Scratch, extra: &[&str]) -> Finished {
    let (model, calibration) = (digits_checkpoint(), bench.text("calibration.csv"));
    let model = model.to_str().expect("a UTF-8 path");
    let mut arguments = vec!["compare", model, "--device", "cpu", "--calib", calibration.as_str()];
    arguments.extend(extra);
    fresnel(&arguments)
}

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("a report")).expect("JSON")
}

/// The cells of a csv without quoted fields.
fn read_csv(path: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).expect("a report");
    assert!(!text.contains('"'), "{text}");
    text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

#[test]
fn table_csv_json_and_page_agree_with_each_other_and_with_eval() {
    let bench = bench();
    let [output, models, data] =
        ["report", "models", "evaluation.csv"].map(|name| bench.text(name));
    let flags = [
        "--methods",
        "rtn,beacon",
        "--bits",
        "1.58,2",
        "--data",
        &data,
        "-o",
        &output,
        "--keep-models",
        &models,
    ];
    let table = compare(&bench, &flags).success();
    let json = read_json(&bench.path("report/compare.json"));
    let csv = read_csv(&bench.path("report/compare.csv"));
    let page = fs::read_to_string(bench.path("report/compare.html")).expect("a page");
    let rows = json["rows"].as_array().expect("rows");
    assert_eq!((rows.len(), csv.len()), (5, 6), "float, and two methods at two widths");
    assert_eq!(json["metric"], "accuracy");
    let column = |name: &str| csv[0].iter().position(|found| found == name).expect("a column");
    for (row, record) in rows.iter().zip(&csv[1..]) {
        let text = |name: &str| row[name].as_str().expect("a text").to_owned();
        let number = |name: &str| row[name].as_f64().expect("a number");
        let method = text("method");
        let bits = row["bits"].to_string();
        for name in ["method", "interpolation", "model"] {
            assert_eq!(record[column(name)], text(name));
        }
        for name in ["bits", "top1", "top1_err", "top5", "top5_err", "param_count", "file_bytes"] {
            assert_eq!(record[column(name)].parse::<f64>().expect("a number"), number(name));
        }
        assert!((number("top1") + number("top1_err") - 100.0).abs() < 1e-6);

        let file = fs::read_dir(&models)
            .expect("kept models")
            .map(|entry| entry.expect("an entry").path())
            .find(|path| path.to_string_lossy().ends_with(&format!("_{method}_{bits}bit.fresnel")))
            .unwrap_or_else(|| panic!("no model of {method} at {bits} bit"));
        assert_eq!(fs::metadata(&file).expect("a file").len() as f64, number("file_bytes"));
        let file = file.to_str().expect("a UTF-8 path");
        let eval = fresnel(&["eval", file, "--data", &data, "--compute", "f32", "--json"]).json();
        for name in ["top1", "top5"] {
            let measured = eval[name].as_f64().expect("a percentage");
            assert!((measured - number(name)).abs() < 1e-3, "{method} {bits} {name}: {measured}");
        }

        let line = table
            .lines()
            .find(|line| {
                let cells: Vec<&str> = line.split('|').map(str::trim).collect();
                cells.get(1) == Some(&method.as_str()) && cells.get(2) == Some(&bits.as_str())
            })
            .unwrap_or_else(|| panic!("no line of {method} at {bits} bit: {table}"));
        let top1 = format!(" {:.2} |", number("top1"));
        assert!(line.contains(&top1), "{line}");
        assert!(page.contains(&format!("<td>{:.2}</td>", number("top1"))), "{method} {bits}");

        if method == "float" {
            assert_eq!(row["drop"], 0.0);
            continue;
        }
        let drop = rows[0]["top1"].as_f64().expect("float") - number("top1");
        assert!((number("drop") - drop).abs() < 2e-3);
        let layers = row["layers"].as_array().expect("layers");
        assert_eq!(layers.len(), 24, "six blocks of four layers");
        let errors = layers.iter().map(|layer| layer["output_error"].as_f64().expect("an error"));
        assert!((errors.sum::<f64>() / 24.0 - number("layer_error")).abs() < 1e-4);
        let sweeps = layers[0]["error_per_sweep"].as_array().expect("sweeps").len();
        assert_eq!(sweeps > 1, method == "beacon");
        assert_eq!(row["settings"]["method"], method.as_str());
    }
    let error = |index: usize| rows[index]["layer_error"].as_f64().expect("an error");
    assert!(error(2) < error(1) && error(4) < error(3), "Beacon is closer than rounding");

    // The recipe of a row is that of `quantize` by default: the same bytes.
    let single = bench.text("single.fresnel");
    let (model, calibration) = (digits_checkpoint(), bench.text("calibration.csv"));
    let model = model.to_str().expect("a path");
    fresnel(&[
        "quantize",
        model,
        "--calib",
        &calibration,
        "--bits",
        "2",
        "--device",
        "cpu",
        "--method",
        "beacon",
        "-o",
        &single,
    ])
    .success();
    let name = rows[0]["model"].as_str().expect("a name");
    let kept = bench.path(&format!("models/{name}_beacon_2bit.fresnel"));
    assert!(fs::read(&kept).expect("kept") == fs::read(single).expect("single"), "{kept:?}");

    // Nothing is replaced without being told.
    compare(&bench, &flags).assert_fails(IO, &["compare.csv", "--force"]);
    let forced = compare(&bench, &[&flags[..], &["--force", "--json"]].concat()).json();
    let accuracies = |json: &Value| -> Vec<Value> {
        json["rows"].as_array().expect("rows").iter().map(|row| row["top1"].clone()).collect()
    };
    assert_eq!(accuracies(&forced), accuracies(&json), "two runs");
}

#[test]
fn without_labels_the_figures_are_agreement_and_say_so() {
    let bench = bench();
    let output = bench.text("report");
    let table = compare(&bench, &["--methods", "rtn", "--bits", "4", "-o", &output]).success();
    let json = read_json(&bench.path("report/compare.json"));
    assert_eq!((&json["metric"], &json["images"]), (&"agreement".into(), &24.into()));
    let float = &json["rows"][0];
    assert_eq!((&float["agreement1"], &float["top1"]), (&100.0.into(), &Value::Null));
    let page = fs::read_to_string(bench.path("report/compare.html")).expect("a page");
    for text in [&table, &page] {
        assert!(text.contains("No accuracy: agreement with the float model"), "{text}");
    }
    assert!(table.contains("agree-1 %") && !table.contains("top-1"), "{table}");
}

#[test]
fn rounding_alone_needs_no_calibration() {
    let bench = bench();
    let (model, data) = (digits_checkpoint(), bench.text("evaluation.csv"));
    let model = model.to_str().expect("a UTF-8 path");
    let json = fresnel(&[
        "compare",
        model,
        "--methods",
        "rtn",
        "--bits",
        "8",
        "--data",
        &data,
        "--limit",
        "40",
        "--json",
    ])
    .json();
    assert_eq!((&json["images"], &json["calibration_images"]), (&40.into(), &Value::Null));
    assert_eq!(json["rows"][1]["layer_error"], Value::Null);
}

#[test]
fn rows_that_fail_leave_the_others_and_an_exit_code() {
    let bench = bench();
    let [output, data] = ["report", "evaluation.csv"].map(|name| bench.text(name));
    // Found by quantization, as calibration images are read when they are needed.
    fs::write(bench.path("calibration_5.png"), b"no picture").expect("written");
    let failed = compare(
        &bench,
        &["--methods", "rtn,beacon", "--bits", "2", "--data", &data, "-o", &output],
    );
    failed.assert_fails(1, &["2 of 3 rows failed", "rtn at 2 bit", "calibration_5.png"]);
    assert!(failed.stdout.contains("failed"), "{}", failed.stdout);
    let json = read_json(&bench.path("report/compare.json"));
    assert!(json["rows"][0]["top1"].as_f64().is_some_and(|top1| top1 > 95.0));
    assert!(json["rows"][2]["error"].as_str().is_some_and(|text| text.contains("calibration_5")));
    let page = fs::read_to_string(bench.path("report/compare.html")).expect("a page");
    assert!(page.contains("failed: "));
}

#[test]
fn what_makes_no_sense_is_refused_before_any_work() {
    let bench = bench();
    let [output, data] = ["report", "evaluation.csv"].map(|name| bench.text(name));
    let unknown = compare(&bench, &["--methods", "rtn,magic", "-o", &output]);
    unknown.assert_fails(USAGE, &["magic"]);
    assert!(unknown.stderr.contains("beacon-plus"), "the methods that there are");
    for (flags, parts) in [
        (&["--methods", "rtn,beacon,rtn"][..], &["--methods names rtn twice"][..]),
        (&["--bits", "2,3,2"], &["--bits names 2 twice"]),
        (&["--bits", "2,16"], &["--bits 16", "float model is always compared"]),
        (&["--bits", "5"], &["expected one of 1.58"]),
        (&["--edge-bits", "4"], &["--edge-bits 4"]),
        (&["--limit", "3"], &["--limit needs --data"]),
        (&["--data", &data, "--limit", "0"], &["--limit 0"]),
        (&["--threads", "99999"], &["--threads 99999"]),
    ] {
        compare(&bench, &[flags, &["-o", &output]].concat()).assert_fails(USAGE, parts);
    }
    let checkpoint = digits_checkpoint();
    let checkpoint = checkpoint.to_str().expect("a UTF-8 path");
    fresnel(&["compare", checkpoint, "--data", &data])
        .assert_fails(USAGE, &["needs calibration images", "--calib"]);
    fresnel(&["compare", checkpoint, "--methods", "rtn"])
        .assert_fails(USAGE, &["--data", "--calib"]);
    let reports = fs::read_dir(bench.path("report")).map_or(0, Iterator::count);
    assert_eq!(reports, 0, "nothing is written");
}

#[test]
fn pictures_that_calibration_sees_are_no_evaluation() {
    let bench = bench();
    let methods = ["--methods", "rtn", "--bits", "4", "--data"];
    let same = bench.text("calibration.csv");
    compare(&bench, &[&methods[..], &[&same]].concat())
        .assert_fails(BAD_INPUT, &["is a calibration image as well, one of 24"]);
    // A copy under another name is the same picture.
    fs::copy(bench.path("calibration_3.png"), bench.path("innocent.png")).expect("a copy");
    let list = bench.text("list.csv");
    fs::write(&list, "file,label\nevaluation_0.png,1\ninnocent.png,1\n").expect("a list");
    compare(&bench, &[&methods[..], &[&list]].concat())
        .assert_fails(BAD_INPUT, &["innocent.png", "one of 1"]);
}
