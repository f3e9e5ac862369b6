//! `diff` finds what is different and nothing else; `edit` changes what it is told to and nothing else.

use fresnel_tests::fixture;
use fresnel_tests::programs::{Finished, fresnel};
use fresnel_tests::scratch::Scratch;
use serde_json::{Value, json};

const SAME: i32 = 0;
const DIFFERENT: i32 = 1;

fn stored(scratch: &Scratch, name: &str, flags: &[&str]) -> String {
    let (source, file) = (fixture("tiny_variants/average_pool"), scratch.text(name));
    let source = source.to_str().expect("a path");
    fresnel(&[&["quantize", source, "--method", "rtn", "-o", &file], flags].concat()).success();
    file
}

fn diff(a: &str, b: &str, code: i32) -> Value {
    let finished = fresnel(&["diff", a, b, "--json"]);
    assert_eq!((finished.code, finished.stderr.as_str()), (code, ""), "{}", finished.stdout);
    serde_json::from_str(&finished.stdout).expect("JSON")
}

fn names(report: &Value, list: &str) -> Vec<String> {
    let list = report[list].as_array().expect("a list").iter();
    list.map(|one| one["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn a_file_is_the_same_as_itself() {
    let scratch = Scratch::new();
    let file = stored(&scratch, "a.fresnel", &["--bits", "2"]);
    let report = diff(&file, &file, SAME);
    assert_eq!(report["same"], true);
    assert_eq!((&report["settings"], &report["tensors"]), (&json!([]), &json!([])));
    assert!(fresnel(&["diff", &file, &file]).success().contains("0 differ"));
    assert_eq!(fresnel(&["diff", &file, &file, "--quiet"]).success(), "");
}

#[test]
fn one_layer_of_another_width_is_found() {
    let scratch = Scratch::new();
    let a = stored(&scratch, "a.fresnel", &["--bits", "2"]);
    let flags = ["--bits", "2", "--layer-bits", "blocks.1.mlp.fc2=4"];
    let b = stored(&scratch, "b.fresnel", &flags);
    let report = diff(&a, &b, DIFFERENT);
    assert_eq!(names(&report, "tensors"), ["blocks.1.mlp.fc2.weight"]);
    assert_eq!(names(&report, "settings"), ["recipe.bits", "recipe.toml"]);
    let layer = &report["tensors"][0];
    assert_eq!((&layer["a"]["bits"], &layer["b"]["bits"]), (&json!(2.0), &json!(4.0)));
    // Another width: there are no codes to compare one by one, but weights.
    assert_eq!(layer["codes_differing"], Value::Null);
    let change = layer["relative_difference"].as_f64().expect("a number");
    assert!((0.05..0.9).contains(&change), "{change}");
    let text = fresnel(&["diff", &a, &b]);
    assert_eq!(text.code, DIFFERENT);
    assert!(text.stdout.contains("2 -> 4") && text.stdout.contains("1 differ"), "{}", text.stdout);
}

#[test]
fn the_error_against_the_float_model_falls_with_the_bits() {
    let scratch = Scratch::new();
    let float = stored(&scratch, "float.fresnel", &["--bits", "32"]);
    let errors = ["2", "3", "4", "8"].map(|bits| {
        let file = stored(&scratch, &format!("{bits}.fresnel"), &["--bits", bits]);
        let report = diff(&float, &file, DIFFERENT);
        let layer = report["tensors"].as_array().expect("tensors").iter();
        let mut layer = layer.filter(|tensor| tensor["name"] == "blocks.0.attn.qkv.weight");
        layer.next().expect("the layer")["relative_difference"].as_f64().expect("a number")
    });
    assert!(errors.windows(2).all(|pair| pair[1] < 0.7 * pair[0]), "{errors:?}");
}

#[test]
fn models_of_other_shapes_are_compared_as_far_as_that_goes() {
    let scratch = Scratch::new();
    let a = stored(&scratch, "a.fresnel", &["--bits", "4"]);
    let (source, b) = (fixture("tiny_variants/deit3_like"), scratch.text("b.fresnel"));
    let source = source.to_str().expect("a path");
    fresnel(&["quantize", source, "--bits", "4", "--method", "rtn", "-o", &b]).success();
    let report = diff(&a, &b, DIFFERENT);
    let gamma = report["tensors"].as_array().expect("tensors").iter();
    let mut gamma = gamma.filter(|tensor| tensor["name"] == "blocks.0.ls1.gamma");
    let gamma = gamma.next().expect("a tensor that one model lacks");
    assert!(gamma["a"].is_null() && gamma["b"].is_object(), "{gamma}");
    fresnel(&["diff", &a, &scratch.text("absent")]).assert_fails(4, &["absent"]);
}

#[test]
fn names_and_metadata_are_changed_and_weights_are_not() {
    let scratch = Scratch::new();
    let before = stored(&scratch, "before.fresnel", &["--bits", "2"]);
    let after = scratch.text("after.fresnel");
    let names_file = scratch.write("names.txt", "a\nb\nc\nd\ne\nf\ng\n");
    let edit = |extra: &[&str]| -> Finished {
        fresnel(&[&["edit", &before, "-o", &after, "--json"], extra].concat())
    };
    let report =
        edit(&["--class-names", &names_file, "--metadata", "author=A=B", "--metadata", "x="])
            .json();
    assert_eq!(report["class_names"], 7);
    assert_eq!(report["metadata"], json!({ "author": "A=B" }));
    let report = diff(&before, &after, DIFFERENT);
    assert_eq!(names(&report, "settings"), ["class_names", "metadata.author"]);
    assert_eq!(report["tensors"], json!([]));
    fresnel(&["verify", &after]).success();

    let back = scratch.text("back.fresnel");
    fresnel(&["edit", &after, "--metadata", "author=", "-o", &back]).success();
    assert_eq!(names(&diff(&before, &back, DIFFERENT), "settings"), ["class_names"]);

    edit(&["--metadata", "a=b"]).assert_fails(4, &["exists already"]);
    edit(&[]).assert_fails(2, &["required arguments"]);
    edit(&["--metadata", "nothing"]).assert_fails(2, &["KEY=VALUE"]);
    let short = scratch.write("short.txt", "a\n");
    edit(&["--force", "--class-names", &short]).assert_fails(3, &["7 class names", "found 1"]);
    fresnel(&["edit", &before, "--metadata", "a=b", "-o", &before, "--force"])
        .assert_fails(4, &["is an input"]);
}
