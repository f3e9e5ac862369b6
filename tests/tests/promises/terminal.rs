//! Promises about what files may print: names and values reach the terminal as text, in one line and of a readable length.

use fresnel_fuzz::files::parts;
use fresnel_runtime::format::encode;
use fresnel_tests::programs::{Finished, fresnel};
use fresnel_tests::scratch::Scratch;
use serde_json::Value;

use super::model::{config, filled};

const BAD_INPUT: i32 = 3;
const IO: i32 = 4;

/// Clears the screen, sets the title, begins a sequence in one byte, and turns the direction of writing.
const NASTY: &str = "\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}31m\u{202e}\u{2066}";

/// Whether a terminal takes nothing of `text` for an order.
fn is_harmless(text: &str) -> bool {
    let steers = |c: char| c.is_control() && c != '\n' && c != '\t';
    !text.contains(steers) && !text.contains(['\u{202e}', '\u{2066}', '\u{2028}'])
}

fn assert_harmless(finished: &Finished) {
    assert!(is_harmless(&finished.stdout), "{:?}", finished.stdout);
    assert!(is_harmless(&finished.stderr), "{:?}", finished.stderr);
}

/// A model whose texts are as bad as a file may have them.
fn model(scratch: &Scratch) -> String {
    let mut parts = parts(config());
    let turned = "\u{202e}gnp\u{2066}\u{2028}x";
    parts.class_names = (0..config().num_classes).map(|class| format!("{class}{turned}")).collect();
    parts.provenance = vec![(format!("tool{turned}"), format!("one\nerror: two{turned}"))];
    parts.config.architecture = turned.to_owned();
    let values = fresnel_tests::noise(997, 1);
    scratch.write("m.fresnel", encode(&parts, &filled(&config(), 1, &values)).expect("a file"))
}

#[test]
fn promise_25_what_a_file_says_does_not_steer_the_terminal() {
    let scratch = Scratch::new();
    let model = model(&scratch);
    scratch.pictures("photos", 1);
    let picture = scratch.text("photos/0.png");
    for command in [&["inspect", &model][..], &["inspect", &model, "--json"], &["verify", &model]] {
        let finished = fresnel(command);
        assert_harmless(&finished);
        let stdout = finished.success();
        assert!(!stdout.lines().any(|line| line.starts_with("error: two")), "{stdout}");
    }
    assert_harmless(&fresnel(&["classify", &model, &picture]));
    // As JSON the names are what they are, once they are read.
    let finished = fresnel(&["classify", &model, &picture, "--json"]);
    assert_harmless(&finished);
    let found: Value = finished.json();
    let name = found["images"][0]["classes"][0]["name"].as_str().expect("a name");
    assert!(name.ends_with("\u{202e}gnp\u{2066}\u{2028}x"), "{name:?}");
}

#[test]
fn promise_25_names_of_files_and_fields_do_not_steer_the_terminal() {
    let scratch = Scratch::new();
    let model = model(&scratch);
    let missing = scratch.text(NASTY);
    let failed = fresnel(&["inspect", &missing]);
    failed.assert_fails(IO, &["\\u001b[2J", "\\u009b31m\\u202e"]);
    assert_harmless(&failed);
    for csv in
        [format!("file,label\n{NASTY}.png,0\n"), format!("file,{NASTY}\n"), format!("{NASTY}\n")]
    {
        let list = scratch.write("list.csv", csv);
        let failed = fresnel(&["eval", &model, "--data", &list]);
        failed.assert_fails(BAD_INPUT, &["list.csv"]);
        assert_harmless(&failed);
    }
}

#[test]
fn promise_25_messages_are_short_whatever_they_quote() {
    let scratch = Scratch::new();
    let model = model(&scratch);
    let long = "x".repeat(1 << 19);
    let list = scratch.write("list.csv", format!("file,label\n{long},0\n"));
    let failed = fresnel(&["eval", &model, "--data", &list]);
    failed.assert_fails(BAD_INPUT, &["list.csv: line 2", "left out", "own folder"]);
    assert!(failed.stderr.len() < 4096, "{} bytes", failed.stderr.len());
    let recipe = scratch.write("recipe.toml", format!("{long} = 1\n"));
    let failed = fresnel(&["quantize", "absent", "--recipe", &recipe, "-o", &scratch.text("o")]);
    failed.assert_fails(BAD_INPUT, &["recipe.toml: line 1", "left out"]);
    assert!(failed.stderr.len() < 4096, "{} bytes", failed.stderr.len());
}
