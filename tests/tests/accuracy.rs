//! Accuracy of the real DeiT-Tiny on 800 real photographs, where they are at hand.
//!
//! The bounds are those of an independent implementation (float 86.9 %; Beacon with six sweeps on
//! the quantized model's inputs 73.8 % at 3 bit and 31.8 % at 2; Beacon+ with the class token counted
//! ten times 63.3 % at 2 bit; round to nearest 51.2 % at 3 bit) less the spread that another choice of
//! calibration images causes. Evaluation photographs take part in nothing
//! but the evaluation.

use std::path::{Path, PathBuf};

use fresnel_tests::programs::fresnel;
use fresnel_tests::real_data;
use serde_json::Value;
use tempfile::TempDir;

struct Photographs {
    data: PathBuf,
    scratch: TempDir,
}

impl Photographs {
    fn at_hand(test: &str) -> Option<Self> {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        Some(Self { data: real_data(test)?, scratch })
    }

    fn text(path: &Path) -> String {
        path.to_str().expect("a UTF-8 path").to_owned()
    }

    fn quantize(&self, name: &str, flags: &[&str]) -> String {
        let model = Self::text(&self.data.join("models/deit_tiny_patch16_224"));
        let output = Self::text(&self.scratch.path().join(name));
        let mut arguments = vec!["quantize", &model, "-o", &output];
        arguments.extend(flags);
        fresnel(&arguments).success();
        output
    }

    fn evaluate(&self, file: &str, compute: &str) -> Value {
        let list = Self::text(&self.data.join("images/imagenet_compat/evaluation.csv"));
        let result =
            fresnel(&["eval", file, "--data", &list, "--compute", compute, "--json"]).json();
        assert_eq!(result["images"], 800, "{file}");
        println!("{file} {compute}: top-1 {}, top-5 {}", result["top1"], result["top5"]);
        result
    }

    fn top1(&self, file: &str, compute: &str) -> f64 {
        self.evaluate(file, compute)["top1"].as_f64().expect("a percentage")
    }
}

#[test]
fn float_deit_tiny_reaches_its_accuracy() {
    let Some(photographs) = Photographs::at_hand("float accuracy") else { return };
    let file = photographs.quantize("float.fresnel", &["--bits", "32"]);
    let result = photographs.evaluate(&file, "f32");
    let figure = |name: &str| result[name].as_f64().expect("a percentage");
    assert!((figure("top1") - 86.9).abs() <= 0.3, "top-1 {}", figure("top1"));
    assert!((figure("top5") - 97.6).abs() <= 0.3, "top-5 {}", figure("top5"));
}

#[test]
fn beacon_at_three_bits_leads_round_to_nearest_by_far() {
    let Some(photographs) = Photographs::at_hand("3-bit accuracy") else { return };
    let calibration =
        Photographs::text(&photographs.data.join("images/imagenet_compat/calibration.csv"));
    let beacon = photographs.quantize(
        "beacon.fresnel",
        &["--bits", "3", "--edge-bits", "32", "--device", "cpu", "--calib", &calibration],
    );
    let rtn = photographs
        .quantize("rtn.fresnel", &["--bits", "3", "--edge-bits", "32", "--method", "rtn"]);
    let (float, integer) = (photographs.top1(&beacon, "f32"), photographs.top1(&beacon, "int8"));
    let nearest = photographs.top1(&rtn, "f32");
    assert!(float >= 73.8 - 1.5, "Beacon at 3 bit: {float}");
    assert!(integer >= float - 1.0, "int8 activations: {integer} after {float}");
    assert!((nearest - 51.2).abs() <= 1.5, "round to nearest at 3 bit: {nearest}");
    assert!(float >= nearest + 15.0, "Beacon {float}, round to nearest {nearest}");
}

#[test]
fn beacon_plus_doubles_beacon_at_two_bits() {
    let Some(photographs) = Photographs::at_hand("2-bit accuracy") else { return };
    let calibration =
        Photographs::text(&photographs.data.join("images/imagenet_compat/calibration.csv"));
    let top1 = |method: &str| {
        let flags = ["--bits", "2", "--edge-bits", "32", "--device", "cpu", "--method", method];
        let file = photographs.quantize(
            &format!("{method}.fresnel"),
            &[&flags[..], &["--calib", &calibration]].concat(),
        );
        photographs.top1(&file, "f32")
    };
    let (beacon, plus) = (top1("beacon"), top1("beacon-plus"));
    assert!(beacon >= 31.8 - 4.0, "Beacon at 2 bit: {beacon}");
    assert!(plus >= 63.3 - 4.0, "Beacon+ at 2 bit: {plus}");
}
