use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::format::manifest::Interpolation;
use crate::image::tests::{Cases, deit, fixture, pattern};

fn numbers(list: &str) -> [f32; 3] {
    let mut numbers = [1.0; 3];
    for (number, text) in numbers.iter_mut().zip(list.split(' ')) {
        *number = text.parse().unwrap();
    }
    numbers
}

#[test]
fn equals_timm_value_for_value() {
    let mut cases = Cases::read("preprocess");
    for row in std::mem::take(&mut cases.rows) {
        let [source, channels, height, width, crop_pct, mode, interpolation, mean, std] =
            row.clone().try_into().unwrap();
        let preprocessing = Preprocessing {
            input_size: [height.parse().unwrap(), width.parse().unwrap()],
            crop_pct: crop_pct.parse().unwrap(),
            crop_mode: match mode.as_str() {
                "center" => CropMode::Center,
                "squash" => CropMode::Squash,
                "border" => CropMode::Border,
                other => panic!("{other}"),
            },
            interpolation: match interpolation.as_str() {
                "nearest" => Interpolation::Nearest,
                "bilinear" => Interpolation::Bilinear,
                "bicubic" => Interpolation::Bicubic,
                "lanczos" => Interpolation::Lanczos,
                other => panic!("{other}"),
            },
            mean: numbers(&mean),
            std: numbers(&std),
        };
        let preprocessor = Preprocessor::new(&preprocessing, channels.parse().unwrap()).unwrap();
        let found = preprocessor.load(fixture(&source)).unwrap();
        assert_eq!(found.len(), preprocessor.output_len());
        let expected = cases.take(found.len() * 4);
        let (expected, _) = expected.as_chunks::<4>();
        let differing = found
            .iter()
            .zip(expected)
            .filter(|(found, expected)| **found != f32::from_le_bytes(**expected))
            .count();
        assert_eq!(differing, 0, "{row:?}");
    }
    cases.finish();
}

#[test]
fn converts_the_picture_to_the_channels_of_the_model() {
    let rgb = pattern(300, 260, ColorMode::Rgb);
    let grey = rgb.clone().into_color(ColorMode::Grey);
    for (channels, image) in [(1, &rgb), (3, &grey)] {
        let color = ColorMode::from_channels(channels).unwrap();
        let found = preprocess(&deit(), channels, image).unwrap();
        let expected = preprocess(&deit(), channels, &image.clone().into_color(color)).unwrap();
        assert_eq!(found.len(), channels as usize * 224 * 224);
        assert!(found == expected);
    }
}

/// `floor(224 / 0.8)` is 280 with the decimal 0.8, but 279 with the single-precision 0.8 widened.
#[test]
fn takes_fractions_as_decimals() {
    for (crop_pct, scale_size) in [(0.8, 280), (0.7, 320), (0.875, 256), (0.9, 248), (0.95, 235)] {
        let preprocessing = Preprocessing { crop_pct, ..deit() };
        let preprocessor = Preprocessor::new(&preprocessing, 3).unwrap();
        assert_eq!(preprocessor.scale_size, [scale_size; 2], "{crop_pct}");
    }
    assert_eq!(decimal(0.8), 0.8);
    assert!(decimal(f32::NAN).is_nan());
    assert_eq!(decimal(f32::INFINITY), f64::INFINITY);
}

#[test]
fn places_crops_as_torchvision_does() {
    let span = |before, first, count| Span { before, first, count };
    assert_eq!(Span::centred(248, 224), span(0, 12, 224));
    // 0.5 and 2.5 are rounded down, 1.5 is rounded up: to even.
    assert_eq!(Span::centred(225, 224), span(0, 0, 224));
    assert_eq!(Span::centred(227, 224), span(0, 2, 224));
    assert_eq!(Span::centred(229, 224), span(0, 2, 224));
    assert_eq!(Span::centred(224, 224), span(0, 0, 224));
    assert_eq!(Span::centred(221, 224), span(1, 0, 221));
    assert_eq!(Span::centred(1 << 40, 2), span(0, (1 << 39) - 1, 2));
}

