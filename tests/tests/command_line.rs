//! What scripts rely on: exit codes, the fields of JSON, completions and manual pages.

use std::process::Command;

use fresnel_tests::fixture;
use fresnel_tests::programs::{fresnel, program, run};
use fresnel_tests::scratch::Scratch;
use serde_json::Value;

/// A folder with `model.fresnel` of 2 bit, a picture and a labelled list of it.
fn folder() -> Scratch {
    let scratch = Scratch::new();
    let (source, model) = (fixture("tiny_variants/average_pool"), scratch.text("model.fresnel"));
    let source = source.to_str().expect("a path");
    fresnel(&["quantize", source, "--bits", "2", "--method", "rtn", "-o", &model]).success();
    scratch.pictures("photos", 1);
    scratch.write("list.csv", "file,label\nphotos/0.png,3\n");
    scratch
}

#[test]
fn exit_codes_are_those_of_the_help() {
    let scratch = folder();
    let [model, absent, list] =
        ["model.fresnel", "absent", "list.csv"].map(|name| scratch.text(name));
    let broken = scratch.write("broken.fresnel", "no model at all");
    let other = scratch.text("other.fresnel");
    fresnel(&["edit", &model, "--metadata", "a=b", "-o", &other]).success();
    for (code, program, arguments) in [
        (0, "fresnel", &["verify", &model][..]),
        (0, "fresnel-run", &["verify", &model]),
        (0, "fresnel", &["--help"]),
        (0, "fresnel-run", &["--version"]),
        (1, "fresnel", &["diff", &model, &other]),
        (2, "fresnel", &["fly"]),
        (2, "fresnel-run", &["inspect"]),
        (2, "fresnel", &["eval", &model, "--data", &list, "--limit", "0"]),
        (3, "fresnel", &["inspect", &broken]),
        (3, "fresnel-run", &["bench", &broken]),
        (4, "fresnel", &["inspect", &absent]),
        (4, "fresnel", &["export", &model, "-o", &other]),
    ] {
        let found = run(program, arguments);
        assert_eq!(found.code, code, "{program} {arguments:?}: {}", found.stderr);
    }
    for name in ["fresnel", "fresnel-run"] {
        // An instruction set that no machine has.
        let mut command = Command::new(program(name));
        let output = command.args(["verify", &model]).env("FRESNEL_ISA", "abacus").output();
        assert_eq!(output.expect("it starts").status.code(), Some(5));
    }
    for program in ["fresnel", "fresnel-run"] {
        let help = run(program, &["--help"]).success();
        let codes = help.split_once("Exit codes:").expect("the codes").1;
        // However the lines are broken.
        let codes = codes.split_whitespace().collect::<Vec<_>>().join(" ");
        for code in
            ["0 done", "1 a check", "2 usage", "3 bad", "4 reading", "5 device", "130", "143"]
        {
            assert!(codes.contains(code), "{program} {code}: {codes}");
        }
    }
}

/// The fields of an object, in order.
fn fields(object: &Value) -> Vec<&str> {
    let mut fields: Vec<&str> =
        object.as_object().expect("an object").keys().map(String::as_str).collect();
    fields.sort_unstable();
    fields
}

/// Additions are allowed, what is here must stay.
fn assert_fields(what: &str, object: &Value, expected: &[&str]) {
    let found = fields(object);
    let missing: Vec<_> = expected.iter().filter(|field| !found.contains(field)).collect();
    assert!(missing.is_empty(), "{what} lacks {missing:?} among {found:?}");
}

#[test]
fn the_fields_of_json_stay() {
    let scratch = folder();
    let text = |name: &str| scratch.text(name);
    let model = text("model.fresnel");
    let json = |arguments: &[&str]| fresnel(&[arguments, &["--json"]].concat()).json();

    let report = json(&["classify", &model, &text("photos/0.png"), "-k", "2"]);
    let top = ["compute", "file", "images", "kernel", "load_milliseconds", "threads"];
    assert_fields("classify", &report, &top);
    let image = &report["images"][0];
    assert_fields("image", image, &["classes", "image", "milliseconds", "preprocess_milliseconds"]);
    assert_fields("class", &image["classes"][1], &["index", "name", "probability"]);

    let report = json(&["inspect", &model, "--codes"]);
    let top = [
        "bound_bytes",
        "class_names",
        "codes",
        "config",
        "data_bytes",
        "file",
        "file_bytes",
        "isa",
        "layers",
        "measured",
        "metadata",
        "preprocessing",
        "provenance",
        "recipe",
        "resident_bytes",
    ];
    assert_fields("inspect", &report, &top);
    assert_fields("layer", &report["layers"][0], &["bits", "bytes", "name", "shape", "weight"]);
    let top = ["entropy_bytes", "spared_percent_of_file", "stored_bytes", "weights"];
    assert_fields("codes", &report["codes"], &top);
    let weight = ["bits", "entropy_bits_per_weight", "histogram", "name", "stored_bits_per_weight"];
    assert_fields("weight", &report["codes"]["weights"][0], &weight);

    let report = json(&["eval", &model, "--data", &text("list.csv")]);
    assert_fields("eval", &report, &["compute", "device", "file", "images", "top1", "top5"]);
    let report = json(&["verify", &model]);
    assert_fields("verify", &report, &["file", "file_bytes", "modes", "tensors", "valid"]);
    let report = json(&["export", &model, "-o", &text("e.safetensors")]);
    assert_fields("export", &report, &["architecture", "bytes", "codes", "output", "tensors"]);
    let report = json(&["edit", &model, "--metadata", "a=b", "-o", &text("edited.fresnel")]);
    assert_fields("edit", &report, &["class_names", "file", "file_bytes", "metadata", "output"]);
    let report = json(&["diff", &model, &model]);
    let top = ["a", "b", "file_bytes", "same", "same_tensors", "settings", "tensors"];
    assert_fields("diff", &report, &top);

    let failed = fresnel(&["edit", &model, "--json"]);
    let failed: Value = serde_json::from_str(&failed.stdout).expect("JSON");
    let message = failed["error"]["message"].as_str().expect("a message");
    assert!(message.contains("--class-names") && message.contains("--output"), "{message}");
    let failed = fresnel(&["diff", &model, &text("absent"), "--json"]);
    let failed: Value = serde_json::from_str(&failed.stdout).expect("JSON");
    assert_fields("error", &failed["error"], &["exit", "kind", "message"]);
}

