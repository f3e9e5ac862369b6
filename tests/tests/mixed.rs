//! Widths that differ: budgets that are never exceeded, layers by name, dry runs, and recipes that
//! make the same file again.

use std::fs;

use fresnel_tests::fixture;
use fresnel_tests::programs::{Finished, fresnel};
use fresnel_tests::scratch::Scratch;
use serde_json::Value;

const USAGE: i32 = 2;
const BAD_INPUT: i32 = 3;

/// A folder with a few small pictures, and a place for results.
fn bench() -> Scratch {
    let bench = Scratch::new();
    bench.pictures("photos", 9);
    bench
}

/// The checkpoint of all these tests.
fn model() -> String {
    fixture("tiny_variants/deit3_like").to_str().expect("a UTF-8 path").to_owned()
}

/// `quantize` with calibration images.
fn quantize(bench: &Scratch, output: &str, extra: &[&str]) -> Finished {
    let (photos, output) = (bench.text("photos"), bench.text(output));
    let flags = ["quantize", &model(), "--calib", &photos, "-o", &output, "--json"];
    fresnel(&[&flags[..], extra].concat())
}

fn dry(extra: &[&str]) -> Finished {
    fresnel(&[&["quantize", &model(), "--dry-run"], extra].concat())
}

/// The recipe of a file, in a file.
fn recipe_of(bench: &Scratch, file: &str) -> String {
    let text = fresnel(&["inspect", &bench.text(file), "--recipe"]).success();
    bench.write(&format!("{file}.toml"), text)
}

const CPU: [&str; 2] = ["--device", "cpu"];

fn widths(report: &Value) -> Vec<(String, String)> {
    let layers = report["layers"].as_array().expect("layers").iter();
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    layers
        .map(|layer| (text(&layer["name"]), text(&layer["bits"])))
        .filter(|(name, _)| name.starts_with("blocks."))
        .collect()
}

#[test]
fn no_budget_is_exceeded() {
    let bench = bench();
    for (index, size) in ["141KB", "150KB", "160000", "0.17MB", "200KiB"].iter().enumerate() {
        let target = [141_000, 150_000, 160_000, 170_000, 204_800][index];
        let name = format!("{index}.fresnel");
        let report = quantize(
            &bench,
            &name,
            &[&["--target-size", *size, "--method", "beacon-plus"], &CPU[..]].concat(),
        )
        .json();
        let length = bench.bytes(&name).len() as u64;
        assert!(length <= target, "{length} bytes for --target-size {size}");
        // A step of the smallest layer is 2.3 kB; above 193 kB everything is at 4 bits.
        assert!(length + 3_000 >= target.min(193_000), "{length} bytes for --target-size {size}");
        assert_eq!(report["file_bytes"].as_u64(), Some(length));
        let sensitivities = report["sensitivities"].as_array().expect("sensitivities");
        assert_eq!(sensitivities.len(), 8);
        for layer in sensitivities {
            let loss = |bits: &str| layer["losses"][bits].as_f64().expect("a loss");
            assert!(loss("1.58") > loss("4") && loss("4") > 0.0, "{layer}");
        }
        fresnel(&["verify", &bench.text(&name)]).success();
    }
}

#[test]
fn averages_are_kept_and_fixed_layers_count() {
    let bench = bench();
    for (bits, extra) in [
        ("2", &[][..]),
        ("2.5", &["--method", "rtn"]),
        ("3.1", &["--method", "gptq", "--layer-bits", "*.fc1=2,blocks.1.*.fc1=4"]),
        ("5", &["--candidate-bits", "3,8"]),
    ] {
        let name = format!("{bits}.fresnel");
        let report =
            quantize(&bench, &name, &[&["--average-bits", bits], extra, &CPU[..]].concat()).json();
        let average = report["average_bits"].as_f64().expect("an average");
        let bits: f64 = bits.parse().expect("a number");
        assert!(average <= bits + 1e-9 && average > bits - 0.4, "{average} of {bits}");
        if bits == 3.1 {
            let widths = widths(&report);
            assert!(widths.contains(&("blocks.0.mlp.fc1.weight".to_owned(), "2".to_owned())));
            assert!(widths.contains(&("blocks.1.mlp.fc1.weight".to_owned(), "4".to_owned())));
        }
        if bits == 5.0 {
            assert!(widths(&report).iter().all(|(_, width)| width == "3" || width == "8"));
        }
    }
}

