//! `fresnel eval`, `bench` and `report` from end to end on the digits model: tables, csv and JSON agree, the page shows what they
//! say, and a browser shows the page.

use std::fs;
use std::path::Path;

use fresnel_runtime::csv::Records;
use fresnel_tests::browser::Browser;
use fresnel_tests::digits_checkpoint;
use fresnel_tests::programs::fresnel;
use fresnel_tests::scratch::Scratch;
use serde_json::Value;

const BAD_INPUT: i32 = 3;
const IO: i32 = 4;

const PICTURES: usize = 60;

/// Digits as pictures with labels in `evaluation.csv`, the float model `float.fresnel`, and those of 4 and 1.58 bit.
struct Bench {
    scratch: Scratch,
}

impl Bench {
    fn new() -> Self {
        let scratch = Scratch::new();
        scratch.digits("evaluation", PICTURES);
        let checkpoint = digits_checkpoint();
        let checkpoint = checkpoint.to_str().expect("a UTF-8 path");
        for (name, bits) in [("float", "32"), ("4", "4"), ("1.58", "1.58")] {
            let output = scratch.text(&format!("{name}.fresnel"));
            let method = ["--method", "rtn", "--device", "cpu"];
            let arguments = ["quantize", checkpoint, "--bits", bits, "-o", &output];
            fresnel(&[&arguments[..], &method].concat()).success();
        }
        Self { scratch }
    }

    /// What a command prints about all three models; the float one is the baseline.
    fn measure(&self, command: &str, more: &[&str]) -> String {
        let [four, ternary, float] =
            ["4.fresnel", "1.58.fresnel", "float.fresnel"].map(|name| self.scratch.text(name));
        let arguments =
            [command, &four, &ternary, &float, "--baseline", &float, "--compute", "f32"];
        let arguments = [&arguments[..], &["--threads", "1"], more].concat();
        fresnel(&arguments).success()
    }

    fn eval(&self, more: &[&str]) -> String {
        let data = self.scratch.text("evaluation.csv");
        self.measure("eval", &[&["--data", &data], more].concat())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        self.scratch.write(name, content)
    }
}

fn csv(text: &str) -> Vec<Vec<String>> {
    Records::new(text).map(|record| record.expect("a record").fields).collect()
}

