//! Compute modes of whole models. `f32` and `int8` have the same bits on every instruction set; every
//! mode has the same bits for any number of threads and any division into batches; `half` stays near
//! `f32`.
//!
//! Weights are rounded to nearest, which takes no images: what arithmetic does, it does to any codes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fresnel_kernels::Isa;
use fresnel_quantizer::digits::{self, Digits};
use fresnel_runtime::format::Container;
use fresnel_runtime::{Compute, Model, Session, SessionOptions};
use fresnel_tests::programs::{fresnel, fresnel_on};
use fresnel_tests::scratch::Scratch;
use fresnel_tests::{digits_checkpoint, fixture, multiplies_bfloat16, real_data};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};

/// What `--bits` takes.
const WIDTHS: [&str; 7] = ["1.58", "2", "3", "4", "8", "16", "32"];

/// Pictures of digits to run: no multiple of the rows of any tile.
const DIGITS: usize = 11;

/// Digits as the model wants them, one after the other.
fn digits_pixels() -> Vec<f32> {
    let model = digits::model().expect("the model of digits");
    let pixels = Digits::evaluation().and_then(|digits| digits.pixels(&model)).expect("digits");
    pixels[..DIGITS].concat()
}

/// Quantizes a checkpoint; returns the file's path.
fn quantize(scratch: &Scratch, checkpoint: &Path, bits: &str) -> String {
    let file = scratch.text(&format!("{bits}.fresnel"));
    let checkpoint = checkpoint.to_str().expect("a UTF-8 path");
    let method = ["--method", "rtn", "--device", "cpu", "--force"];
    fresnel(&[&["quantize", checkpoint, "--bits", bits, "-o", &file], &method[..]].concat())
        .success();
    file
}

/// The file of logits that `fresnel run` writes on one instruction set.
fn logits_on(
    scratch: &Scratch,
    isa: Isa,
    (model, input): (&str, &str),
    compute: Compute,
    threads: usize,
) -> Vec<u8> {
    let output = scratch.text("logits.safetensors");
    let files = ["run", model, "--input", input, "--output", &output, "--force"];
    let options = ["--compute", compute.name(), "--threads", &threads.to_string(), "--json"];
    let report = fresnel_on(isa, &[&files[..], &options].concat()).json();
    assert_eq!(report["compute"], compute.name());
    scratch.bytes("logits.safetensors")
}

/// Runs `files` on every instruction set of the host, on one, two and three threads.
fn assert_same_bits(scratch: &Scratch, files: (&str, &str), modes: &[Compute], isas: &[Isa]) {
    for &compute in modes {
        let mut expected = None;
        for (index, &isa) in isas.iter().enumerate() {
            let found = logits_on(scratch, isa, files, compute, 1 + index % 3);
            let expected = expected.get_or_insert_with(|| found.clone());
            assert!(*expected == found, "{} {compute} on {isa} and {}", files.0, isas[0]);
        }
    }
}

fn session(model: &Arc<Model>, compute: Compute, threads: usize) -> Session {
    let options = SessionOptions { threads, compute, ..SessionOptions::default() };
    Session::new(model, options).expect("a session")
}

/// Every mode that the host runs.
fn modes(test: &str) -> Vec<Compute> {
    let mut modes = vec![Compute::F32, Compute::Int8];
    modes.extend(multiplies_bfloat16(test).then_some(Compute::Half));
    modes
}

#[test]
fn logits_have_the_same_bits_on_every_instruction_set() {
    let scratch = Scratch::new();
    let pixels: Vec<u8> = digits_pixels().iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, vec![DIGITS, 1, 28, 28], &pixels).expect("pixels");
    let input = serialize([("input", view)], None).expect("a safetensors file");
    let digits_input = scratch.write("digits.safetensors", input);
    let (modes, isas) = ([Compute::F32, Compute::Int8], Isa::available());
    for bits in WIDTHS {
        let file = quantize(&scratch, &digits_checkpoint(), bits);
        assert_same_bits(&scratch, (&file, &digits_input), &modes, &isas);
    }
    // Every kind of model, with widths in turn.
    let variants = fs::read_dir(fixture("tiny_variants")).expect("fixtures");
    let mut variants: Vec<PathBuf> =
        variants.map(|entry| entry.expect("an entry").path()).collect();
    variants.retain(|path| path.is_dir());
    variants.sort();
    for (folder, bits) in variants.iter().zip(WIDTHS.iter().cycle()) {
        let file = quantize(&scratch, folder, bits);
        let reference = folder.join("reference.safetensors");
        let input = reference.to_str().expect("a UTF-8 path");
        assert_same_bits(&scratch, (&file, input), &modes, &isas);
    }
}

#[test]
fn deit_tiny_at_two_bits_has_the_same_logits_in_portable_code() {
    let Some(data) = real_data("DeiT-Tiny on two instruction sets") else { return };
    let (scratch, folder) = (Scratch::new(), data.join("models/deit_tiny_patch16_224"));
    let file = quantize(&scratch, &folder, "2");
    let reference = folder.join("reference.safetensors");
    let files = (file.as_str(), reference.to_str().expect("a UTF-8 path"));
    // In f32, portable code emulates the fused multiply-add: that is for small models.
    assert_same_bits(&scratch, files, &[Compute::Int8], &[Isa::Scalar, Isa::best()]);
}

