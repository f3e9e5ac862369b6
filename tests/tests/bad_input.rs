//! Bad input: one clear line, a stable exit code, nothing overwritten, nothing half written.

use std::fs;
use std::path::{Path, PathBuf};

use fresnel_tests::fixture;
use fresnel_tests::programs::{Finished, fresnel, run};
use fresnel_tests::scratch::Scratch;

const USAGE: i32 = 2;
const BAD_INPUT: i32 = 3;
const IO: i32 = 4;

/// A scratch folder with a checkpoint that tests may spoil.
fn checkpoint() -> Scratch {
    let scratch = Scratch::new();
    let source = fixture("tiny_variants/average_pool");
    for name in ["model.safetensors", "config.json"] {
        fs::copy(source.join(name), scratch.path(name)).expect("a copy");
    }
    scratch
}

fn quantize(scratch: &Scratch, extra: &[&str]) -> Finished {
    let (model, output) = (scratch.text(""), scratch.text("out.fresnel"));
    let mut arguments = vec!["quantize", &model, "-o", &output];
    arguments.extend(extra);
    fresnel(&arguments)
}

fn good_model(scratch: &Scratch) -> PathBuf {
    quantize(scratch, &["--bits", "4", "--method", "rtn"]).success();
    scratch.path("out.fresnel")
}

fn edit_config(scratch: &Scratch, from: &str, to: &str) {
    let text = fs::read_to_string(scratch.path("config.json")).expect("a configuration");
    assert!(text.contains(from), "{from} in {text}");
    scratch.write("config.json", text.replace(from, to));
}

#[test]
fn a_checkpoint_that_is_missing_or_not_understood() {
    let scratch = checkpoint();
    let missing = scratch.text("nowhere");
    fresnel(&["quantize", &missing, "--bits", "2", "--method", "rtn", "-o", &scratch.text("o")])
        .assert_fails(IO, &["nowhere", "not found"]);

    for (name, part) in [("a.fresnel", "a quantized model"), ("a.pth", "save_file")] {
        let (name, output) = (scratch.text(name), scratch.text("o"));
        fresnel(&["quantize", &name, "--bits", "32", "-o", &output])
            .assert_fails(BAD_INPUT, &[part]);
    }

    edit_config(&scratch, "vit_tiny_patch16_224", "resnet50");
    quantize(&scratch, &["--bits", "2", "--method", "rtn"])
        .assert_fails(BAD_INPUT, &["resnet50", "expected one of"]);
    edit_config(&scratch, "resnet50", "vit_tiny_patch16_224");

    edit_config(&scratch, "\"depth\": 2", "\"depth\": 3");
    quantize(&scratch, &["--bits", "2", "--method", "rtn"])
        .assert_fails(BAD_INPUT, &["missing", "blocks.2.attn.qkv.weight", "blocks.2.norm1.bias"]);
    edit_config(&scratch, "\"depth\": 3", "\"depth\": 1");
    quantize(&scratch, &["--bits", "2", "--method", "rtn"])
        .assert_fails(BAD_INPUT, &["unexpected", "blocks.1.mlp.fc1.weight"]);
    edit_config(&scratch, "\"depth\": 1", "\"depth\": 2, \"head_bias\": false");
    quantize(&scratch, &["--bits", "2", "--method", "rtn"])
        .assert_fails(BAD_INPUT, &["head_bias", "not understood"]);
    edit_config(&scratch, "\"depth\": 2, \"head_bias\": false", "\"depth\": \"two\"");
    quantize(&scratch, &["--bits", "2", "--method", "rtn"])
        .assert_fails(BAD_INPUT, &["depth", "two"]);

    fs::write(scratch.path("config.json"), "{").expect("written");
    quantize(&scratch, &["--bits", "2", "--method", "rtn"])
        .assert_fails(BAD_INPUT, &["config.json", "JSON"]);
    assert_eq!(scratch.entries(), ["config.json", "model.safetensors"]);
}

#[test]
fn preprocessing_that_no_image_survives() {
    let scratch = checkpoint();
    // Found in the configuration, before anything else is read.
    scratch.write("model.safetensors", "no weights");
    let good = scratch.bytes("config.json");
    for (from, to, parts) in [
        ("\"crop_pct\": 1.0", "\"crop_pct\": 1.5", ["crop_pct", "found 1.5"]),
        ("\"crop_pct\": 1.0", "\"crop_pct\": 0", ["crop_pct", "found 0"]),
        ("\"std\": [", "\"std\": 0, \"was\": [", ["std", "found 0"]),
        ("\"mean\": [", "\"mean\": 1e9, \"was\": [", ["mean", "found 1000000000"]),
    ] {
        edit_config(&scratch, from, to);
        let parts = [&["config.json"], &parts[..]].concat();
        quantize(&scratch, &["--bits", "2", "--method", "rtn"]).assert_fails(BAD_INPUT, &parts);
        quantize(&scratch, &["--bits", "2", "--dry-run"]).assert_fails(BAD_INPUT, &parts);
        scratch.write("config.json", &good);
    }
    assert_eq!(scratch.entries(), ["config.json", "model.safetensors"]);
}