#[test]
fn inspect_shows_the_codes() {
    let scratch = folder();
    let model = scratch.text("model.fresnel");
    let text = fresnel(&["inspect", &model, "--codes"]).success();
    assert!(text.contains("entropy") && text.contains("codes take "), "{text}");
    let report = fresnel(&["inspect", &model, "--codes", "--json"]).json();
    for weight in report["codes"]["weights"].as_array().expect("weights") {
        let number = |name: &str| weight[name].as_f64().expect("a number");
        let histogram = weight["histogram"].as_array().expect("counts");
        let levels = if number("bits") == 2.0 { 4 } else { 256 };
        assert_eq!(histogram.len(), levels, "{weight}");
        // Rows end at whole bytes, so that what is stored is never less than the width.
        assert!(number("stored_bits_per_weight") >= number("bits"), "{weight}");
        let entropy = number("entropy_bits_per_weight");
        assert!((0.5..=number("bits")).contains(&entropy), "{weight}");
    }
    assert!(report["codes"]["entropy_bytes"].as_f64() <= report["codes"]["stored_bytes"].as_f64());
}

#[test]
fn classes_have_numbers_until_they_have_names() {
    let scratch = folder();
    let (model, picture) = (scratch.text("model.fresnel"), scratch.text("photos/0.png"));
    let plain = fresnel(&["classify", &model, &picture, "-k", "7"]);
    assert!(plain.stderr.contains("--class-names"), "{}", plain.stderr);
    let plain = plain.success();
    assert!(plain.contains("class 6") && plain.contains("loaded in"), "{plain}");
    let names: String = (0..7).map(|class| format!("name{class}\n")).collect();
    let names = scratch.write("names.txt", names);
    let named = fresnel(&["classify", &model, &picture, "-k", "7", "--class-names", &names]);
    assert_eq!(named.stderr, "");
    let named = named.success();
    for class in 0..7 {
        assert!(named.contains(&format!("name{class}")), "{named}");
    }
    run("fresnel-run", &["classify", &model, &picture, "--class-names", &scratch.text("list.csv")])
        .assert_fails(3, &["list.csv", "7 class names", "found 2"]);
}

#[test]
fn shells_get_completions_of_both_programs() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        for (program, command) in [("fresnel", "quantize"), ("fresnel-run", "classify")] {
            let script = fresnel(&["completions", shell, "--program", program]).success();
            for part in [program, command, "quiet"] {
                assert!(script.contains(part), "{shell} {program} {part}");
            }
        }
    }
    fresnel(&["completions", "tcsh"]).assert_fails(2, &["tcsh"]);
}

#[test]
fn manual_pages_cover_both_programs() {
    let scratch = Scratch::new();
    let folder = scratch.text("man");
    let report = fresnel(&["man", "-o", &folder, "--json"]).json();
    let pages: Vec<&str> =
        report["pages"].as_array().expect("pages").iter().filter_map(Value::as_str).collect();
    for page in ["fresnel.1", "fresnel-quantize.1", "fresnel-run.1", "fresnel-run-run.1"] {
        assert_eq!(pages.iter().filter(|name| **name == page).count(), 1, "{page} of {pages:?}");
    }
    for page in &pages {
        let text = String::from_utf8(scratch.bytes(&format!("man/{page}"))).expect("UTF-8");
        for section in [".SH NAME", ".SH SYNOPSIS", ".SH EXAMPLES"] {
            assert!(text.contains(section), "{page}: {section}");
        }
    }
    for program in ["fresnel.1", "fresnel-run.1"] {
        let text = String::from_utf8(scratch.bytes(&format!("man/{program}"))).expect("UTF-8");
        assert!(text.contains(".SH \"EXIT STATUS\""), "{program}: {text}");
    }
    fresnel(&["man", "-o", &folder]).assert_fails(4, &["exists already"]);
    fresnel(&["man", "-o", &folder, "--force"]).success();
}