#[test]
fn logits_do_not_depend_on_threads_or_batches() {
    let (scratch, pixels) = (Scratch::new(), digits_pixels());
    for bits in WIDTHS {
        let file = quantize(&scratch, &digits_checkpoint(), bits);
        let model = Model::open(&file).expect("the file");
        for compute in modes("threads and batches") {
            if compute == Compute::Half && ["16", "32"].contains(&bits) {
                continue;
            }
            let whole = session(&model, compute, 1).run(&pixels, DIGITS).expect("logits");
            for threads in 1..=3 {
                let mut session = session(&model, compute, threads);
                for sizes in [&[DIGITS][..], &[1; DIGITS], &[4, 6, 1]] {
                    let (mut rest, mut parts) = (&pixels[..], Vec::new());
                    for &size in sizes {
                        let (batch, others) = rest.split_at(size * pixels.len() / DIGITS);
                        parts.extend(session.run(batch, size).expect("logits"));
                        rest = others;
                    }
                    let same = whole.iter().zip(&parts).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(
                        same && parts.len() == whole.len(),
                        "{bits} bit, {compute}, {threads} threads, batches {sizes:?}"
                    );
                }
            }
        }
    }
}

/// Norm of the difference as a share of the norm of `expected`.
fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    let square = |value: f32| f64::from(value) * f64::from(value);
    let error: f64 =
        found.iter().zip(expected).map(|(found, expected)| square(found - expected)).sum();
    (error / expected.iter().map(|&expected| square(expected)).sum::<f64>()).sqrt()
}

/// bfloat16 keeps 8 bit of a number, an error of up to 0.4 %, and int8 7 bit of the largest in a row.
#[test]
fn rounded_activations_stay_near_float_ones() {
    let scratch = Scratch::new();
    for bits in &WIDTHS[..5] {
        let file = quantize(&scratch, &digits_checkpoint(), bits);
        let model = Model::open(&file).expect("the file");
        assert_near_float(&model, &digits_pixels(), DIGITS, bits);
    }
    let Some(data) = real_data("rounded activations of DeiT-Tiny") else { return };
    let folder = data.join("models/deit_tiny_patch16_224");
    let model = Model::open(quantize(&scratch, &folder, "4")).expect("the file");
    let reference = fs::read(folder.join("reference.safetensors")).expect("the reference");
    let reference = SafeTensors::deserialize(&reference).expect("safetensors");
    let input = reference.tensor("input").expect("the input");
    let pixels: Vec<f32> = input
        .data()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    assert_near_float(&model, &pixels, input.shape()[0], "DeiT-Tiny at 4");
}

fn assert_near_float(model: &Arc<Model>, pixels: &[f32], images: usize, name: &str) {
    let run = |compute| session(model, compute, 0).run(pixels, images).expect("logits");
    let float = run(Compute::F32);
    for compute in modes("rounded activations") {
        let error = relative_error(&run(compute), &float);
        println!("{name} bit, {compute}: {error:.4}");
        match compute {
            Compute::Half => assert!(0.0 < error && error < 0.03, "{name} bit: {error}"),
            Compute::Int8 => assert!(0.0 < error && error < 0.1, "{name} bit: {error}"),
            Compute::F32 | Compute::Auto => assert_eq!(error, 0.0, "{name} bit"),
        }
    }
}

#[test]
fn a_file_records_the_agreement_of_every_mode_that_its_maker_ran() {
    let scratch = Scratch::new();
    scratch.pictures("photos", 6);
    let checkpoint = fixture("tiny_variants/distilled");
    let checkpoint = checkpoint.to_str().expect("a UTF-8 path");
    let file = |isa: Isa| {
        let (photos, output) = (scratch.text("photos"), scratch.text(isa.name()));
        let arguments = ["quantize", checkpoint, "--bits", "2", "--calib", &photos, "-o", &output];
        fresnel_on(isa, &[&arguments[..], &["--device", "cpu"]].concat()).success();
        Container::open(&output).expect("the file")
    };
    let (portable, best) = (file(Isa::Scalar), file(Isa::best()));
    let names = |container: &Container| -> Vec<String> {
        container.manifest().measured.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(names(&portable), ["int8_agreement"]);
    let half = multiplies_bfloat16("recorded agreement").then_some("half_agreement");
    let expected: Vec<&str> = ["int8_agreement"].into_iter().chain(half).collect();
    assert_eq!(names(&best), expected);
    // All else is the same, whatever the instruction set.
    assert_eq!(portable.manifest().measured[0], best.manifest().measured[0]);
    assert_eq!(portable.manifest().recipe, best.manifest().recipe);
    assert_eq!(portable.manifest().provenance, best.manifest().provenance);
    assert_eq!(portable.tensors().count(), best.tensors().count());
    for (portable, best) in portable.tensors().zip(best.tensors()) {
        assert!(portable.bytes == best.bytes, "{}", portable.entry.name);
    }
}