#[test]
fn weights_that_are_damaged_or_not_finite() {
    let scratch = checkpoint();
    let good = fs::read(scratch.path("model.safetensors")).expect("weights");
    fs::write(scratch.path("model.safetensors"), &good[..good.len() - 1]).expect("written");
    quantize(&scratch, &["--bits", "2", "--method", "rtn"])
        .assert_fails(BAD_INPUT, &["model.safetensors", "safetensors file"]);

    let mut spoiled = good;
    let end = spoiled.len();
    spoiled[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(scratch.path("model.safetensors"), spoiled).expect("written");
    quantize(&scratch, &["--bits", "2", "--method", "rtn"])
        .assert_fails(BAD_INPUT, &["expected finite weights", "NaN"]);
    assert_eq!(scratch.entries(), ["config.json", "model.safetensors"]);
}

#[test]
fn class_names_that_are_too_few() {
    let scratch = checkpoint();
    let names = scratch.path("names.txt");
    fs::write(&names, "cat\ndog\n").expect("written");
    let flags = ["--bits", "2", "--method", "rtn", "--class-names", &scratch.text("names.txt")];
    quantize(&scratch, &flags).assert_fails(BAD_INPUT, &["names.txt", "7 class names", "found 2"]);
    fs::write(&names, "a\nb\nc\nd\ne\nf\ng\n").expect("written");
    quantize(&scratch, &flags).success();
    let picture = scratch.text("picture.png");
    image::RgbImage::new(8, 8).save(&picture).expect("a picture");
    let answer =
        fresnel(&["classify", &scratch.text("out.fresnel"), &picture, "--top", "7"]).success();
    for name in ["a", "g"] {
        assert!(
            answer.lines().any(|line| line.trim_end().ends_with(&format!(" {name}"))),
            "{answer}"
        );
    }
}

#[test]
fn flags_that_make_no_sense_together() {
    let scratch = checkpoint();
    let photos = scratch.text("photos");
    for (flags, part) in [
        (&["--bits", "2"][..], "--calib"),
        (&["--bits", "5", "--method", "rtn"], "1.58, 2, 3, 4, 8, 16, 32"),
        (&["--bits", "2", "--method", "rtn", "--edge-bits", "3"], "8, 16 or 32"),
        (&["--bits", "32", "--edge-bits", "8"], "one width"),
        (&["--bits", "2", "--method", "rtn", "--sweeps", "3"], "--sweeps"),
        (&["--bits", "2", "--calib", &photos, "--sweeps", "4294967295"], "at most 10000"),
        (&["--bits", "2", "--method", "rtn", "--threads", "100000"], "at most 256"),
        (&["--bits", "2", "--calib", &photos, "--act-order"], "--act-order"),
        (&["--bits", "2", "--calib", &photos, "--token-weights", "class:-1"], "class:F"),
        (&["--bits", "32", "--token-weights", "none"], "--token-weights"),
        (&["--bits", "2", "--calib", &photos, "--error-correction", "2"], "from 0 to 1"),
        (&["--bits", "2", "--calib", &photos, "--error-correction", "nan"], "from 0 to 1"),
        (
            &[
                "--bits",
                "2",
                "--calib",
                &photos,
                "--calibrate-on",
                "float",
                "--error-correction",
                "1",
            ],
            "--calibrate-on float",
        ),
    ] {
        quantize(&scratch, flags).assert_fails(USAGE, &[part]);
    }
    assert_eq!(scratch.entries(), ["config.json", "model.safetensors"]);
}

#[test]
fn calibration_images_that_are_none() {
    let scratch = checkpoint();
    let photos = scratch.path("photos");
    fs::create_dir(&photos).expect("a folder");
    let calibrate = |extra: &[&str]| {
        let photos = scratch.text("photos");
        let mut arguments = vec!["--bits", "2", "--device", "cpu", "--calib", &photos];
        arguments.extend(extra);
        quantize(&scratch, &arguments)
    };
    calibrate(&[]).assert_fails(BAD_INPUT, &["photos"]);
    fs::write(photos.join("broken.jpg"), "this is no photograph").expect("written");
    calibrate(&[]).assert_fails(BAD_INPUT, &["broken.jpg"]);
    calibrate(&["--calib-count", "2"])
        .assert_fails(BAD_INPUT, &["2 calibration images", "1 found"]);
    fresnel(&[
        "quantize",
        &scratch.text(""),
        "--bits",
        "2",
        "--calib",
        &scratch.text("absent"),
        "-o",
        &scratch.text("o"),
    ])
    .assert_fails(IO, &["absent"]);
    assert_eq!(scratch.entries(), ["config.json", "model.safetensors", "photos"]);
}

#[test]
fn a_calibration_image_is_never_the_output() {
    let scratch = checkpoint();
    let picture = scratch.text("picture.png");
    image::RgbImage::new(32, 32).save(&picture).expect("a picture");
    let before = fs::read(&picture).expect("a picture");
    let (model, folder) = (scratch.text(""), scratch.text(""));
    let flags = ["--bits", "2", "--device", "cpu", "--calib", &folder, "--force"];
    fresnel(&[&["quantize", &model, "-o", &picture], &flags[..]].concat())
        .assert_fails(IO, &["picture.png", "is an input"]);
    assert!(fs::read(&picture).expect("a picture") == before, "the image changed");
}

#[test]
fn an_output_that_exists_or_cannot_be_written() {
    let scratch = checkpoint();
    fs::write(scratch.path("out.fresnel"), "precious").expect("written");
    quantize(&scratch, &["--bits", "2", "--method", "rtn"])
        .assert_fails(IO, &["out.fresnel", "--force"]);
    assert_eq!(fs::read_to_string(scratch.path("out.fresnel")).expect("kept"), "precious");
    quantize(&scratch, &["--bits", "2", "--method", "rtn", "--force"]).success();

    fresnel(&[
        "quantize",
        &scratch.text(""),
        "--bits",
        "2",
        "--method",
        "rtn",
        "-o",
        &scratch.text("no/where/o.fresnel"),
    ])
    .assert_fails(IO, &["no/where"]);
    for input in ["model.safetensors", "config.json"] {
        let (model, input) = (scratch.text(""), scratch.text(input));
        fresnel(&["quantize", &model, "--bits", "32", "-o", &input, "--force"])
            .assert_fails(IO, &["is an input"]);
    }
    assert_eq!(scratch.entries(), ["config.json", "model.safetensors", "out.fresnel"]);
}

#[test]
fn a_model_file_that_is_damaged() {
    let scratch = checkpoint();
    let path = good_model(&scratch);
    let good = fs::read(&path).expect("a model");
    let damaged = scratch.path("damaged.fresnel");
    let text = scratch.text("damaged.fresnel");
    let spoil = |bytes: &[u8]| fs::write(&damaged, bytes).expect("written");
    let refused = |parts: &[&str]| {
        for program in ["fresnel", "fresnel-run"] {
            for command in ["verify", "inspect", "bench"] {
                run(program, &[command, &text]).assert_fails(BAD_INPUT, parts);
            }
        }
    };
    spoil(&good[..good.len() - 1]);
    refused(&["damaged.fresnel"]);
    spoil(&good[..10]);
    refused(&["damaged.fresnel"]);
    for position in [9, 70, good.len() / 2, good.len() - 1] {
        let mut flipped = good.clone();
        flipped[position] ^= 4;
        spoil(&flipped);
        refused(&["damaged.fresnel"]);
    }
    spoil(
        b"GIF89a and then something long enough to hold a whole header, which this is not at all",
    );
    refused(&["damaged.fresnel"]);
    for command in ["verify", "inspect", "bench"] {
        run("fresnel-run", &[command, &scratch.text("absent.fresnel")])
            .assert_fails(IO, &["absent.fresnel"]);
    }
}

#[test]
fn inputs_that_do_not_fit_the_model() {
    let scratch = checkpoint();
    let model = good_model(&scratch);
    let model = model.to_str().expect("a path");
    let wrong = fixture("tiny_variants/deit3_like/reference.safetensors");
    fresnel(&[
        "run",
        model,
        "--input",
        wrong.to_str().expect("a path"),
        "--output",
        &scratch.text("o"),
    ])
    .assert_fails(BAD_INPUT, &["input"]);
    fs::write(scratch.path("text.jpg"), "no picture").expect("written");
    fresnel(&["classify", model, &scratch.text("text.jpg")]).assert_fails(BAD_INPUT, &["text.jpg"]);
    // One on which the JPEG decoder panics.
    let found = "fuzz/corpus/image_decode/finding-jpeg-decoder-panics";
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join(found);
    let path = found.to_str().expect("a path");
    fresnel(&["classify", model, path]).assert_fails(BAD_INPUT, &[path, "JPEG file is damaged"]);
    fs::write(scratch.path("list.csv"), "file\ntext.jpg\n").expect("written");
    fresnel(&["eval", model, "--data", &scratch.text("list.csv")])
        .assert_fails(BAD_INPUT, &["label"]);
    assert!(!Path::new(&scratch.text("o")).exists());
}

#[test]
fn failures_are_json_where_json_was_asked_for() {
    let scratch = checkpoint();
    let failed = fresnel(&["inspect", &scratch.text("absent.fresnel"), "--json"]);
    assert_eq!(failed.code, IO);
    let object: serde_json::Value = serde_json::from_str(&failed.stdout).expect("JSON");
    assert_eq!(object["error"]["kind"], "io");
    assert_eq!(object["error"]["exit"], IO);
}
