//! `fresnel quantize --tune` from end to end on small checkpoints.

use fresnel_quantizer::algorithm::{Method, StatisticsOptions};
use fresnel_quantizer::calibration::CalibrationImages;
use fresnel_quantizer::device::DeviceKind;
use fresnel_quantizer::digits::{self, Digits};
use fresnel_quantizer::pipeline;
use fresnel_quantizer::tuning::{Tuned, TuningOptions, tune};
use fresnel_quantizer::widths::{LayerWidths, StoredWidth};
use fresnel_tests::programs::{Finished, fresnel};
use fresnel_tests::scratch::Scratch;
use fresnel_tests::{devices, fixture};
use serde_json::Value;

const USAGE: i32 = 2;
const BAD_INPUT: i32 = 3;

/// Small pictures, a list of them, and a place for results.
fn pictures() -> Scratch {
    let pictures = Scratch::new();
    pictures.pictures("", 20);
    let lines = (0..20).map(|index| format!("{index}.png,{}\n", index % 3));
    pictures.write("list.csv", format!("file,label\n{}", lines.collect::<String>()));
    pictures
}

/// Quantizes a checkpoint of `tests/fixtures` to 2 bit, calibrated on the list.
fn quantize(pictures: &Scratch, variant: &str, output: &str, extra: &[&str]) -> Finished {
    let model = fixture(&format!("tiny_variants/{variant}"));
    let model = model.to_str().expect("a UTF-8 path").to_owned();
    let (list, output) = (pictures.text("list.csv"), pictures.text(output));
    let mut arguments = vec!["quantize", &model, "-o", &output, "--json", "--device", "cpu"];
    if !extra.contains(&"--calib") {
        arguments.extend(["--calib", &list]);
    }
    if !extra.contains(&"--bits") {
        arguments.extend(["--bits", "2"]);
    }
    arguments.extend(extra);
    fresnel(&arguments)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("expected a number, found {value}"))
}

#[test]
fn every_architecture_is_tuned_and_never_ends_up_worse() {
    let pictures = pictures();
    // Between them: query and key norms, norm_pre, layer scales, fc_norm, distillation, one channel.
    for variant in ["deit3_like", "clip_like", "average_pool", "distilled", "dinov2_reg4"] {
        for tune in ["norms", "all"] {
            let name = format!("{variant}_{tune}.fresnel");
            let flags = ["--tune", tune, "--tune-epochs", "2"];
            let report = quantize(&pictures, variant, &name, &flags).json();
            let tuning = &report["tuning"];
            let loss = |when: &str| number(&tuning[when]["loss"]);
            assert!(loss("after") <= loss("before"), "{name}: {tuning}");
            assert_eq!(
                (number(&tuning["training_images"]), number(&tuning["held_back_images"])),
                (16.0, 4.0)
            );
            assert_eq!(report["recipe"]["tune"], tune, "{name}");
            assert_eq!(number(&report["measured"]["tuning_loss_after"]), loss("after"), "{name}");
            fresnel(&["verify", &pictures.text(&name)]).success();
        }
    }
}

#[test]
fn a_model_without_classifier_is_tuned_on_its_features() {
    let pictures = pictures();
    for variant in ["grey_features", "distilled_features"] {
        let flags = ["--method", "beacon", "--tune", "all", "--tune-epochs", "6"];
        let tuning = quantize(&pictures, variant, variant, &flags).json()["tuning"].clone();
        let losses = tuning["training_losses"].as_array().expect("losses").clone();
        assert!(number(&losses[losses.len() - 1]) < number(&losses[0]), "{variant}: {tuning}");
        assert!(tuning["before"]["agreement"].is_null(), "{variant}: {tuning}");
    }
}

#[test]
fn the_same_bytes_on_any_number_of_threads_and_others_for_another_seed() {
    let pictures = pictures();
    let run = |name: &str, threads: &str, seed: &str| {
        let flags = ["--tune", "all", "--tune-epochs", "3", "--threads", threads, "--seed", seed];
        let report = quantize(&pictures, "average_pool", name, &flags).json();
        (pictures.bytes(name), report["tuning"]["held_back"].clone())
    };
    let one = run("one", "1", "3");
    assert!(one == run("two", "2", "3"), "one and two threads differ");
    assert!(one == run("five", "5", "3"), "one and five threads differ");
    assert!(one.0 != run("other", "1", "4").0, "the seed changes nothing");
}

#[test]
fn tuning_works_without_a_data_aware_method_and_with_labels() {
    let pictures = pictures();
    let plain = quantize(&pictures, "average_pool", "plain", &["--method", "rtn"]).json();
    assert!(plain["tuning"].is_null(), "{plain}");
    let flags = ["--method", "rtn", "--tune", "norms", "--tune-labels", "--tune-epochs", "12"];
    let report = quantize(&pictures, "average_pool", "labels", &flags).json();
    let losses = report["tuning"]["training_losses"].as_array().expect("losses");
    assert!(number(&losses[11]) < number(&losses[0]), "{report}");
    assert_eq!(report["recipe"]["tune_targets"], "labels");
}

