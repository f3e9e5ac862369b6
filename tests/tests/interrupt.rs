//! Ctrl-C and SIGTERM: a documented exit code, and nothing half written.
#![cfg(unix)]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fresnel_tests::fixture;
use fresnel_tests::programs::program;
use fresnel_tests::scratch::Scratch;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);

fn start(name: &str, arguments: &[&str]) -> Child {
    let mut command = Command::new(program(name));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the program starts")
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let status = Command::new("kill").args(["-s", name, &pid]).status().expect("kill");
    assert!(status.success(), "kill -s {name} {pid}");
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what} did not happen");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// The exit code and standard error of a program that ends.
fn end(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().expect("an end");
    (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
}

/// The signal arrives while a temporary file is there.
#[test]
fn a_file_that_is_being_written_goes() {
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        // The file may be finished before the signal arrives.
        let interrupted = (0..10).any(|_| {
            let scratch = Scratch::new();
            let folder = scratch.text("deit");
            std::fs::create_dir(&folder).expect("a folder");
            let arch = "deit_small_patch16_224";
            let mut child = start("fresnel", &["synth", "--arch", arch, "-o", &folder]);
            let entries = || -> Vec<String> {
                let entries = std::fs::read_dir(&folder).expect("the folder");
                entries
                    .map(|entry| {
                        entry.expect("an entry").file_name().to_string_lossy().into_owned()
                    })
                    .collect()
            };
            until("a temporary file", || {
                child.try_wait().expect("a state").is_some()
                    || entries().iter().any(|name| name.ends_with(".partial"))
            });
            if child.try_wait().expect("a state").is_none() {
                signal(&child, name);
            }
            let (found, message) = end(child);
            if found == Some(0) {
                return false;
            }
            assert_eq!(found, Some(code), "{name}: {message}");
            assert!(message.contains("error: interrupted"), "{message}");
            let left = entries();
            assert!(left.iter().all(|name| !name.ends_with(".partial")), "{name}: {left:?}");
            true
        });
        assert!(interrupted, "{name} never arrived in time");
    }
}

/// The signal arrives in the middle of the work, before there is any file.
#[test]
fn work_that_is_interrupted_leaves_nothing() {
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let scratch = Scratch::new();
        scratch.pictures("photos", 200);
        let model = fixture("tiny_variants/dinov2_reg4");
        let arguments = [
            "quantize",
            model.to_str().expect("a path"),
            "--bits",
            "2",
            "--device",
            "cpu",
            "--calib",
            &scratch.text("photos"),
            "--sweeps",
            "10000",
            "-o",
            &scratch.text("out.fresnel"),
        ];
        let child = start("fresnel", &arguments);
        std::thread::sleep(Duration::from_millis(500));
        signal(&child, name);
        let asked = Instant::now();
        let (found, message) = end(child);
        assert_eq!(found, Some(code), "{name}: {message}");
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        assert_eq!(scratch.entries(), ["photos"]);
    }
}
