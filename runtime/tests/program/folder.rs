//! A folder with files to work on, and the program run inside it.

use std::borrow::Cow;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use fresnel_runtime::format::{
    CodeWidth, CropMode, Encoding, Interpolation, ManifestParts, Preprocessing, TensorData, write,
};
use fresnel_runtime::model::config::{Role, TensorSpec, VitConfig};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

use crate::fixture::deit_tiny;

pub(crate) const CLASSES: usize = 4;

/// One block of width 8.
pub(crate) fn config() -> VitConfig {
    VitConfig {
        architecture: "tiny".into(),
        image_size: [8, 8],
        patch_size: [4, 4],
        embed_dim: 8,
        depth: 1,
        num_heads: 2,
        mlp_hidden: 16,
        num_classes: CLASSES as u32,
        ..deit_tiny()
    }
}

/// A folder with a model `model.fresnel` of 32-bit weights, another, `coded.fresnel`, whose blocks have codes of 2 bit, a
/// tensor of two images and a picture.
pub(crate) struct Folder(tempfile::TempDir);

/// Pseudo-random numbers in -1..1.
struct Numbers(u32);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    fn bytes(&mut self, count: u32) -> Vec<u8> {
        (0..count).flat_map(|_| self.next().to_le_bytes()).collect()
    }
}

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let mut numbers = Numbers(7);
        folder.model("model.fresnel", |spec| floats(spec, &mut numbers));
        let pixels: Vec<f32> = (0..2 * 3 * 64).map(|_| numbers.next()).collect();
        folder.tensor("input.safetensors", "input", &[2, 3, 8, 8], &pixels);
        folder.model("coded.fresnel", |spec| match spec.role {
            Role::Linear => codes(spec, &mut numbers),
            _ => floats(spec, &mut numbers),
        });
        let picture = image::RgbImage::from_fn(20, 12, |x, y| image::Rgb([x as u8, y as u8, 9]));
        picture.save(folder.path("picture.png")).unwrap();
        folder
    }

    /// Writes a model with the tensors that `tensors` makes of each one that the config demands.
    fn model(&self, name: &str, tensors: impl FnMut(TensorSpec) -> Vec<TensorData<'static>>) {
        let config = config();
        let tensors: Vec<TensorData> = config.tensors().into_iter().flat_map(tensors).collect();
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
        write(self.path(name), false, &parts, &tensors).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn tensor(&self, file: &str, name: &str, shape: &[usize], values: &[f32]) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, shape.to_vec(), &bytes).unwrap();
        fs::write(self.path(file), safetensors::serialize([(name, view)], None).unwrap()).unwrap();
    }

    /// Runs the program in this folder.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fresnel-run"));
        command.args(arguments).current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Expects exit code `exit` and `text` in the one line on standard error.
    pub(crate) fn fails(&self, arguments: &[&str], exit: i32, text: &str) {
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

    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn data(name: String, shape: &[u32], encoding: Encoding, bytes: Vec<u8>) -> TensorData<'static> {
    TensorData { name, shape: shape.to_vec(), encoding, bytes: Cow::Owned(bytes) }
}

fn floats(spec: TensorSpec, numbers: &mut Numbers) -> Vec<TensorData<'static>> {
    let bytes = numbers.bytes(spec.shape.iter().product());
    vec![data(spec.name, &spec.shape, Encoding::F32, bytes)]
}

/// Codes of 2 bit, four to a byte, with their scales and offsets.
fn codes(spec: TensorSpec, numbers: &mut Numbers) -> Vec<TensorData<'static>> {
    let (rows, count) = (&spec.shape[..1], spec.shape.iter().product::<u32>());
    assert_eq!(spec.shape[1] % 4, 0, "a row of codes fills its bytes");
    let packed = (0..count / 4).map(|_| (numbers.next() * 127.0) as i8 as u8).collect();
    let mut companion = |suffix: &str, centre: f32| {
        let bytes = (0..rows[0]).flat_map(|_| (numbers.next() + centre).to_le_bytes()).collect();
        data(format!("{}.{suffix}", spec.name), rows, Encoding::F32, bytes)
    };
    let companions = [companion("scale", 1.5), companion("offset", 0.0)];
    let codes = data(spec.name.clone(), &spec.shape, Encoding::Codes(CodeWidth::Two), packed);
    [codes].into_iter().chain(companions).collect()
}