#[test]
fn a_dry_run_says_what_is_tuned_on_what() {
    let pictures = pictures();
    let model = fixture("tiny_variants/average_pool");
    let model = model.to_str().expect("a UTF-8 path");
    let dry = |extra: &[&str]| {
        fresnel(
            &[&["quantize", model, "--dry-run", "--bits", "2", "--method", "rtn"], extra].concat(),
        )
    };
    let list = pictures.text("list.csv");
    let labels = ["--tune", "norms", "--tune-labels", "--calib-count", "20"];
    let plan = dry(&[&labels[..], &["--json"]].concat()).json();
    assert_eq!(
        (&plan["tuning"]["tune"], &plan["tuning"]["tune_targets"]),
        (&"norms".into(), &"labels".into())
    );
    // The images' list changes nothing, except that its labels are looked at.
    assert_eq!(dry(&[&labels[..], &["--json", "--calib", &list]].concat()).json(), plan);
    let flags = [&["--method", "rtn"], &labels[..]].concat();
    let report = quantize(&pictures, "average_pool", "real.fresnel", &flags).json();
    assert!(number(&report["file_bytes"]) <= number(&plan["file_bytes"]), "{plan}");
    for (setting, value) in plan["tuning"].as_object().expect("settings") {
        assert_eq!(&report["recipe"][setting], value, "{setting}");
    }

    assert!(dry(&labels).success().contains("norms on the images' labels, at most 6 passes"));
    assert!(dry(&["--tune", "all"]).success().contains("all on the float model's outputs"));
    assert!(!dry(&[]).success().contains("tuned"));
    assert!(dry(&["--json"]).json()["tuning"].is_null());

    let folder = pictures.text("");
    dry(&[&labels[..], &["--calib", &folder]].concat())
        .assert_fails(USAGE, &["--tune-labels", "csv"]);
    let far = pictures.write("far.csv", "file,label\n0.png,1\n1.png,99999\n");
    let flags = ["--tune", "norms", "--tune-labels", "--calib", &far];
    dry(&flags).assert_fails(BAD_INPUT, &["99999"]);
    dry(&["--tune-labels"]).assert_fails(USAGE, &["--tune-labels needs --tune"]);
}

#[test]
fn flags_that_make_no_sense_together_are_refused() {
    let pictures = pictures();
    let folder = pictures.text("");
    for (extra, part) in [
        (&["--tune-labels"][..], "--tune-labels needs --tune"),
        (&["--tune-epochs", "3"], "--tune-epochs needs --tune"),
        (&["--tune-held-back", "0.5"], "--tune-held-back needs --tune"),
        (&["--tune", "norms", "--bits", "32"], "float model"),
        (&["--tune", "norms", "--tune-labels", "--calib", &folder], "csv"),
        (&["--tune", "norms", "--tune-epochs", "0"], "1 to 1000"),
        (&["--tune-streams", "1"], "--tune-streams needs --tune"),
        (&["--tune", "norms", "--tune-streams", "-1"], "-1"),
        (&["--tune", "norms", "--tune-streams", "NaN"], "0 to 1000000"),
        (&["--tune", "norms", "--tune-held-back", "1"], "between 0 and 1"),
        (&["--tune", "some"], "some"),
    ] {
        quantize(&pictures, "average_pool", "never", extra).assert_fails(USAGE, &[part]);
    }
    let model = fixture("tiny_variants/average_pool");
    let model = model.to_str().expect("a UTF-8 path");
    let arguments =
        ["quantize", model, "--bits", "2", "--method", "rtn", "--tune", "norms", "-o", "never"];
    fresnel(&arguments).assert_fails(USAGE, &["--calib"]);

    let bare = pictures.write("bare.csv", "file,label\n0.png,1\n1.png,\n2.png,2\n");
    let flags = ["--calib", &bare, "--tune", "norms", "--tune-labels"];
    quantize(&pictures, "average_pool", "never", &flags)
        .assert_fails(BAD_INPUT, &["1.png", "label"]);
    let far = pictures.write("far.csv", "file,label\n0.png,1\n1.png,99999\n");
    let flags = ["--calib", &far, "--tune", "norms", "--tune-labels"];
    quantize(&pictures, "average_pool", "never", &flags).assert_fails(BAD_INPUT, &["99999"]);
    let flags = ["--calib-count", "1", "--tune", "norms"];
    quantize(&pictures, "average_pool", "never", &flags).assert_fails(BAD_INPUT, &["more images"]);
    assert!(!pictures.path("never").exists());
}

#[test]
fn every_device_tunes_to_about_the_same_model() {
    let model = digits::model().expect("the digits model");
    let mut pixels = Digits::calibration().expect("digits").pixels(&model).expect("pixels");
    pixels.truncate(80);
    let images = CalibrationImages::from_pixels(pixels);
    let options = TuningOptions { epochs: 2, ..TuningOptions::new(Tuned::All, 0) };
    let (training, held_back) = options.divide(&images).expect("two parts");
    let mut scores = Vec::new();
    for device in devices("tuning on every device") {
        let (method, statistics) = (Method::Rtn { symmetric: false }, StatisticsOptions::default());
        let width = |bits: &str| bits.parse::<StoredWidth>().expect("a width");
        let widths = LayerWidths::uniform(width("1.58").codes().expect("codes"));
        let mut quantized = pipeline::quantize(
            &model,
            (&method, &statistics),
            (&widths, width("8")),
            None,
            &device,
            |_| {},
        )
        .expect("quantized");
        let images = (&training, &held_back);
        let report =
            tune(&model, &mut quantized, images, &device, &options, |_| {}).expect("tuned");
        assert!(report.after.loss < report.before.loss, "{device}: {report:?}");
        scores.push((device.kind() == DeviceKind::Gpu, report));
    }
    let (_, cpu) = &scores[0];
    for (_, gpu) in scores.iter().filter(|(gpu, _)| *gpu) {
        assert!((gpu.before.loss - cpu.before.loss).abs() < 1e-3 * cpu.before.loss);
        assert!(
            (gpu.after.loss - cpu.after.loss).abs() < 0.05 * cpu.after.loss,
            "{} and {}",
            gpu.after.loss,
            cpu.after.loss
        );
    }
}
