//! The format's specification is enough: a reader written from it in Python finds in every file what the programs
//! find, and refuses what is damaged.

use std::fs;
use std::path::Path;

use fresnel_tests::fixture;
use fresnel_tests::programs::fresnel;
use fresnel_tests::python::{Python, python};
use fresnel_tests::scratch::Scratch;

const READER: &str = "format_reader.py";
const WIDTHS: [&str; 7] = ["1.58", "2", "3", "4", "8", "16", "32"];

fn reader(test: &str) -> Option<Python> {
    python(test, "numpy", "FRESNEL_REQUIRE_NUMPY")
}

/// Stores the variant at `bits` as `model.fresnel`.
fn store(scratch: &Scratch, variant: &Path, bits: &str, extra: &[&str]) -> String {
    let (source, model) = (variant.to_str().expect("a path"), scratch.text("model.fresnel"));
    let arguments = ["quantize", source, "--bits", bits, "--force", "-o", &model];
    let method = if ["16", "32"].contains(&bits) { &[][..] } else { &["--method", "rtn"] };
    fresnel(&[&arguments[..], method, extra].concat()).success();
    model
}

/// Compares what Python reads with what `inspect` and `export` say.
fn assert_same(python: &Python, scratch: &Scratch, model: &str) {
    let inspected = fresnel(&["inspect", model, "--codes", "--json"]).success();
    let inspected = scratch.write("inspect.json", inspected);
    let exported = scratch.text("export.safetensors");
    fresnel(&["export", model, "--codes", "--force", "-o", &exported]).success();
    let arguments = ["check", model, "--inspect", &inspected, "--export", &exported];
    let said = python.run(READER, &arguments).success();
    assert!(said.starts_with("good: "), "{said}");
}

#[test]
fn python_reads_the_test_vector_of_the_specification() {
    let Some(python) = reader("the specification's test vector in Python") else { return };
    let specification = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/FORMAT.md");
    let said = python.run(READER, &["vector".as_ref(), specification.as_os_str()]).success();
    for width in ["eight", "four", "ternary", "three", "two"] {
        assert!(said.contains(width), "{said}");
    }
}

#[test]
fn python_reads_what_the_programs_read() {
    let Some(python) = reader("model files in Python") else { return };
    let mut variants: Vec<_> = fs::read_dir(fixture("tiny_variants"))
        .expect("fixtures")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir())
        .collect();
    variants.sort();
    let scratch = Scratch::new();
    for (index, variant) in variants.iter().enumerate() {
        let model = store(&scratch, variant, WIDTHS[index % WIDTHS.len()], &[]);
        assert_same(&python, &scratch, &model);
    }
    for bits in WIDTHS {
        let model = store(&scratch, &variants[0], bits, &[]);
        assert_same(&python, &scratch, &model);
    }
    let names: String = (0..7).map(|class| format!("name {class} \u{e9}\n")).collect();
    let names = scratch.write("names.txt", names);
    let mixed = [
        "--layer-bits",
        "*.attn.proj=4",
        "--layer-bits",
        "*.mlp.fc2=1.58",
        "--class-names",
        &names,
    ];
    let model = store(&scratch, &fixture("tiny_variants/average_pool"), "3", &mixed);
    assert_same(&python, &scratch, &model);
}

#[test]
fn python_refuses_damaged_files() {
    let Some(python) = reader("damaged files in Python") else { return };
    let scratch = Scratch::new();
    store(&scratch, &fixture("tiny_variants/average_pool"), "1.58", &[]);
    let good = scratch.bytes("model.fresnel");
    for position in [3, 13, 50, 70, 200, good.len() / 2, good.len() - 1] {
        let mut damaged = good.clone();
        damaged[position] ^= 4;
        let damaged = scratch.write("damaged.fresnel", damaged);
        python.run(READER, &["check", &damaged]).assert_fails(3, &[]);
    }
}