#[test]
fn a_recipe_makes_the_same_file_again() {
    let bench = bench();
    for (name, extra) in [
        ("uniform", &["--bits", "2"][..]),
        ("named", &["--bits", "3", "--layer-bits", "*.proj=1.58", "--layer-bits", "*.0.*=4"]),
        ("mixed", &["--average-bits", "2.3", "--method", "beacon-plus"]),
        (
            "settled",
            &[
                "--target-size",
                "240KB",
                "--method",
                "gptq-star",
                "--sweeps",
                "2",
                "--act-order",
                "--damping",
                "0.02",
                "--error-correction",
                "0.5",
                "--stream-correction",
                "0.125",
                "--token-weights",
                "class:3.5",
                "--edge-bits",
                "16",
                "--seed",
                "18446744073709551615",
                "--calib-count",
                "7",
            ],
        ),
        (
            "float_statistics",
            &["--bits", "2", "--method", "beacon", "--calibrate-on", "float", "--symmetric"],
        ),
        ("fisher", &["--bits", "2", "--token-weights", "fisher"]),
        ("comq", &["--bits", "3", "--method", "comq", "--comq-scale", "0.9"]),
        ("comq_updated", &["--bits", "3", "--method", "comq"]),
        ("tuned", &["--bits", "2", "--tune", "norms", "--tune-epochs", "1"]),
        ("data_free", &["--bits", "4", "--method", "rtn", "--symmetric"]),
        ("float", &["--bits", "16"]),
    ] {
        quantize(&bench, name, &[extra, &CPU[..]].concat()).success();
        let recipe = recipe_of(&bench, name);
        let again = format!("{name}.again");
        quantize(&bench, &again, &["--recipe", &recipe]).success();
        let text = fs::read_to_string(recipe).expect("a recipe");
        assert!(bench.bytes(name) == bench.bytes(&again), "{name} differs:\n{text}");
    }
}

#[test]
fn flags_override_the_recipe() {
    let bench = bench();
    let recipe = bench.write(
        "r.toml",
        "[widths]\naverage_bits = 2.5\nlayers = [\"*.proj=3\"]\n[method]\nname = \"rtn\"\n",
    );
    let report = dry(&["--recipe", &recipe, "--bits", "2", "--json"]).json();
    assert!(widths(&report).iter().all(|(_, width)| width == "2"), "{report}");
    let recipe = bench.write("s.toml", "[widths]\nbits = 2\nlayers = [\"*.proj=3\"]\n");
    let flags = ["--recipe", &recipe, "--layer-bits", "blocks.1.attn.*=8", "--json"];
    let report = dry(&flags).json();
    for (name, width) in widths(&report) {
        let expected = match (name.contains("1.attn"), name.contains("proj")) {
            (true, _) => "8",
            (false, true) => "3",
            (false, false) => "2",
        };
        assert_eq!(width, expected, "{name}");
    }
}

#[test]
fn a_dry_run_states_the_size_of_the_file() {
    let bench = bench();
    for extra in [
        &["--bits", "2"][..],
        &["--bits", "1.58", "--edge-bits", "16"],
        &["--bits", "3", "--layer-bits", "*.qkv=2", "--edge-bits", "32"],
        &["--bits", "16"],
        &["--bits", "32"],
    ] {
        let plan = dry(&[extra, &["--json"]].concat()).json();
        let extra = [extra, &["--device", "cpu", "--force"]].concat();
        let report = quantize(&bench, "real.fresnel", &extra).json();
        assert_eq!(plan["bound_bytes"], report["bound_bytes"], "{extra:?}");
        let bytes = |value: &Value| value["file_bytes"].as_u64().expect("bytes");
        let (planned, real) = (bytes(&plan), bytes(&report));
        assert!(real <= planned && planned <= real + 1024, "{extra:?}: {planned}, {real}");
        let inspected = fresnel(&["inspect", &bench.text("real.fresnel"), "--json"]).json();
        let of = |document: &Value, name: &Value| {
            let layers = document["layers"].as_array().expect("layers").clone();
            layers.into_iter().find(|layer| &layer["name"] == name).expect("the layer")
        };
        for layer in plan["layers"].as_array().expect("layers") {
            let real = of(&inspected, &layer["name"]);
            assert_eq!(layer["bytes"], real["bytes"], "{layer}");
            assert_eq!(layer["shape"], real["shape"], "{layer}");
        }
    }
    let text = dry(&["--average-bits", "2.5"]).success();
    assert!(text.contains("measured sensitivities") && text.contains(" ? "), "{text}");
    let plan = dry(&["--target-size", "160KB", "--json"]).json();
    let average = plan["average_bits"].as_f64().expect("an average");
    assert!((1.6..4.0).contains(&average) && plan["file_bytes"].is_null(), "{plan}");
}

