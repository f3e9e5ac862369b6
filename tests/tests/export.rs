//! What `export` writes is the model: the same tensors under timm's names, and the same answers.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use fresnel_tests::programs::fresnel;
use fresnel_tests::python::python;
use fresnel_tests::scratch::Scratch;
use fresnel_tests::{fixture, real_data};
use safetensors::{Dtype, SafeTensors};

/// A tensor's type, shape and bytes.
type Tensor = (Dtype, Vec<usize>, Vec<u8>);

fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    let bytes = fs::read(path).expect("a file");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    file.iter()
        .map(|(name, view)| {
            (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec()))
        })
        .collect()
}

fn floats((dtype, _, bytes): &Tensor) -> Vec<f32> {
    assert_eq!(*dtype, Dtype::F32);
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Logits of `model` on the pixels of `reference`, written to `name`.
fn run(scratch: &Scratch, model: &str, reference: &str, name: &str) -> Vec<f32> {
    let output = scratch.text(name);
    let arguments = ["run", model, "--input", reference, "--output", &output, "--compute", "f32"];
    fresnel(&arguments).success();
    floats(&tensors(&scratch.path(name))["logits"])
}

/// `folder`, whose reference has an `input`, stored at `bits` and exported: logits of the file.
fn exported(scratch: &Scratch, folder: &Path, bits: &str) -> Vec<f32> {
    let (folder, model) = (folder.to_str().expect("a path"), scratch.text("model.fresnel"));
    let method = if bits == "32" { &[][..] } else { &["--method", "rtn"] };
    fresnel(&[&["quantize", folder, "--bits", bits, "-o", &model], method].concat()).success();
    fresnel(&["export", &model, "-o", &scratch.text("export.safetensors")]).success();
    run(scratch, &model, &format!("{folder}/reference.safetensors"), "logits.safetensors")
}

#[test]
fn a_float_model_comes_back_bit_for_bit() {
    let folder = fixture("tiny_variants/distilled");
    let scratch = Scratch::new();
    exported(&scratch, &folder, "32");
    let (found, expected) =
        (tensors(&scratch.path("export.safetensors")), tensors(&folder.join("model.safetensors")));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, expected) in expected {
        assert_eq!(found[&name].1, expected.1, "{name}");
        assert_eq!(floats(&found[&name]), floats(&expected), "{name}");
    }
}

#[test]
fn the_exported_weights_give_the_same_answers() {
    for (name, bits) in [("deit3_like", "2"), ("dinov2_reg4", "1.58"), ("average_pool", "3")] {
        let scratch = Scratch::new();
        let folder = fixture(&format!("tiny_variants/{name}"));
        let expected = exported(&scratch, &folder, bits);
        let (checkpoint, again) =
            (scratch.text("export.safetensors"), scratch.text("again.fresnel"));
        let (config, reference) =
            (folder.join("config.json"), folder.join("reference.safetensors"));
        let [config, reference] =
            [&config, &reference].map(|path| path.to_str().expect("a path").to_owned());
        fresnel(&["quantize", &checkpoint, "--config", &config, "--bits", "32", "-o", &again])
            .success();
        let found = run(&scratch, &again, &reference, "again.safetensors");
        let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() <= 1e-4 * largest, "{name}: {found} {expected}");
        }
        let report = fresnel(&["diff", &scratch.text("model.fresnel"), &again, "--json"]);
        assert_eq!(report.code, 1);
        let report: serde_json::Value = serde_json::from_str(&report.stdout).expect("JSON");
        for tensor in report["tensors"].as_array().expect("tensors") {
            let difference = tensor["relative_difference"].as_f64();
            assert_eq!(difference, Some(0.0), "{name} {tensor}");
        }
    }
}

#[test]
fn codes_make_the_weights() {
    let scratch = Scratch::new();
    let folder = fixture("tiny_variants/deit3_like");
    exported(&scratch, &folder, "2");
    let model = scratch.text("model.fresnel");
    let report =
        fresnel(&["export", &model, "--codes", "-o", &scratch.text("codes.safetensors"), "--json"])
            .json();
    let found = tensors(&scratch.path("codes.safetensors"));
    assert_eq!(report["tensors"].as_u64(), Some(found.len() as u64));
    let name = "blocks.1.mlp.fc1.weight";
    let (codes, weights) = (&found[&format!("{name}.codes")], &found[name]);
    assert_eq!((codes.0, &codes.1), (Dtype::U8, &weights.1));
    assert!(codes.2.iter().all(|&code| code < 4) && codes.2.contains(&3));
    let [scale, offset] = ["scale", "offset"].map(|part| floats(&found[&format!("{name}.{part}")]));
    let columns = codes.1[1];
    for (index, (&code, value)) in codes.2.iter().zip(floats(weights)).enumerate() {
        assert_eq!(scale[index / columns] * f32::from(code) + offset[index / columns], value);
    }
    let again = ["export", &model, "-o", &scratch.text("codes.safetensors")];
    fresnel(&again).assert_fails(4, &["exists already"]);
}

#[test]
fn timm_loads_what_is_exported() {
    let Some(python) =
        python("exported weights in timm", "torch, timm, safetensors", "FRESNEL_REQUIRE_TIMM")
    else {
        return;
    };
    let variants = ["deit3_like", "dinov2_reg4", "average_pool", "distilled", "clip_like"];
    let mut folders = variants.map(|name| fixture(&format!("tiny_variants/{name}"))).to_vec();
    folders.extend(
        real_data("DeiT-Tiny exported to timm")
            .map(|data| data.join("models/deit_tiny_patch16_224")),
    );
    for folder in folders {
        let scratch = Scratch::new();
        exported(&scratch, &folder, "2");
        let file = |name: &str| folder.join(name).to_str().expect("a path").to_owned();
        let arguments = [
            scratch.text("export.safetensors"),
            file("config.json"),
            file("reference.safetensors"),
            scratch.text("logits.safetensors"),
        ];
        print!("{}", python.run("timm_export.py", &arguments).success());
    }
}
