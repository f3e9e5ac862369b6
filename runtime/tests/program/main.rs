//! The program `fresnel-run` from outside: results, messages, exit codes, and files left alone.
#![cfg(feature = "cli")]

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use fresnel_runtime::format::{
    CropMode, Encoding, Interpolation, ManifestParts, Preprocessing, TensorData, write,
};
use fresnel_runtime::model::config::{Activation, Pooling, VitConfig};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;

const CLASSES: usize = 4;

fn config() -> VitConfig {
    VitConfig {
        architecture: "tiny".into(),
        image_size: [8, 8],
        patch_size: [4, 4],
        in_channels: 3,
        embed_dim: 8,
        depth: 1,
        num_heads: 2,
        mlp_hidden: 16,
        qkv_bias: true,
        proj_bias: true,
        qk_norm: false,
        class_token: true,
        distillation_token: false,
        register_tokens: 0,
        position_embedding: true,
        no_embed_class: false,
        pre_norm: false,
        layer_scale: false,
        final_norm: true,
        fc_norm: false,
        pooling: Pooling::Token,
        pool_include_prefix: false,
        activation: Activation::GeluErf,
        norm_epsilon: 1e-6,
        num_classes: CLASSES as u32,
    }
}

/// A folder with a model, a tensor of two images and a picture.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let config = config();
        let mut state = 7u32;
        let mut number = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let tensors: Vec<TensorData> = config
            .tensors()
            .into_iter()
            .map(|spec| {
                let count: u32 = spec.shape.iter().product();
                TensorData {
                    name: spec.name,
                    shape: spec.shape,
                    encoding: Encoding::F32,
                    bytes: Cow::Owned((0..count).flat_map(|_| number().to_le_bytes()).collect()),
                }
            })
            .collect();
        let parts = ManifestParts {
            preprocessing: Preprocessing {
                input_size: config.image_size,
                crop_pct: 1.0,
                crop_mode: CropMode::Center,
                interpolation: Interpolation::Bilinear,
                mean: [0.5; 3],
                std: [0.5; 3],
            },
            config,
            class_names: ["ash", "beech", "cedar", "date"].map(String::from).into(),
            recipe: vec![("method".into(), "none".into())],
            provenance: Vec::new(),
            measured: vec![("int8_agreement".into(), 97.5)],
            metadata: Vec::new(),
        };
        write(folder.path("model.fresnel"), false, &parts, &tensors).unwrap();
        let pixels: Vec<f32> = (0..2 * 3 * 64).map(|_| number()).collect();
        folder.tensor("input.safetensors", "input", &[2, 3, 8, 8], &pixels);
        let picture = image::RgbImage::from_fn(20, 12, |x, y| image::Rgb([x as u8, y as u8, 9]));
        picture.save(folder.path("picture.png")).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn tensor(&self, file: &str, name: &str, shape: &[usize], values: &[f32]) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, shape.to_vec(), &bytes).unwrap();
        fs::write(self.path(file), safetensors::serialize([(name, view)], None).unwrap()).unwrap();
    }

    /// Runs the program in this folder.
    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fresnel-run"));
        command.args(arguments).current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Expects exit code `exit` and `text` in the one line on standard error.
    fn fails(&self, arguments: &[&str], exit: i32, text: &str) {
        let output = self.run(arguments);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {message}");
        assert!(
            message.starts_with("error: ") && message.contains(text),
            "{arguments:?}: {message}"
        );
        assert_eq!(message.lines().count(), 1, "{message}");
        assert!(output.stdout.is_empty());

        let output = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(exit));
        let object: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(object["error"]["message"].as_str().unwrap().contains(text), "{object}");
        assert!(object["error"]["kind"].is_string());
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

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
    folder.fails(&[&RUN[..], &["--compute", "half"]].concat(), 5, "not available here");
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
fn bench_reports_one_object_per_model_and_mode() {
    let folder = Folder::new();
    let arguments = [
        "bench",
        "model.fresnel",
        "model.fresnel",
        "--compute",
        "f32,int8",
        "--threads",
        "1",
        "--batch",
        "2",
        "--iterations",
        "3",
        "--json",
    ];
    let output = folder.run(&arguments);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4, "{text}");
    for (line, compute) in lines.iter().zip(["f32", "int8", "f32", "int8"]) {
        assert_eq!(line["compute"], compute);
        assert_eq!(line["threads"], 1);
        assert_eq!(line["batch"], 2);
        for key in ["median_ms", "min_ms", "images_per_second", "file_bytes"] {
            assert!(line[key].as_f64().unwrap() > 0.0, "{key}: {line}");
        }
        assert_eq!(line["peak_rss_bytes"].is_u64(), cfg!(target_os = "linux"));
        assert!(line["kernel"].as_str().unwrap().contains("-w32a32-"), "{line}");
    }
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
    for arguments in [
        &["bench", "model.fresnel", "--batch", "0"][..],
        &["bench", "model.fresnel", "--iterations", "0"],
    ] {
        folder.fails(arguments, 2, "must be at least 1");
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