#[test]
fn widths_that_make_no_sense() {
    let bench = bench();
    for (flags, parts) in [
        (&["--bits", "2", "--average-bits", "2"][..], &["--average-bits"][..]),
        (&["--average-bits", "2", "--target-size", "1MB"], &["--average-bits"]),
        (&[], &["--bits", "--target-size", "--recipe"]),
        (&["--average-bits", "nan"], &["above 0 and at most 8"]),
        (&["--target-size", "12 parsecs"], &["KiB", "12 parsecs"]),
        (&["--bits", "2", "--candidate-bits", "2,3"], &["--target-size or --average-bits"]),
        (&["--average-bits", "2", "--candidate-bits", "16"], &["1.58, 2, 3, 4 or 8"]),
        (&["--bits", "2", "--layer-bits", "*=5"], &["1.58, 2, 3, 4, 8"]),
        (&["--bits", "2", "--layer-bits", "proj"], &["PATTERN=BITS"]),
        (&["--bits", "16", "--layer-bits", "*=4"], &["one width"]),
    ] {
        dry(flags).assert_fails(USAGE, parts);
    }
    for (flags, parts) in [
        (&["--bits", "2", "--layer-bits", "*.prj=3"][..], &["*.prj=3", "no layer", "mlp.fc2"][..]),
        (&["--target-size", "100KB"], &["smallest possible file takes 14", "1.58"]),
        (&["--average-bits", "1.5"], &["smallest possible average is 1.600"]),
        (&["--average-bits", "2", "--candidate-bits", "4,3"], &["average is 3.000", "with 3 bits"]),
    ] {
        dry(flags).assert_fails(BAD_INPUT, parts);
        quantize(&bench, "never", flags).assert_fails(BAD_INPUT, parts);
    }
    let output = bench.text("never");
    let flags = ["quantize", &model(), "--average-bits", "2", "--method", "rtn", "-o", &output];
    fresnel(&flags).assert_fails(USAGE, &["--average-bits 2 measures", "--calib"]);
    assert!(!bench.path("never").exists());
}

#[test]
fn recipes_that_are_none() {
    let bench = bench();
    for (text, parts) in [
        ("[widths]\nbits = 2\n\n[method]\nswoops = 3\n", &["line 5", "swoops", "sweeps"][..]),
        ("[widths]\nbits = 2\n[widht]\n", &["line 3", "widht"]),
        ("[widths]\nbits = 5\n", &["line 2", "1.58, 2, 3, 4"]),
        ("[widths]\nbits = 2\nlayers = [\"a=3\",\n \"b\"]\n", &["line", "PATTERN=BITS"]),
        ("[widths]\nbits = \n", &["line 2"]),
        ("[method]\nname = \"beacon-minus\"\n", &["line 2", "beacon-minus", "beacon-plus"]),
        ("[statistics]\ntoken_weights = \"class\"\n", &["line 2", "class:F"]),
    ] {
        let recipe = bench.write("bad.toml", text);
        let parts = [&["bad.toml"], parts].concat();
        dry(&["--recipe", &recipe]).assert_fails(BAD_INPUT, &parts);
    }
    dry(&["--recipe", &bench.text("absent.toml")]).assert_fails(4, &["absent.toml"]);
    let recipe = bench.write("r.toml", "[widths]\nbits = 2\naverage_bits = 2.5\n");
    dry(&["--recipe", &recipe]).assert_fails(USAGE, &["--bits", "exclude each other"]);
    let flags = ["--recipe", &recipe, "-o", &recipe, "--force", "--bits", "2"];
    fresnel(&[&["quantize", &model(), "--method", "rtn"], &flags[..]].concat())
        .assert_fails(4, &["is an input"]);
}
