//! The program `fresnel-run` from outside: results, messages, exit codes, and files left alone.
#![cfg(feature = "cli")]

mod bench;
#[path = "../fixture/mod.rs"]
mod fixture;
mod folder;

use std::fs;
use std::path::Path;
use std::process::Stdio;

use safetensors::tensor::SafeTensors;
use serde_json::Value;

use folder::{CLASSES, Folder, config};

fn logits(path: &Path) -> (Vec<usize>, Vec<u8>) {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor("logits").unwrap();
    (tensor.shape().to_vec(), tensor.data().to_vec())
}

const RUN: [&str; 6] =
    ["run", "model.fresnel", "--input", "input.safetensors", "--output", "out.safetensors"];

#[test]
fn run_writes_logits_and_overwrites_only_by_force() {
    let folder = Folder::new();
    let output = folder.run(&RUN);
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    let (shape, first) = logits(&folder.path("out.safetensors"));
    assert_eq!(shape, [2, CLASSES]);

    folder.fails(&RUN, 4, "exists already");
    assert_eq!(logits(&folder.path("out.safetensors")).1, first);

    let report = folder.json(&[&RUN[..], &["--force", "--json", "--threads", "2"]].concat());
    assert_eq!(report["shape"], serde_json::json!([2, CLASSES]));
    assert_eq!(report["compute"], "f32");
    assert_eq!(logits(&folder.path("out.safetensors")).1, first);

    folder.fails(
        &[
            "run",
            "model.fresnel",
            "--input",
            "input.safetensors",
            "--output",
            "input.safetensors",
            "--force",
        ],
        4,
        "is an input of this command",
    );
}

#[test]
fn bad_inputs_leave_no_output() {
    let folder = Folder::new();
    let mut pixels = vec![0.5; 3 * 64];
    pixels[17] = f32::NAN;
    folder.tensor("nan.safetensors", "input", &[1, 3, 8, 8], &pixels);
    folder.tensor("shape.safetensors", "input", &[1, 3, 4, 16], &[0.0; 192]);
    folder.tensor("name.safetensors", "pixels", &[1, 3, 8, 8], &[0.0; 192]);
    fs::write(folder.path("text.safetensors"), "no tensors").unwrap();
    let good = fs::read(folder.path("model.fresnel")).unwrap();
    fs::write(folder.path("short.fresnel"), &good[..good.len() - 100]).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 4;
    fs::write(folder.path("flipped.fresnel"), flipped).unwrap();
    let before = folder.names().len();

    let input = |file| ["run", "model.fresnel", "--input", file, "--output", "out.safetensors"];
    folder.fails(&input("nan.safetensors"), 3, "pixel 17 ");
    folder.fails(
        &input("shape.safetensors"),
        3,
        "expected shape [batch, 3, 8, 8], found [1, 3, 4, 16]",
    );
    folder.fails(
        &input("name.safetensors"),
        3,
        "expected a tensor named \"input\", found [\"pixels\"]",
    );
    folder.fails(&input("text.safetensors"), 3, "not a safetensors file");
    folder.fails(&input("missing.safetensors"), 4, "missing.safetensors");
    for (model, exit) in
        [("short.fresnel", 3), ("flipped.fresnel", 3), ("missing.fresnel", 4), ("picture.png", 3)]
    {
        let arguments =
            ["run", model, "--input", "input.safetensors", "--output", "out.safetensors"];
        folder.fails(&arguments, exit, model);
        folder.fails(&["verify", model], exit, model);
        folder.fails(&["inspect", model], exit, model);
        folder.fails(&["bench", "model.fresnel", model], exit, model);
    }
    folder.fails(&["classify", "model.fresnel", "input.safetensors"], 3, "input.safetensors");
    folder.fails(&[&RUN[..], &["--compute", "half"]].concat(), 5, "compute half needs");
    folder.fails(
        &["run", "model.fresnel", "--input", "input.safetensors", "--output", "no/out.safetensors"],
        4,
        "directory does not exist",
    );
    assert_eq!(folder.names().len(), before, "{:?}", folder.names());
}

