//! Progress: a bar on a terminal, nothing on a pipe or with `--quiet`; Ctrl-C, as a terminal sends it.
#![cfg(unix)]

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use fresnel_tests::programs::{fresnel, program};
use fresnel_tests::scratch::Scratch;
use fresnel_tests::{fixture, skipped};

/// What a terminal sends for Ctrl-C.
const CTRL_C: u8 = 3;

/// A model and labelled pictures, `pictures` lines of them, which are one picture.
fn folder(pictures: usize) -> (Scratch, [String; 4]) {
    let scratch = Scratch::new();
    let (source, model) = (fixture("tiny_variants/average_pool"), scratch.text("model.fresnel"));
    let source = source.to_str().expect("a path");
    fresnel(&["quantize", source, "--bits", "2", "--method", "rtn", "-o", &model]).success();
    scratch.pictures("photos", 1);
    let list = format!("file,label\n{}", "photos/0.png,3\n".repeat(pictures));
    let list = scratch.write("list.csv", list);
    (scratch, ["eval".to_owned(), model, "--data".to_owned(), list])
}

#[test]
fn a_terminal_sees_a_bar_and_sends_ctrl_c() {
    if Command::new("script").arg("--version").output().is_err() {
        return skipped("progress on a terminal", "there is no `script` to make one");
    }
    // Far more than is done before the bar appears.
    let (_scratch, arguments) = folder(1_000_000);
    let line = format!("{} {}", program("fresnel").display(), arguments.join(" "));
    let mut terminal = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script");
    let mut input = terminal.stdin.take().expect("a pipe");
    let mut output = terminal.stdout.take().expect("a pipe");
    let mut shown = String::new();
    let mut piece = [0; 256];
    let mut interrupted = false;
    loop {
        let length = output.read(&mut piece).expect("output");
        if length == 0 {
            break;
        }
        shown.push_str(&String::from_utf8_lossy(&piece[..length]));
        if !interrupted && shown.contains(" left") {
            interrupted = true;
            input.write_all(&[CTRL_C]).expect("a terminal that listens");
        }
    }
    assert!(shown.contains("evaluating [-"), "{shown}");
    assert!(shown.contains("/1000000, "), "{shown}");
    assert!(shown.contains("error: interrupted"), "{shown}");
    assert_eq!(terminal.wait().expect("an end").code(), Some(130), "{shown}");
}

#[test]
fn a_pipe_sees_nothing_but_messages() {
    let (_scratch, arguments) = folder(3_000);
    let finished = fresnel(&arguments);
    assert!(finished.stderr.starts_with("3000 pictures in "), "{}", finished.stderr);
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    assert!(finished.success().contains("top-1 %"));
}