fn json(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The cells of a Markdown table, its rule left out.
fn markdown(text: &str) -> Vec<Vec<&str>> {
    let lines = text.lines().filter(|line| !line.contains("---"));
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// Asserts that the rows of a csv are those of JSON, but for `times`, which no two runs share.
fn assert_agree(csv: &[Vec<String>], json: &[Value], times: &[&str]) {
    assert_eq!(csv.len(), json.len() + 1);
    for (record, object) in csv[1..].iter().zip(json) {
        for (name, field) in
            csv[0].iter().zip(record).filter(|(name, _)| !times.contains(&name.as_str()))
        {
            let value = match &object[name] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            assert_eq!(*field, value, "{name}");
        }
        let keys = object.as_object().expect("an object").len();
        assert_eq!(keys, record.len(), "every value is in both");
    }
}

#[test]
fn formats_agree_and_begin_with_the_columns_of_timm() {
    let bench = Bench::new();
    let answers = bench.scratch.text("answers.csv");
    let objects = json(&bench.eval(&["--json", "--predictions", &answers]));
    let records = csv(&bench.eval(&["--format", "csv"]));
    assert_eq!(
        records[0][..9].join(","),
        "model,img_size,top1,top1_err,top5,top5_err,param_count,crop_pct,interpolation"
    );
    assert_agree(&records, &objects, &["model_images_per_second"]);
    let bits: Vec<String> = objects.iter().map(|row| row["bits"].to_string()).collect();
    assert_eq!(bits, ["32", "4", "1.58"], "the baseline is first, and once");

    let table = bench.eval(&["--format", "markdown"]);
    let table = markdown(&table);
    let column = |name: &str| table[0].iter().position(|found| *found == name).expect("a column");
    let plain = bench.eval(&[]);
    for (row, object) in table[1..].iter().zip(&objects) {
        for (heading, name) in [("top-1 %", "top1"), ("drop", "drop"), ("agree %", "agreement")] {
            let number = object[name].as_f64().expect("a number");
            assert_eq!(row[column(heading)], format!("{number:.2}"), "{name}");
        }
        let top1 = format!("{:.2}", object["top1"].as_f64().expect("a number"));
        assert!(plain.contains(&top1) && !plain.contains('|'), "{plain}");
    }

    // The predictions give the same accuracy, agreement and drop.
    let predictions = csv(&fs::read_to_string(&answers).expect("predictions"));
    assert_eq!((predictions.len(), predictions[0].len()), (PICTURES + 1, 5));
    for (index, object) in objects.iter().enumerate() {
        let percent = |is: &dyn Fn(&Vec<String>) -> bool| {
            let count = predictions[1..].iter().filter(|record| is(record)).count();
            (count as f64 * 1e5 / PICTURES as f64).round() / 1e3
        };
        let own = 2 + index;
        assert_eq!(object["top1"], percent(&|record| record[own] == record[1]));
        assert_eq!(object["agreement"], percent(&|record| record[own] == record[2]));
        let drop =
            objects[0]["top1"].as_f64().expect("float") - object["top1"].as_f64().expect("own");
        assert!((object["drop"].as_f64().expect("a drop") - drop).abs() < 2e-3);
    }

    let speed = ["--iterations", "3", "--batch", "2"];
    let objects = json(&bench.measure("bench", &[&speed[..], &["--json"]].concat()));
    let records = csv(&bench.measure("bench", &[&speed[..], &["--format", "csv"]].concat()));
    assert_eq!(
        records[0][..8].join(","),
        "model,infer_samples_per_sec,infer_step_time,infer_batch_size,infer_img_size,infer_gmacs,\
         infer_macts,param_count"
    );
    let times = ["infer_samples_per_sec", "infer_step_time", "min_ms", "median_ms", "p90_ms"];
    let others = ["speedup", "first_logits_ms", "peak_rss_bytes"];
    assert_agree(&records, &objects, &[&times[..], &others].concat());
    assert_eq!(objects[0]["speedup"], 1.0, "of the baseline to itself");
    for object in &objects {
        let [rate, time] = ["infer_samples_per_sec", "infer_step_time"]
            .map(|name| object[name].as_f64().expect("a number"));
        assert!((rate * time / 2e3 - 1.0).abs() < 0.01, "{rate} pictures/s at {time} ms");
    }
}

#[test]
fn a_report_shows_what_was_measured() {
    let bench = Bench::new();
    let [answers, page] = ["answers.csv", "report.html"].map(|name| bench.scratch.text(name));
    let eval = bench.eval(&["--json", "--predictions", &answers]);
    let speed = bench.measure("bench", &["--iterations", "3", "--json"]);
    let sources = [bench.write("eval.json", &eval), bench.write("bench.json", speed)];
    let model = bench.scratch.text("4.fresnel");
    let arguments = ["report", &sources[0], &sources[1], &answers, &model, "-o", &page];
    let summary = fresnel(&[&arguments[..], &["--json"]].concat()).json();
    assert_eq!(summary["rows"], 6);
    let text = fs::read_to_string(&page).expect("a page");
    assert_eq!(text.len() as u64, summary["bytes"].as_u64().expect("a length"));
    for object in json(&eval) {
        let top1 = object["top1"].as_f64().expect("a number");
        assert!(text.contains(&format!("<td>{top1:.2} <small>")), "{top1}");
    }
    for part in
        ["Against the size", "Against time", "Answers that changed", "class=\"front\"", "at 4 bit"]
    {
        assert!(text.contains(part), "{part}");
    }
    fresnel(&arguments).assert_fails(IO, &["report.html", "--force"]);

    // From csv, the same figures.
    let [table, other] = ["eval.csv", "other.html"].map(|name| bench.scratch.text(name));
    bench.write("eval.csv", bench.eval(&["--format", "csv"]));
    fresnel(&["report", &table, "-o", &other]).success();
    let other = fs::read_to_string(other).expect("a page");
    let figures = |page: &str| -> Vec<String> {
        let cells = page.split("<td>").filter(|cell| cell.contains("<small>\u{b1}"));
        cells.map(|cell| cell.split("</td>").next().unwrap_or_default().to_owned()).collect()
    };
    assert!(!figures(&other).is_empty());
    assert_eq!(figures(&text), figures(&other));

    see(&page);
}

/// Looks at the page in a browser, wide and narrow, light and dark.
fn see(page: &str) {
    let Some(browser) = Browser::at_hand("the report in a browser") else { return };
    for (size, dark, marker) in
        [([1200, 1600], false, [0x00, 0x72, 0xb2]), ([390, 1600], true, [0x5a, 0xb4, 0xf0])]
    {
        let visit = browser.visit(Path::new(page), size, dark);
        assert!(visit.console.is_empty(), "{size:?}: {:?}", visit.console);
        assert_eq!([visit.picture.width(), visit.picture.height()], size);
        assert!(visit.colors() > 50, "{size:?}: {} colours", visit.colors());
        assert!(visit.count(marker) > 30, "{size:?}: no marker of the first line");
        let corner = visit.picture.get_pixel(1, 1).0[0];
        assert_eq!(corner < 0x80, dark, "{size:?}: the page is {corner:#x}");
    }
}

/// What the test above looks for is not found on a page that is blank, or that complains.
#[test]
fn a_blank_or_faulty_page_would_be_noticed() {
    let Some(browser) = Browser::at_hand("a blank page") else { return };
    let scratch = Scratch::new();
    scratch.write("blank.html", "<!DOCTYPE html><html><body></body></html>");
    scratch.write("faulty.html", "<!DOCTYPE html><script>console.error('wrong')</script>");
    let blank = browser.visit(&scratch.path("blank.html"), [400, 300], false);
    assert_eq!((blank.colors(), blank.console.len()), (1, 0));
    let faulty = browser.visit(&scratch.path("faulty.html"), [400, 300], false);
    assert!(faulty.console.iter().any(|line| line.contains("wrong")), "{:?}", faulty.console);
}

#[test]
fn files_that_are_no_results_are_refused() {
    let scratch = Scratch::new();
    let page = scratch.text("report.html");
    for (name, content, text) in [
        ("text.txt", "top1", "expected results as .json"),
        ("broken.json", "{\"top1\": ", "no JSON"),
        ("list.json", "[1, 2]", "expected JSON objects"),
        ("other.json", "{\"color\": \"red\"}", "columns `model` and `top1`"),
        ("other.csv", "color\nred\n", "columns `model` and `top1`"),
        ("short.csv", "model,top1\nx\n", "line 2: expected 2 fields"),
        ("empty.csv", "", "the file is empty"),
        ("answers.csv", "image,label,a f32\nx.png,3,\n", "line 2: expected the indices"),
        ("lonely.csv", "image,label,a f32\nx.png,3,3\n", "no file holds results"),
        ("model.fresnel", "no model", "model.fresnel"),
    ] {
        let file = scratch.write(name, content);
        fresnel(&["report", &file, "-o", &page]).assert_fails(BAD_INPUT, &[text]);
    }
    let missing = scratch.text("missing.json");
    fresnel(&["report", &missing, "-o", &page]).assert_fails(IO, &["missing.json"]);
    assert!(!Path::new(&page).exists(), "nothing is written");
}

/// A comparison's own JSON makes a report with errors by layer; so does the report of `quantize`.
#[test]
fn comparisons_and_reports_of_the_quantizer_add_errors_by_layer() {
    let scratch = Scratch::new();
    scratch.digits("calibration", 16);
    let checkpoint = digits_checkpoint();
    let checkpoint = checkpoint.to_str().expect("a UTF-8 path");
    let [calibration, output, page, model] =
        ["calibration.csv", "comparison", "report.html", "mixed.fresnel"]
            .map(|name| scratch.text(name));
    let common = ["--calib", &calibration, "--device", "cpu", "-o"];
    let methods = ["compare", checkpoint, "--methods", "rtn,beacon", "--bits", "2,3"];
    fresnel(&[&methods[..], &common, &[&output]].concat()).success();
    let mixed = ["--bits", "2", "--layer-bits", "*.attn.proj=3", "--method", "beacon", "--json"];
    let made = fresnel(&[&["quantize", checkpoint][..], &mixed, &common, &[&model]].concat());
    let quantized = scratch.write("quantize.json", made.success());
    let comparison = scratch.text("comparison/compare.json");
    fresnel(&["report", &comparison, &quantized, &model, "-o", &page]).success();
    let text = fs::read_to_string(&page).expect("a page");
    for part in [
        "agree-1 %",
        "No accuracy: agreement",
        "outputs at 2 bit",
        "outputs at 3 bit",
        "own objective",
        "class=\"map\"",
        "18 at 2 bit, 6 at 3 bit",
    ] {
        assert!(text.contains(part), "{part}");
    }
}
