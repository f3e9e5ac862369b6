//! The examples, on the digits: what they print, and how they fail.
#![cfg(feature = "images")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const MODEL: &str = "examples/digits_2bit.fresnel";

/// Runs an example from the package's folder.
fn run(name: &str, arguments: &[&str]) -> Output {
    // Examples are built beside the folder of the tests.
    let own = std::env::current_exe().unwrap();
    let folder = own.ancestors().nth(2).unwrap().join("examples");
    let program = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(program.is_file(), "{} is not built: run cargo test without --test", program.display());
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    Command::new(program).args(arguments).current_dir(package).output().unwrap()
}

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../quantizer/assets/digits/samples")
}

#[test]
fn classify_folder_names_every_picture_that_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(samples()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    std::fs::write(folder.path().join("broken.png"), b"\x89PNG\r\n\x1a\nbroken").unwrap();

    let output = run("classify_folder", &[MODEL, folder.path().to_str().unwrap(), "2"]);
    let (text, messages) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{messages}");
    assert_eq!(text.lines().count(), 10, "{text}");
    for line in text.lines() {
        let [path, name, probability] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        assert!(path.ends_with(&format!("digit_{name}.png")), "{line}");
        assert!(probability.parse::<f64>().unwrap() > 0.5, "{line}");
    }
    assert!(messages.contains("broken.png: "), "{messages}");
    assert!(messages.contains("10 of 11 pictures on 2 threads in "), "{messages}");
}

#[test]
fn camera_loop_counts_every_frame() {
    let output = run("camera_loop", &[MODEL, "--rate", "100", "--seconds", "0.5"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let words: Vec<&str> = text.lines().next().unwrap().split(' ').collect();
    let [
        delivered,
        "frames",
        "at",
        "100",
        "per",
        "second,",
        classified,
        "classified,",
        dropped,
        "dropped",
    ] = words[..]
    else {
        panic!("{text}");
    };
    let count = |word: &str| word.parse::<usize>().unwrap();
    let (delivered, classified, dropped) = (count(delivered), count(classified), count(dropped));
    assert!((1..=50).contains(&delivered) && classified >= 1, "{text}");
    // The last frame may be left waiting, and the run before it cut short.
    let answered = classified + dropped;
    assert!(answered <= delivered && delivered <= answered + 2, "{text}");
    for percent in ["p50: ", "p90: ", "p99: "] {
        assert!(text.contains(percent), "{text}");
    }
    assert!(text.contains("seen most: 1"), "{text}");
}

#[test]
fn wrong_arguments_are_told() {
    for (name, arguments) in [
        ("classify_folder", &["model"][..]),
        ("camera_loop", &[]),
        ("camera_loop", &[MODEL, "--rate", "0"]),
        ("classify_folder", &["missing.fresnel", "."]),
    ] {
        let output = run(name, arguments);
        assert!(!output.status.success(), "{name} {arguments:?}");
        let messages = String::from_utf8(output.stderr).unwrap();
        assert!(messages.contains("usage") || messages.contains("missing.fresnel"), "{messages}");
    }
}
