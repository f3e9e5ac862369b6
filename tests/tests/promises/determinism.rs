//! Promises about equal results.

use fresnel_kernels::Isa;
use fresnel_runtime::{Compute, Model};
use fresnel_tests::fixture;
use fresnel_tests::programs::{fresnel, fresnel_on};
use fresnel_tests::scratch::Scratch;

use crate::model::{bits, config, file, pixels, session};

#[test]
fn promise_10_results_do_not_depend_on_threads() {
    let config = config();
    let model = Model::from_bytes(file(&config, 1)).expect("a model");
    let input = pixels(&config, 3);
    for compute in [Compute::F32, Compute::Int8] {
        let run = |threads: usize| {
            bits(&session(&model, compute, threads).run(&input, 3).expect("a result"))
        };
        let expected = run(1);
        for threads in [2, 7] {
            assert_eq!(run(threads), expected, "{compute}, {threads} threads");
        }
    }
}

#[test]
fn promise_10_results_do_not_depend_on_the_instruction_set() {
    let (scratch, config) = (Scratch::new(), config());
    let model = scratch.write("model.fresnel", file(&config, 2));
    let pixels: Vec<u8> = pixels(&config, 2).iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
    let [height, width] = config.image_size.map(|side| side as usize);
    let view = safetensors::tensor::TensorView::new(
        safetensors::Dtype::F32,
        vec![2, 3, height, width],
        &pixels,
    );
    let file = safetensors::serialize([("input", view.expect("pixels"))], None).expect("a file");
    let input = scratch.write("input.safetensors", file);
    for compute in ["f32", "int8"] {
        let run = |isa: Isa| {
            let output = scratch.text(&format!("{compute}-{isa}.safetensors"));
            let arguments = [
                "run",
                &model,
                "--input",
                &input,
                "--output",
                &output,
                "--force",
                "--compute",
                compute,
            ];
            fresnel_on(isa, &arguments).success();
            std::fs::read(output).expect("logits")
        };
        let expected = run(Isa::Scalar);
        for isa in Isa::available() {
            assert!(run(isa) == expected, "{compute} on {isa}");
        }
    }
}

#[test]
fn promise_10_the_same_recipe_makes_the_same_file() {
    let scratch = Scratch::new();
    scratch.pictures("photos", 6);
    let model = fixture("tiny_variants/average_pool");
    let (model, photos) = (model.to_str().expect("a path"), scratch.text("photos"));
    for (bits, method) in [("2", "beacon-plus"), ("1.58", "beacon"), ("3", "gptq"), ("4", "rtn")] {
        let make = |name: &str, threads: &str| {
            let output = scratch.text(name);
            let arguments = [
                "quantize",
                model,
                "--calib",
                &photos,
                "--device",
                "cpu",
                "--bits",
                bits,
                "--method",
                method,
                "--threads",
                threads,
                "--force",
                "-o",
                &output,
            ];
            fresnel(&arguments).success();
            scratch.bytes(name)
        };
        let expected = make("a", "1");
        for threads in ["1", "2", "7"] {
            assert!(make("b", threads) == expected, "{method} at {bits} bit, {threads} threads");
        }
    }
}
