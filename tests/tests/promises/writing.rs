//! Promises about writing files: whole or not at all, and never over what is read.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use fresnel_runtime::{Compute, Model};
use fresnel_tests::fixture;
use fresnel_tests::programs::{fresnel, program};
use fresnel_tests::scratch::Scratch;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::model::{bits, config, file, pixels, session};

const IO: i32 = 4;
const OLD: &[u8] = b"what was there before";

/// A scratch folder with a checkpoint.
fn checkpoint() -> Scratch {
    let scratch = Scratch::new();
    for name in ["model.safetensors", "config.json"] {
        let source = fixture("tiny_variants/average_pool").join(name);
        fs::copy(source, scratch.path(name)).expect("a copy");
    }
    scratch
}

/// `fresnel quantize` of the checkpoint in `scratch`, to be run.
fn quantize(scratch: &Scratch, output: &str) -> Vec<String> {
    let (model, output) = (scratch.text(""), scratch.text(output));
    ["quantize", &model, "--bits", "4", "--method", "rtn", "-o", &output].map(str::to_owned).into()
}

fn forced(scratch: &Scratch, output: &str) -> Vec<String> {
    [quantize(scratch, output), vec!["--force".to_owned()]].concat()
}

fn is_debris(name: &str) -> bool {
    name.starts_with(".fresnel-") && name.ends_with(".partial")
}

/// Two hundred processes that write a file over another are killed at random moments.
#[test]
fn promise_11_a_killed_writer_leaves_the_old_file_or_the_new() {
    let scratch = Scratch::new();
    let (model, output) = (scratch.text("checkpoint"), scratch.text("out/model.fresnel"));
    fs::create_dir(scratch.path("out")).expect("a folder");
    fresnel(&["synth", "--arch", "vit_tiny_patch32_224", "-o", &model]).success();
    let mut writer = Command::new(program("fresnel"));
    writer.args(["quantize", &model, "--bits", "32", "--force", "--quiet", "-o", &output]);
    writer.stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    assert!(writer.status().expect("it starts").success());
    let whole = start.elapsed();
    let new = scratch.bytes("out/model.fresnel");

    let mut random = ChaCha8Rng::seed_from_u64(11);
    let (mut old_files, mut new_files, mut debris) = (0, 0, 0);
    for _ in 0..200 {
        fs::write(&output, OLD).expect("written");
        let mut child = writer.spawn().expect("it starts");
        std::thread::sleep(whole.mul_f64(random.random_range(0.0..1.1)));
        child.kill().expect("killed, or gone");
        child.wait().expect("its end");
        let found = scratch.bytes("out/model.fresnel");
        if found == OLD {
            old_files += 1;
        } else {
            assert!(found == new, "{} bytes that are neither file", found.len());
            new_files += 1;
        }
        for entry in fs::read_dir(scratch.path("out")).expect("the folder") {
            let entry = entry.expect("an entry");
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "model.fresnel" {
                assert!(is_debris(&name), "{name}");
                debris += 1;
                fs::remove_file(entry.path()).expect("removed");
            }
        }
    }
    println!("{old_files} times the old file, {new_files} times the new, {debris} temporary files");
    assert!(debris > 0, "no kill fell into the writing");
    assert!(old_files > 0);
}

/// Runs `fresnel` in a shell, behind `before`.
fn in_shell(before: &str, arguments: &[String]) -> std::process::Output {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{before}; exec \"$@\""), "sh"]).arg(program("fresnel"));
    command.args(arguments).output().expect("a shell")
}

