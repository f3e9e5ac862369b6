//! Promises about reading files.

use std::fs::{self, OpenOptions};
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Instant;

use fresnel_fuzz::files::{Parts, assemble, parts};
use fresnel_runtime::format::limits::MAX_TENSORS;
use fresnel_runtime::format::{CodeWidth, Container, Encoding, TensorEntry, encode};
use fresnel_runtime::model::config::VitConfig;
use fresnel_runtime::{Compute, Error, ErrorKind, Model, Session, SessionOptions};
use fresnel_tests::scratch::Scratch;
use fresnel_tests::{fixture, multiplies_bfloat16};

use crate::model::{COMPANIONS, bits, config, file, filled, noise, pixels, session};

fn refusal(bytes: &[u8]) -> Error {
    Model::from_bytes(bytes).expect_err("this must be refused")
}

#[test]
fn promise_01_loading_any_bytes_returns() {
    for seed in 0..2000 {
        let bytes = noise(40 + seed as usize % 3000, seed);
        fresnel_fuzz::load_bytes(&bytes);
        fresnel_fuzz::load_struct(&bytes);
    }
}

#[test]
fn promise_02_truncation_at_every_length_is_refused() {
    let small = file(&config(), 1);
    for length in 0..small.len() {
        let error = refusal(&small[..length]);
        assert_eq!(error.kind(), ErrorKind::Truncated, "{length}: {error}");
        assert_eq!(error.offset(), Some(length as u64));
    }
    // A larger one on disk, every 4 KiB.
    let scratch = Scratch::new();
    let large = file(&VitConfig { embed_dim: 384, mlp_hidden: 1536, ..config() }, 2);
    let path = scratch.write("large.fresnel", &large);
    let on_disk = OpenOptions::new().write(true).open(&path).expect("the file");
    let mut length = large.len() as u64 - 1;
    loop {
        on_disk.set_len(length).expect("a shorter file");
        let error = Model::open(&path).expect_err("cut off");
        assert_eq!((error.kind(), error.offset()), (ErrorKind::Truncated, Some(length)), "{error}");
        let Some(shorter) = length.checked_sub(4096) else { break };
        length = shorter;
    }
}

#[test]
fn promise_03_every_single_bit_flip_is_detected() {
    let mut file = file(&config(), 3);
    assert!(file.len() <= 64 << 10, "{} bytes", file.len());
    for at in 0..file.len() {
        for bit in 0..8 {
            file[at] ^= 1 << bit;
            let kind = refusal(&file).kind();
            let expected = if at < 8 { ErrorKind::NotAFresnelFile } else { ErrorKind::Corrupt };
            assert_eq!(kind, expected, "bit {bit} of byte {at}");
            file[at] ^= 1 << bit;
        }
    }
    Model::from_bytes(&file).expect("the file itself");
}