#[test]
fn refuses_settings_out_of_range() {
    let wrong = [
        Preprocessing { crop_pct: 0.0, ..deit() },
        Preprocessing { crop_pct: -0.5, ..deit() },
        Preprocessing { crop_pct: f32::NAN, ..deit() },
        Preprocessing { crop_pct: f32::INFINITY, ..deit() },
        Preprocessing { crop_pct: 1e-9, ..deit() },
        Preprocessing { crop_pct: 1e9, ..deit() },
        Preprocessing { input_size: [0, 224], ..deit() },
        Preprocessing { input_size: [224, u32::MAX], ..deit() },
        Preprocessing { mean: [0.5, f32::NAN, 0.5], ..deit() },
        Preprocessing { std: [0.5, 0.0, 0.5], ..deit() },
        Preprocessing { std: [0.5, -1.0, 0.5], ..deit() },
        Preprocessing { std: [0.5, 1e-45, 0.5], ..deit() },
    ];
    for preprocessing in wrong {
        let error = Preprocessor::new(&preprocessing, 3).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error} for {preprocessing:?}");
    }
    // What a grey model does not use is not looked at.
    let grey = Preprocessing { std: [0.3, 0.0, 0.0], ..deit() };
    Preprocessor::new(&grey, 1).unwrap();
    assert_eq!(Preprocessor::new(&deit(), 2).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn extreme_shapes_cost_no_more_than_others() {
    for (width, height) in [(65_535, 1), (1, 65_535), (1, 1)] {
        for crop_mode in [CropMode::Center, CropMode::Squash, CropMode::Border] {
            let preprocessing = Preprocessing { crop_mode, ..deit() };
            let output = preprocess(&preprocessing, 3, &pattern(width, height, ColorMode::Rgb));
            assert_eq!(output.unwrap().len(), 3 * 224 * 224);
        }
    }
}

#[test]
fn many_pictures_come_in_order_with_their_own_errors() {
    let preprocessor = Preprocessor::new(&deit(), 3).unwrap();
    let names = ["waves.png", "missing.png", "noise.png", "make.py", "tall.png", "dot.png"];
    let paths = names.map(fixture);
    let alone: Vec<_> = paths.iter().map(|path| preprocessor.load(path)).collect();
    for threads in [0, 1, 2, 7] {
        let together = preprocessor.load_all(&paths, threads);
        assert_eq!(together.len(), paths.len());
        for (together, alone) in together.iter().zip(&alone) {
            match (together, alone) {
                (Ok(together), Ok(alone)) => assert!(together == alone),
                (Err(together), Err(alone)) => {
                    assert_eq!(together.to_string(), alone.to_string());
                }
                _ => panic!("{threads} threads give another result than one"),
            }
        }
    }
    let kinds: Vec<_> = alone.iter().map(|result| result.as_ref().err().map(Error::kind)).collect();
    let expected = [None, Some(ErrorKind::Io), None, Some(ErrorKind::Image), None, None];
    assert_eq!(kinds, expected);
    assert!(preprocessor.load_all::<&Path>(&[], 4).is_empty());
}

proptest! {
    #[test]
    fn any_picture_gives_a_whole_finite_input(
        width in 1_u32..64,
        height in 1_u32..64,
        input_size in [1_u32..64, 1_u32..64],
        crop_pct in 0.05_f32..2.0,
        crop_mode in prop::sample::select(vec![CropMode::Center, CropMode::Squash, CropMode::Border]),
        interpolation in prop::sample::select(vec![
            Interpolation::Nearest,
            Interpolation::Bilinear,
            Interpolation::Bicubic,
            Interpolation::Lanczos,
        ]),
        channels in prop::sample::select(vec![1_u32, 3]),
    ) {
        let preprocessing =
            Preprocessing { input_size, crop_pct, crop_mode, interpolation, ..deit() };
        match Preprocessor::new(&preprocessing, channels) {
            Ok(preprocessor) => {
                let output = preprocessor.apply(&pattern(width, height, ColorMode::Rgb)).unwrap();
                prop_assert_eq!(output.len(), preprocessor.output_len());
                prop_assert!(output.iter().all(|value| value.is_finite()));
            }
            // A crop_pct above the input size leaves no pixel.
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Invalid),
        }
    }
}