#[test]
fn classify_names_classes() {
    let folder = Folder::new();
    let report = folder.json(&[
        "classify",
        "model.fresnel",
        "picture.png",
        "picture.png",
        "--top",
        "2",
        "--json",
    ]);
    let images = report["images"].as_array().unwrap();
    assert_eq!(images.len(), 2);
    let classes = images[0]["classes"].as_array().unwrap();
    assert_eq!(classes.len(), 2);
    assert!(classes[0]["probability"].as_f64() >= classes[1]["probability"].as_f64());
    assert!(images[0]["milliseconds"].is_number());
    let names = ["ash", "beech", "cedar", "date"];
    let index = classes[0]["index"].as_u64().unwrap() as usize;
    assert_eq!(classes[0]["name"], names[index]);

    let output = folder.run(&["classify", "model.fresnel", "picture.png"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(names.iter().all(|name| text.contains(name)), "{text}");
}

#[test]
fn inspect_and_verify_describe_the_file() {
    let folder = Folder::new();
    let report = folder.json(&["inspect", "model.fresnel", "--json"]);
    let length = fs::metadata(folder.path("model.fresnel")).unwrap().len();
    assert_eq!(report["file_bytes"], length);
    assert!(report["bound_bytes"].as_u64().unwrap() <= length);
    assert_eq!(report["measured"]["int8_agreement"], 97.5);
    assert_eq!(report["recipe"]["method"], "none");
    assert_eq!(report["config"]["embed_dim"], 8);
    let layers = report["layers"].as_array().unwrap();
    assert_eq!(layers.len(), config().tensors().len());
    let qkv = layers.iter().find(|layer| layer["name"] == "blocks.0.attn.qkv.weight").unwrap();
    assert_eq!(qkv["shape"], serde_json::json!([24, 8]));
    assert_eq!((qkv["bits"].as_f64(), qkv["bytes"].as_u64()), (Some(32.0), Some(768)));
    let text =
        String::from_utf8(folder.run(&["inspect", "model.fresnel", "--kernels"]).stdout).unwrap();
    assert!(text.contains("blocks.0.mlp.fc2") && text.contains("-w32a32-"), "{text}");

    assert_eq!(folder.json(&["verify", "model.fresnel", "--json"])["valid"], true);
}

#[test]
fn usage_errors_exit_with_2() {
    let folder = Folder::new();
    folder.fails(&["bench", "model.fresnel", "--batch", "0"], 2, "must be at least 1");
    for iterations in ["0", "1048577", "18446744073709551615"] {
        let arguments = ["bench", "model.fresnel", "--iterations", iterations];
        folder.fails(&arguments, 2, "must be in 1..=1048576");
    }
    for arguments in
        [&["run", "model.fresnel"][..], &["classify"], &["bench", "--compute", "f64"], &["fly"]]
    {
        let output = folder.run(&[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let object: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(object["error"]["kind"], "usage");
    }
    let help = folder.run(&["bench", "--help"]);
    assert!(help.status.success());
    assert!(String::from_utf8(help.stdout).unwrap().contains("Examples:"));
}

/// A reader that leaves early, such as `head`, is not an error.
#[test]
fn closed_output_ends_quietly() {
    let folder = Folder::new();
    let mut command = folder.command(&["inspect", "model.fresnel"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn devices_are_listed_and_models_run_where_they_are_told() {
    let folder = Folder::new();
    let listed = folder.run(&["devices", "--json"]);
    let devices: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(devices["gpu_support"], cfg!(feature = "gpu"));
    assert!(devices["cpu"]["modes"].as_array().is_some_and(|modes| modes.len() >= 2));
    assert!(folder.run(&["devices"]).stdout.starts_with(b"cpu "));

    let on = |device: &str| {
        let flags = ["--force", "--json", "--compute", "f32", "--device", device];
        let output = folder.run(&[&RUN[..], &flags].concat());
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    assert_eq!(on("cpu")["device"], "cpu");
    let expected = logits(&folder.path("out.safetensors"));
    // Drivers may have something to say on standard error, too.
    let refused = |device: &str, exit: i32, text: &str| {
        let output = folder.run(&[&RUN[..], &["--force", "--device", device]].concat());
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(exit), "{message}");
        assert!(message.contains(text), "{message}");
    };
    refused("cuda", 2, "expected cpu, gpu, gpu:INDEX, gpu:NAME or auto");
    if !cfg!(feature = "gpu") {
        assert_eq!(on("auto")["device"], "cpu");
        refused("gpu", 5, "this build has no GPU support: build with --features gpu");
        return;
    }
    refused("gpu:no such adapter", 5, "no such adapter");
    if devices["gpus"].as_array().is_some_and(|gpus| !gpus.is_empty()) {
        assert_ne!(on("gpu")["device"], "cpu");
        let (shape, _) = logits(&folder.path("out.safetensors"));
        assert_eq!(shape, expected.0);
        let rows =
            folder.run(&["bench", "model.fresnel", "--device", "cpu,gpu", "--iterations", "1"]);
        assert!(rows.status.success(), "{rows:?}");
    }
}