#[cfg(target_os = "linux")]
#[test]
fn promise_11_a_full_disk_leaves_the_old_file_and_no_debris() {
    let scratch = checkpoint();
    scratch.write("old.fresnel", OLD);
    // A limit on the length of files stands for a full disk: both are errors of writing.
    for output in ["old.fresnel", "new.fresnel"] {
        let failed = in_shell("trap '' XFSZ; ulimit -f 4", &forced(&scratch, output));
        let message = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert_eq!(failed.status.code(), Some(IO), "{message}");
        assert!(message.contains(output) && message.contains("cannot write"), "{message}");
    }
    assert_eq!(scratch.bytes("old.fresnel"), OLD);
    assert_eq!(scratch.entries(), ["config.json", "model.safetensors", "old.fresnel"]);

    // Standard output on a full disk.
    fresnel(&quantize(&scratch, "model.fresnel")).success();
    let full = File::options().write(true).open("/dev/full").expect("/dev/full");
    let mut inspect = Command::new(program("fresnel"));
    let failed = inspect.args(["inspect", &scratch.text("model.fresnel")]).stdout(full).output();
    assert_eq!(failed.expect("it starts").status.code(), Some(IO));
}

#[cfg(target_os = "linux")]
#[test]
fn promise_11_what_cannot_be_replaced_is_refused_before_the_work() {
    let scratch = checkpoint();
    // Not even an administrator makes files there.
    let nowhere = [
        "quantize",
        &scratch.text(""),
        "--bits",
        "4",
        "--method",
        "rtn",
        "-o",
        "/proc/out.fresnel",
    ];
    fresnel(&nowhere).assert_fails(IO, &["/proc/out.fresnel"]);
    // A pipe, as a device, would be replaced by a file.
    let pipe = scratch.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    std::os::unix::fs::symlink("pipe", scratch.path("link")).expect("a link");
    for output in ["pipe", "link"] {
        fresnel(&forced(&scratch, output)).assert_fails(IO, &[output, "not a regular file"]);
    }
    for name in [".", "pipe/x", "absent/x"] {
        fresnel(&forced(&scratch, name)).assert_fails(IO, &[]);
    }
    assert_eq!(scratch.entries(), ["config.json", "link", "model.safetensors", "pipe"]);
}

#[test]
fn promise_11_a_loaded_model_survives_its_replacement() {
    let scratch = checkpoint();
    scratch.write("model.fresnel", file(&config(), 1));
    let model = Model::open(scratch.path("model.fresnel")).expect("a model");
    let mut session = session(&model, Compute::F32, 1);
    let input = pixels(model.config(), 1);
    let expected = bits(&session.run(&input, 1).expect("a result"));
    fresnel(&forced(&scratch, "model.fresnel")).success();
    assert_eq!(bits(&session.run(&input, 1).expect("a result")), expected);
    let replaced = Model::open(scratch.path("model.fresnel")).expect("the new model");
    assert_ne!(replaced.config(), model.config());
}

#[cfg(unix)]
#[test]
fn promise_12_inputs_are_never_replaced() {
    use std::os::unix::fs::symlink;

    let scratch = checkpoint();
    let before = [scratch.bytes("model.safetensors"), scratch.bytes("config.json")];
    fs::hard_link(scratch.path("model.safetensors"), scratch.path("hard")).expect("a link");
    symlink("config.json", scratch.path("soft")).expect("a link");
    symlink("soft", scratch.path("softer")).expect("a link");
    symlink(".", scratch.path("folder")).expect("a link");
    let names = [
        "model.safetensors",
        "config.json",
        "hard",
        "soft",
        "softer",
        "folder/model.safetensors",
        "./config.json",
    ];
    for name in names {
        fresnel(&forced(&scratch, name)).assert_fails(IO, &["is an input"]);
    }
    // Nor by the commands that map tensors to tensors.
    fresnel(&quantize(&scratch, "model.fresnel")).success();
    let (model, input) = (scratch.text("model.fresnel"), scratch.text("hard"));
    for output in ["hard", "model.safetensors", "model.fresnel"] {
        let output = scratch.text(output);
        fresnel(&["run", &model, "--input", &input, "--output", &output, "--force"])
            .assert_fails(IO, &["is an input"]);
    }
    assert!([scratch.bytes("model.safetensors"), scratch.bytes("config.json")] == before);
    // Nor by what is written beside a result.
    scratch.pictures("photos", 2);
    let picture = scratch.bytes("photos/1.png");
    let list = scratch.write("photos/list.csv", "file,label\n0.png,0\n1.png,1\n");
    for output in ["photos/1.png", "photos/list.csv", "model.fresnel"] {
        let output = scratch.text(output);
        fresnel(&["eval", &model, "--data", &list, "--predictions", &output, "--force"])
            .assert_fails(IO, &["is an input"]);
    }
    assert!(scratch.bytes("photos/1.png") == picture);
}

