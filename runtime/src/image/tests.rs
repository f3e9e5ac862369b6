use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::*;
use crate::format::manifest::{CropMode, Interpolation, Preprocessing};

/// A file of the fixtures; `make.py` beside them tells how they were made.
pub(in crate::image) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/image").join(name)
}

/// A table of cases and the bytes that belong to them, back to back.
pub(in crate::image) struct Cases {
    pub(in crate::image) rows: Vec<Vec<String>>,
    results: std::vec::IntoIter<u8>,
}

impl Cases {
    pub(in crate::image) fn read(name: &str) -> Self {
        let table = std::fs::read_to_string(fixture(&format!("{name}.csv"))).unwrap();
        let rows = table
            .lines()
            .skip(1)
            .map(|line| line.split(',').map(str::to_owned).collect())
            .collect();
        let results = std::fs::read(fixture(&format!("{name}.raw"))).unwrap();
        Self { rows, results: results.into_iter() }
    }

    /// The bytes of the next case.
    pub(in crate::image) fn take(&mut self, length: usize) -> Vec<u8> {
        let bytes: Vec<u8> = self.results.by_ref().take(length).collect();
        assert_eq!(bytes.len(), length, "the fixtures do not belong together");
        bytes
    }

    pub(in crate::image) fn finish(self) {
        assert_eq!(self.results.len(), 0, "the fixtures do not belong together");
    }
}

/// A picture whose bytes all differ from their neighbours'.
pub(in crate::image) fn pattern(width: u32, height: u32, color: ColorMode) -> Image {
    let length = width as usize * height as usize * color.channels();
    let pixels = (0..length as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8);
    Image::new(width, height, color, pixels.collect()).unwrap()
}

/// DeiT's preprocessing.
pub(in crate::image) fn deit() -> Preprocessing {
    Preprocessing {
        input_size: [224, 224],
        crop_pct: 0.9,
        crop_mode: CropMode::Center,
        interpolation: Interpolation::Bicubic,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    }
}

#[test]
fn refuses_pixels_of_the_wrong_length() {
    for (width, height, length) in
        [(2, 2, 11), (2, 2, 13), (0, 2, 0), (2, 0, 0), (u32::MAX, u32::MAX, 0)]
    {
        let error = Image::new(width, height, ColorMode::Rgb, vec![0; length]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input, "{error}");
    }
}

#[test]
fn converts_between_grey_and_rgb() {
    let rgb = Image::new(2, 1, ColorMode::Rgb, vec![255, 255, 255, 200, 10, 30]).unwrap();
    // (200 * 19595 + 10 * 38470 + 30 * 7471 + 32768) >> 16
    let grey = rgb.into_color(ColorMode::Grey);
    assert_eq!(grey.pixels(), [255, 69]);
    let rgb = grey.into_color(ColorMode::Rgb);
    assert_eq!(rgb.pixels(), [255, 255, 255, 69, 69, 69]);
    assert_eq!(rgb.clone().into_color(ColorMode::Rgb), rgb);
}

#[test]
fn knows_colour_modes_by_channels() {
    assert_eq!(ColorMode::from_channels(1).unwrap(), ColorMode::Grey);
    assert_eq!(ColorMode::from_channels(3).unwrap(), ColorMode::Rgb);
    assert_eq!(ColorMode::from_channels(4).unwrap_err().kind(), ErrorKind::Unsupported);
}

/// Real photographs, where they are at hand: in the folder that FRESNEL_SHARED names, or in `shared`
/// beside the workspace.
#[test]
fn decodes_real_photographs() {
    let shared = std::env::var_os("FRESNEL_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let folder = shared.join("images/imagenet_compat");
    if !folder.is_dir() {
        // Not `println!`, which the test runner keeps to itself when a test passes.
        let _ = writeln!(std::io::stderr(), "skipped: no photographs at {}", folder.display());
        return;
    }
    let preprocessor = Preprocessor::new(&deit(), 3).unwrap();
    for (list, count) in [("calibration.csv", 200), ("evaluation.csv", 800)] {
        let listing = dataset::list(folder.join(list)).unwrap();
        assert_eq!(listing.items.len(), count);
        assert!(listing.items.iter().all(|item| item.label.is_some()));
        let paths: Vec<_> = listing.items.iter().map(|item| &item.path).collect();
        for path in &paths {
            decode(path, ColorMode::Rgb).unwrap();
        }
        for result in preprocessor.load_all(&paths[..20], 0) {
            let pixels = result.unwrap();
            assert_eq!(pixels.len(), 3 * 224 * 224);
            assert!(pixels.iter().all(|value| (-2.2..2.7).contains(value)));
        }
    }
}