/// Nanoseconds that this thread has computed; those that passed, where the system does not tell.
fn computed() -> u64 {
    let told = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let first = told.and_then(|text| text.split(' ').next()?.parse().ok());
    first.unwrap_or_else(|| START.elapsed().as_nanos() as u64)
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds that `work` takes when it is done many times, with little of it lost to others.
fn time(mut work: impl FnMut()) -> f64 {
    const TIMES: u64 = 40;
    let mut once = || {
        let start = computed();
        (0..TIMES).for_each(|_| work());
        (computed() - start) / TIMES
    };
    (0..3).map(|_| once()).min().unwrap_or(u64::MAX) as f64
}

#[test]
fn promise_05_load_time_is_linear_in_tensors_and_bytes() {
    // Names that differ in their last characters only, in a manifest that is refused for them at the very end.
    let refuse = |tensors: usize| {
        let mut parts = Parts::of(&file(&config(), 1));
        parts.manifest.tensors = (0..tensors)
            .map(|index| TensorEntry {
                name: format!("{}{index:04}", "n".repeat(120)),
                shape: vec![1],
                encoding: Encoding::F16,
                offset: 64 * index as u64,
                length: 2,
                crc32: 0,
            })
            .collect();
        let bytes = assemble(&parts.encoded_manifest(), &[], 0, 0);
        assert!(refusal(&bytes).to_string().contains(&format!("unexpected ({tensors})")));
        time(|| drop(black_box(refusal(&bytes))))
    };
    let (few, many) = (refuse(MAX_TENSORS / 8), refuse(MAX_TENSORS));
    // Eight times the names: linear work takes 8 times as long, quadratic 64 times.
    assert!(many < 24.0 * few, "{many} ns for {MAX_TENSORS} tensors, {few} ns for an eighth");

    let load = |embed_dim: u32| {
        let bytes = file(&VitConfig { embed_dim, mlp_hidden: 4 * embed_dim, ..config() }, 1);
        (bytes.len() as f64, time(|| drop(black_box(Model::from_bytes(&bytes).expect("a model")))))
    };
    let ((small_bytes, small), (large_bytes, large)) = (load(96), load(384));
    let (growth, allowed) = (large / small, 3.0 * large_bytes / small_bytes);
    assert!(growth < allowed, "{growth} times as long, {} times the bytes", allowed / 3.0);
}

#[test]
fn promise_06_only_finite_numbers_and_valid_codes_are_accepted() {
    let original = Parts::of(&file(&config(), 4));
    let mut seen = [0; 3];
    for (index, entry) in original.manifest.tensors.iter().enumerate() {
        let refused = |place: usize, value: &[u8], text: &str| {
            let mut parts = original.clone();
            let bytes = parts.tensor_data(index).expect("the tensor");
            bytes[place..place + value.len()].copy_from_slice(value);
            parts.seal(index);
            let error = refusal(&parts.assemble());
            assert_eq!((error.kind(), error.tensor()), (ErrorKind::Invalid, Some(&*entry.name)));
            assert!(error.to_string().contains(text), "{error}");
        };
        let is_scale = entry.name.ends_with(COMPANIONS[0]);
        match entry.encoding {
            Encoding::F32 => {
                seen[0] += 1;
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    refused(entry.length as usize - 4, &bad.to_le_bytes(), "must be finite");
                }
                if is_scale {
                    refused(0, &(-1.0_f32).to_le_bytes(), "must not be negative");
                }
            }
            Encoding::F16 => {
                seen[1] += 1;
                for bad in [0x7e00_u16, 0x7c00, 0xfc00] {
                    refused(entry.length as usize - 2, &bad.to_le_bytes(), "must be finite");
                }
                if is_scale {
                    refused(0, &0xbc00_u16.to_le_bytes(), "must not be negative");
                }
            }
            Encoding::Codes(width) => {
                seen[2] += 1;
                if width == CodeWidth::Ternary {
                    // One of the 13 bytes that stand for no five digits.
                    refused(0, &[1], "not valid");
                }
            }
        }
    }
    assert!(seen.iter().all(|&tensors| tensors > 0), "{seen:?}");
}

#[test]
fn promise_08_inference_returns_on_any_loaded_model_and_any_input() {
    let config = config();
    let count = pixels(&config, 1).len();
    let extremes = [f32::MAX, f32::MIN, 0.0, 1e-45, -1.0, 65504.0, 3e38];
    for (seed, values) in
        [&extremes[..], &[0.0], &[f32::MAX], &[1e-45], &[-3e38, 3e38]].iter().enumerate()
    {
        let bytes = encode(&parts(config.clone()), &filled(&config, seed as u64, values));
        let model = Model::from_bytes(bytes.expect("finite values")).expect("a model");
        let mut modes = vec![Compute::F32, Compute::Int8];
        modes.extend(multiplies_bfloat16("promise 8").then_some(Compute::Half));
        for compute in modes {
            let options = SessionOptions { threads: 2, compute, ..Default::default() };
            // Whether any layer is quantized differs from model to model.
            let Ok(mut session) = Session::new(&model, options) else { continue };
            for value in extremes {
                let out = session.run(&vec![value; count], 1).expect("a result");
                assert_eq!(out.len(), 5);
            }
            let mut input = pixels(&config, 1);
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                input[count - 2] = bad;
                let error = session.run(&input, 1).expect_err("no number");
                assert_eq!(error.kind(), ErrorKind::Input);
                assert!(error.to_string().contains(&format!("pixel {}", count - 2)), "{error}");
            }
        }
    }
    // Weights and pixels of ordinary size give finite numbers.
    let model = Model::from_bytes(file(&config, 9)).expect("a model");
    for compute in [Compute::F32, Compute::Int8] {
        let out = session(&model, compute, 1).run(&pixels(&config, 1), 1).expect("a result");
        assert!(out.iter().all(|value| value.is_finite()));
    }
}