#[cfg(unix)]
#[test]
fn promise_12_nothing_is_overwritten_without_force() {
    let scratch = checkpoint();
    scratch.write("old", OLD);
    std::os::unix::fs::symlink("old", scratch.path("link")).expect("a link");
    std::os::unix::fs::symlink("nowhere", scratch.path("dangling")).expect("a link");
    for output in ["old", "link", "dangling"] {
        fresnel(&quantize(&scratch, output)).assert_fails(IO, &["--force"]);
    }
    assert!(!scratch.path("nowhere").exists());
    // By force a link is replaced, and not what it leads to.
    fresnel(&forced(&scratch, "link")).success();
    assert_eq!(scratch.bytes("old"), OLD);
    assert!(!scratch.path("link").is_symlink());
    Model::open(scratch.path("link")).expect("the model");
}

/// Exit codes and kinds of failures: scripts depend on them.
#[test]
fn promise_24_exit_codes_and_kinds_are_stable() {
    let scratch = checkpoint();
    let good = scratch.write("good.fresnel", file(&config(), 1));
    let bytes = file(&config(), 1);
    scratch.write("cut.fresnel", &bytes[..bytes.len() - 1]);
    let with = |place: usize, name: &str| {
        let mut bytes = bytes.clone();
        bytes[place] ^= 1;
        scratch.write(name, bytes)
    };
    with(bytes.len() - 1, "damaged.fresnel");
    with(0, "other.fresnel");
    scratch.write("picture.png", "no picture");
    let text = |name: &str| scratch.text(name);
    let cases: [(i32, &str, Vec<String>); 9] = [
        (2, "usage", ["inspect", "--unknown"].map(str::to_owned).into()),
        (
            2,
            "usage",
            [
                "quantize".to_owned(),
                text(""),
                "-o".to_owned(),
                text("o"),
                "--bits".to_owned(),
                "2".to_owned(),
            ]
            .into(),
        ),
        (3, "truncated", ["inspect".to_owned(), text("cut.fresnel")].into()),
        (3, "corrupt", ["verify".to_owned(), text("damaged.fresnel")].into()),
        (3, "not_a_fresnel_file", ["inspect".to_owned(), text("other.fresnel")].into()),
        (3, "image", ["classify".to_owned(), good.clone(), text("picture.png")].into()),
        (4, "io", ["inspect".to_owned(), text("absent.fresnel")].into()),
        (4, "exists", quantize(&scratch, "good.fresnel")),
        (
            5,
            "unsupported",
            vec![
                "bench".to_owned(),
                text("float.fresnel"),
                "--compute".to_owned(),
                "half".to_owned(),
            ],
        ),
    ];
    fresnel(&["quantize", &text(""), "--bits", "32", "-o", &text("float.fresnel")]).success();
    for (code, kind, mut arguments) in cases {
        arguments.push("--json".to_owned());
        let failed = fresnel(&arguments);
        assert_eq!(failed.code, code, "{arguments:?}: {}", failed.stderr);
        let object: Value = serde_json::from_str(&failed.stdout).expect("JSON");
        let error = &object["error"];
        assert_eq!((&error["kind"], &error["exit"]), (&kind.into(), &code.into()), "{object}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()));
    }
    fresnel(&["verify", &good]).success();
    assert!(!Path::new(&text("o")).exists());
}
