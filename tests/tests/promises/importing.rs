//! Promises about what the quantizer reads: pictures, configurations, recipes.

use std::fs;

use fresnel_quantizer::recipe::Settings;
use fresnel_tests::fixture;
use fresnel_tests::programs::{Finished, fresnel};
use fresnel_tests::scratch::Scratch;
use image::{GrayImage, RgbImage};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const BAD_INPUT: i32 = 3;
const IO: i32 = 4;

/// Calibrates on `images`, a folder or a list.
fn quantize(scratch: &Scratch, images: &str, extra: &[&str]) -> Finished {
    let model = fixture("tiny_variants/average_pool");
    let (images, output) = (scratch.text(images), scratch.text("out.fresnel"));
    let mut arguments = vec![
        "quantize",
        model.to_str().expect("a path"),
        "--bits",
        "2",
        "--device",
        "cpu",
        "--calib",
        &images,
        "--force",
        "-o",
        &output,
    ];
    arguments.extend(extra);
    fresnel(&arguments)
}

/// The files of a calibration folder that are no usable pictures.
fn spoil(scratch: &Scratch) -> usize {
    let picture = fs::read(scratch.path("photos/0.png")).expect("a picture");
    let cmyk = fs::read(fixture("image/decode/cmyk.jpg")).expect("a picture");
    let files: [(&str, Vec<u8>); 6] = [
        ("text.jpg", b"this is no photograph".to_vec()),
        ("empty.png", Vec::new()),
        ("cut.png", picture[..picture.len() / 2].to_vec()),
        ("cut.jpg", cmyk[..cmyk.len() - 20].to_vec()),
        // Sides of 2^31 - 1 pixels.
        ("huge.png", {
            let mut huge = picture.clone();
            huge[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
            huge
        }),
        ("gif.jpeg", b"GIF89a".to_vec()),
    ];
    for (name, bytes) in &files {
        scratch.write(&format!("photos/{name}"), bytes);
    }
    files.len()
}

#[test]
fn promise_17_unusable_calibration_images_are_counted_and_left_out() {
    let scratch = Scratch::new();
    scratch.pictures("photos", 4);
    for name in ["cmyk.jpg", "exif_rotated.jpg"] {
        fs::copy(fixture("image/decode").join(name), scratch.path("photos").join(name))
            .expect("a copy");
    }
    RgbImage::new(1, 1).save(scratch.path("photos/dot.png")).expect("a picture");
    GrayImage::new(65_535, 1).save(scratch.path("photos/line.png")).expect("a picture");
    // No pictures by their names: not even counted.
    scratch.write("photos/notes.txt", "notes");
    fs::create_dir(scratch.path("photos/folder.png")).expect("a folder");
    let clean = quantize(&scratch, "photos", &[]);
    assert!(!clean.stderr.contains("left out"), "{}", clean.stderr);
    assert!(clean.stderr.contains(", 8 calibration images"), "{}", clean.stderr);
    clean.success();

    let spoiled = spoil(&scratch);
    let dirty = quantize(&scratch, "photos", &[]);
    let said = format!("{spoiled} calibration images can't be used");
    assert!(dirty.stderr.contains(&said), "{}", dirty.stderr);
    assert!(dirty.stderr.contains(", 8 calibration images"), "{}", dirty.stderr);
    dirty.success();
    quantize(&scratch, "photos", &["--strict"]).assert_fails(BAD_INPUT, &["photos"]);
    quantize(&scratch, "photos", &["--calib-count", "8"]).success();
    quantize(&scratch, "photos", &["--calib-count", "9"])
        .assert_fails(BAD_INPUT, &["9 calibration images", "8 found"]);

    // A list names its files: one that can't be used is a mistake in it.
    scratch.write("photos/list.csv", "file\n0.png\ntext.jpg\n1.png\n");
    quantize(&scratch, "photos/list.csv", &[]).assert_fails(BAD_INPUT, &["text.jpg"]);
}

/// What never ends, waits for another program, or is long without taking space: refused at once wherever a file is read.
#[cfg(target_os = "linux")]
#[test]
fn promise_17_what_is_no_file_is_refused_at_once() {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    let scratch = Scratch::new();
    let pipe = scratch.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let zeros = fs::File::create(scratch.path("zeros")).expect("a file");
    zeros.set_len(1 << 40).expect("a length");
    let source = fixture("tiny_variants/average_pool");
    let (good, output) = (source.to_str().expect("a path"), scratch.text("out.fresnel"));
    // The last number is the code for a part of a checkpoint, of which only regular files are looked for.
    for (target, said, checkpoint) in [
        ("/dev/zero", "found a special file", IO),
        ("pipe", "found a special file", IO),
        (".", "found a folder", IO),
        ("zeros", "bytes, found 1099511627776", BAD_INPUT),
    ] {
        let odd = scratch.path("odd.csv");
        symlink(target, &odd).expect("a link");
        let odd = odd.to_str().expect("a path");
        for option in ["--recipe", "--class-names"] {
            fresnel(&[
                "quantize", good, "--bits", "8", "--method", "rtn", option, odd, "-o", &output,
            ])
            .assert_fails(BAD_INPUT, &[odd, said]);
        }
        fresnel(&["report", odd, "-o", &output]).assert_fails(BAD_INPUT, &[odd, said]);
        for name in ["model.safetensors", "config.json"] {
            let folder = format!("checkpoint-{name}");
            fs::create_dir(scratch.path(&folder)).expect("a folder");
            for other in ["model.safetensors", "config.json"] {
                let from = if other == name { odd.into() } else { source.join(other) };
                symlink(from, scratch.path(&folder).join(other)).expect("a link");
            }
            fresnel(&[
                "quantize",
                &scratch.text(&folder),
                "--bits",
                "8",
                "--method",
                "rtn",
                "-o",
                &output,
            ])
            .assert_fails(checkpoint, &[name, "expected"]);
            fs::remove_dir_all(scratch.path(&folder)).expect("removed");
        }
        fs::remove_file(odd).expect("removed");
    }
    assert_eq!(scratch.entries(), ["pipe", "zeros"]);
}

#[test]
fn promise_17_recipes_of_any_text_are_read_or_refused() {
    let recipe = "[widths]\nbits = 2\nedge_bits = 8\nlayers = [\n  \"blocks.0.*=4\",\n]\n\n[method]\nname = \
                  \"beacon-plus\"\nsweeps = 4\n\n[statistics]\nerror_correction = 0.25\ntoken_weights = \
                  \"class:10\"\ncalibrate_on = \"quantized\"\n\n[tuning]\ntune = \"all\"\nepochs = 3\n\n\
                  [calibration]\nimages = 16\nseed = 3\ndevice = \"cpu\"\n";
    Settings::parse(recipe).expect("a recipe").recipe().expect("a recipe");
    let tokens: Vec<&str> = recipe.split_inclusive([' ', '\n', '"', '=', '[', ']']).collect();
    let edges = [
        "nan",
        "-1",
        "1e999",
        "18446744073709551616",
        "\"\u{0}\"",
        "{}",
        "[[",
        "'",
        "\"\"\"",
        "true",
        ".",
        "*=1.58",
    ];
    let mut random = ChaCha8Rng::seed_from_u64(17);
    let (mut read, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut text = tokens.clone();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..text.len());
            match random.random_range(0..4) {
                0 => drop(text.remove(at)),
                1 => text[at] = edges[random.random_range(0..edges.len())],
                2 => text.insert(at, tokens[random.random_range(0..tokens.len())]),
                _ => text[at] = tokens[random.random_range(0..tokens.len())],
            }
        }
        match Settings::parse(&text.concat()) {
            // What can be read is a recipe, or a contradiction that is told.
            Ok(settings) => {
                let _ = settings.recipe();
                read += 1;
            }
            Err(message) => {
                assert!(!message.is_empty());
                refused += 1;
            }
        }
    }
    assert!(read > 1000 && refused > 1000, "{read} read, {refused} refused");
}