/// The files of earlier releases, each with what it answered then.
fn released() -> Vec<PathBuf> {
    let files = fs::read_dir(fixture("released")).expect("files of releases");
    let mut files: Vec<PathBuf> = files.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "fresnel"));
    files.sort();
    files
}

#[test]
fn promise_16_old_files_stay_readable() {
    let files = released();
    assert!(!files.is_empty());
    for path in files {
        let model = Model::open(&path).expect("a file of an earlier release");
        let out = session(&model, Compute::F32, 1).run(&pixels(model.config(), 1), 1);
        let text = fs::read_to_string(path.with_extension("txt")).expect("its answer");
        let expected: Vec<f32> = text.lines().map(|line| line.parse().expect("a number")).collect();
        let out = out.expect("a result");
        assert_eq!(out.len(), expected.len());
        for (found, expected) in out.iter().zip(&expected) {
            // Arithmetic may become better; the answer stays.
            assert!((found - expected).abs() <= 1e-4, "{}: {found}, {expected}", path.display());
        }
    }
}

#[test]
fn promise_16_later_minor_versions_are_read_and_unknown_flags_refused() {
    let original = file(&config(), 5);
    let expected = Container::from_bytes(&original).expect("a file").manifest().clone();
    let mut later = Parts { minor: 9, ..Parts::of(&original) };
    // An extension record of tag 7 and five bytes.
    later.tail = vec![7, 0, 0, 0, 5, 0, 0, 0, 1, 2, 3, 4, 5];
    let container = Container::from_bytes(later.assemble()).expect("a later minor version");
    assert_eq!(*container.manifest(), expected);
    Model::from_bytes(later.assemble()).expect("a later minor version");
    for bit in 0..32 {
        later.flags = 1 << bit;
        assert_eq!(refusal(&later.assemble()).kind(), ErrorKind::UnsupportedVersion);
    }
    let mut major = original;
    major[8] = 2;
    let crc32 = crc32fast::hash(&major[..60]);
    major[60..64].copy_from_slice(&crc32.to_le_bytes());
    assert_eq!(refusal(&major).kind(), ErrorKind::UnsupportedVersion);
}

#[test]
fn promise_21_a_loaded_model_does_not_need_its_file() {
    let (scratch, config) = (Scratch::new(), config());
    let path = scratch.write("model.fresnel", file(&config, 6));
    let model = Model::open(&path).expect("a model");
    let input = pixels(&config, 2);
    let mut session = session(&model, Compute::F32, 2);
    let expected = bits(&session.run(&input, 2).expect("a result"));
    let mut unchanged = |what: &str| {
        assert_eq!(bits(&session.run(&input, 2).expect("a result")), expected, "{what}");
    };
    OpenOptions::new().write(true).open(&path).expect("the file").set_len(100).expect("cut");
    unchanged("truncated");
    fs::write(&path, vec![0xff; 1 << 16]).expect("written");
    unchanged("overwritten in place");
    fs::remove_file(&path).expect("removed");
    unchanged("removed");
    scratch.write("model.fresnel", file(&config, 7));
    unchanged("replaced");
}
