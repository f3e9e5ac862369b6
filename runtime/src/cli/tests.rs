//! The commands as functions: what cannot be seen from outside of the program `fresnel-run`.

use std::fs;
use std::path::Path;

use clap::Parser;

use super::{ClassifyArgs, EvalArgs, Exit, Failure, classify, eval};
use crate::error::{Error, ErrorKind};
use crate::exec::synthetic::{file, plain_config};
use crate::format::{CodeWidth, Encoding};

#[derive(Parser)]
struct Eval {
    #[command(flatten)]
    args: EvalArgs,
}

#[derive(Parser)]
struct Classify {
    #[command(flatten)]
    args: ClassifyArgs,
}

/// A folder with `model.fresnel`, pictures `0.png` to `4.png` and `labelled.csv`.
fn folder(classes: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut config = plain_config();
    config.num_classes = classes;
    let bytes = file(&config, Encoding::Codes(CodeWidth::Four), Encoding::F16, &[]);
    fs::write(folder.path().join("model.fresnel"), bytes).unwrap();
    let mut csv = String::from("file,label\n");
    for index in 0..5u8 {
        let picture = image::RgbImage::from_fn(33, 21, |x, y| {
            image::Rgb([(x * 7) as u8 ^ (index * 40), (y * 11) as u8, index * 50])
        });
        picture.save(folder.path().join(format!("{index}.png"))).unwrap();
        csv.push_str(&format!("{index}.png,{index}\n"));
    }
    fs::write(folder.path().join("labelled.csv"), csv).unwrap();
    folder
}

fn run_eval(folder: &Path, data: &str, more: &[&str]) -> Result<(), Failure> {
    let path = |name: &str| folder.join(name).display().to_string();
    let mut arguments = vec!["eval".into(), path("model.fresnel"), "--data".into(), path(data)];
    arguments.extend(more.iter().map(|&argument| argument.to_owned()));
    eval(&Eval::try_parse_from(arguments).unwrap().args)
}

#[test]
fn eval_runs_on_labelled_pictures() {
    let folder = folder(7);
    for more in [&[][..], &["--json"], &["--limit", "3", "--compute", "int8", "--threads", "2"]] {
        run_eval(folder.path(), "labelled.csv", more).unwrap();
    }
}

/// Two modes of one model see the same pictures; the predictions say what each answered.
#[test]
fn predictions_have_a_column_for_each_model_and_mode() {
    let folder = folder(7);
    let path = folder.path().join("predictions.csv");
    let predictions = path.display().to_string();
    let more = ["--compute", "f32,int8", "--predictions", &predictions];
    run_eval(folder.path(), "labelled.csv", &more).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 6);
    assert_eq!(lines[0][..2], ["image", "label"]);
    assert!(lines[0][2].ends_with("model.fresnel f32"), "{text}");
    assert!(lines[0][3].ends_with("model.fresnel int8"), "{text}");
    for (index, line) in lines[1..].iter().enumerate() {
        assert!(line[0].ends_with(&format!("{index}.png")) && line[1] == index.to_string());
        assert!(line[2..].iter().all(|class| class.parse::<usize>().unwrap() < 7), "{text}");
    }
    let failure = run_eval(folder.path(), "labelled.csv", &more).unwrap_err();
    assert_eq!(failure.exit(), Exit::Io, "the file exists");
    run_eval(folder.path(), "labelled.csv", &[&more[..], &["--force"]].concat()).unwrap();
}

#[test]
fn eval_names_what_is_wrong() {
    let folder = folder(7);
    let csv = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    csv("unlabelled.csv", "file\n0.png\n");
    csv("unknown.csv", "file,label\n0.png,0\n1.png,7\n");
    csv("broken.csv", "file,label\n0.png,0\nbroken.png,1\n");
    fs::write(folder.path().join("broken.png"), b"no picture").unwrap();
    for (data, more, exit, text) in [
        ("unlabelled.csv", &[][..], Exit::BadInput, "0.png: has no label"),
        ("unknown.csv", &[], Exit::BadInput, "1.png: label 7 is none of the model's 7 classes"),
        ("broken.csv", &[], Exit::BadInput, "broken.png"),
        ("missing.csv", &[], Exit::Io, "missing.csv"),
        (".", &[], Exit::BadInput, "has no label"),
        ("labelled.csv", &["--limit", "0"], Exit::Usage, "--limit 0"),
    ] {
        let failure = run_eval(folder.path(), data, more).unwrap_err();
        assert_eq!(failure.exit(), exit, "{data}: {failure}");
        assert!(failure.to_string().contains(text), "{data}: {failure}");
    }
}

#[test]
fn models_without_classes_have_no_accuracy_and_no_names() {
    let folder = folder(0);
    let failure = run_eval(folder.path(), "labelled.csv", &[]).unwrap_err();
    assert_eq!(failure.exit(), Exit::BadInput);
    let [model, picture] = ["model.fresnel", "0.png"].map(|name| folder.path().join(name));
    let arguments = ["classify".into(), model.into_os_string(), picture.into_os_string()];
    let failure = classify(&Classify::try_parse_from(arguments).unwrap().args).unwrap_err();
    assert!(failure.to_string().contains("no classes"), "{failure}");
}

#[test]
fn outputs_never_replace_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["input", "other"] {
        fs::write(path(name), name).unwrap();
    }
    fs::hard_link(path("input"), path("link")).unwrap();
    let check = |output: &str, force| {
        super::check_output(&path(output), &[&path("input")], force)
            .map_err(|failure| failure.exit())
    };
    assert_eq!(check("new", false), Ok(()));
    assert_eq!(check("other", true), Ok(()));
    for (output, force) in
        [("other", false), ("input", true), ("link", true), (".", true), ("no/file", true)]
    {
        assert_eq!(check(output, force), Err(Exit::Io), "{output}");
    }
}

#[test]
fn every_kind_of_error_has_an_exit_code() {
    for (kind, exit) in [
        (ErrorKind::Io, Exit::Io),
        (ErrorKind::NotAFresnelFile, Exit::BadInput),
        (ErrorKind::Truncated, Exit::BadInput),
        (ErrorKind::Input, Exit::BadInput),
        (ErrorKind::Image, Exit::BadInput),
        (ErrorKind::Unsupported, Exit::Device),
        (ErrorKind::Device, Exit::Device),
    ] {
        let failure = Failure::from(Error::new(kind, "two\nlines"));
        assert_eq!(failure.exit(), exit);
        assert_eq!(failure.kind(), kind.name());
        assert_eq!(failure.to_string(), "two lines");
    }
}
