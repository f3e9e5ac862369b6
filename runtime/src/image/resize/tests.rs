use proptest::prelude::*;

use super::taps::{HALF, PRECISION_BITS, Taps, to_fixed};
use super::*;
use crate::image::decode;
use crate::image::tests::{Cases, fixture, pattern};

const FILTERS: [(&str, Filter); 6] = [
    ("nearest", Filter::Nearest),
    ("box", Filter::Box),
    ("bilinear", Filter::Bilinear),
    ("hamming", Filter::Hamming),
    ("bicubic", Filter::Bicubic),
    ("lanczos", Filter::Lanczos),
];

#[test]
fn equals_pillow_byte_for_byte() {
    let mut cases = Cases::read("resize");
    for row in std::mem::take(&mut cases.rows) {
        let [source, width, height, filter] = row.try_into().unwrap();
        let color = if source == "grey.png" { ColorMode::Grey } else { ColorMode::Rgb };
        let image = decode(fixture(&source), color).unwrap();
        let (_, kind) = FILTERS.into_iter().find(|(name, _)| *name == filter).unwrap();
        let resized =
            resize(&image, width.parse().unwrap(), height.parse().unwrap(), kind).unwrap();
        let expected = cases.take(resized.pixels().len());
        assert!(resized.pixels() == expected, "{source} to {width} x {height}, {filter}");
    }
    cases.finish();
}

#[test]
fn same_size_is_a_copy() {
    let image = pattern(17, 9, ColorMode::Rgb);
    for (name, filter) in FILTERS {
        assert_eq!(resize(&image, 17, 9, filter).unwrap(), image, "{name}");
    }
}

#[test]
fn constant_pictures_stay_constant() {
    for value in [0, 1, 127, 254, 255] {
        let image = Image::new(13, 31, ColorMode::Grey, vec![value; 13 * 31]).unwrap();
        for (name, filter) in FILTERS {
            for (width, height) in [(5, 7), (40, 90), (13, 2), (1, 1)] {
                let resized = resize(&image, width, height, filter).unwrap();
                assert!(resized.pixels().iter().all(|&found| found == value), "{name} {value}");
            }
        }
    }
}

#[test]
fn weights_are_rounded_half_away_from_zero() {
    let unit = f64::from(1 << PRECISION_BITS);
    assert_eq!(to_fixed(1.0), 1 << PRECISION_BITS);
    assert_eq!(to_fixed(2.5 / unit), 3);
    assert_eq!(to_fixed(-2.5 / unit), -3);
    assert_eq!(to_fixed(0.25 / unit), 0);
}

#[test]
fn refuses_impossible_sizes() {
    let image = pattern(3, 3, ColorMode::Rgb);
    for (width, height) in [(0, 4), (4, 0), (0, 0)] {
        let error = resize(&image, width, height, Filter::Bicubic).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input, "{error}");
    }
    let error = resize(&image, u32::MAX, u32::MAX, Filter::Bicubic).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    let window = Window { left: 5, top: 0, width: 6, height: 1 };
    let error = resize_window(&image, 10, 10, window, Filter::Bicubic).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input, "{error}");
    let window = Window { left: u64::MAX, ..window };
    let error = resize_window(&image, u64::MAX, 10, window, Filter::Bicubic).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input, "{error}");
}

#[test]
fn a_window_of_a_huge_picture_is_cheap() {
    let image = pattern(65_535, 1, ColorMode::Rgb);
    for (_, filter) in FILTERS {
        let (width, height) = (65_535 * 256, 256);
        let window = Window { left: width / 2, top: 16, width: 224, height: 224 };
        let resized = resize_window(&image, width, height, window, filter).unwrap();
        assert_eq!((resized.width(), resized.height()), (224, 224));
        // Far beyond what any Pillow could hold.
        let window = Window { left: 1 << 40, ..window };
        resize_window(&image, 1 << 41, height, window, filter).unwrap();
    }
}

fn filters() -> impl Strategy<Value = Filter> {
    prop::sample::select(FILTERS.map(|(_, filter)| filter).to_vec())
}

fn colors() -> impl Strategy<Value = ColorMode> {
    prop::sample::select(vec![ColorMode::Grey, ColorMode::Rgb])
}

proptest! {
    /// Every pair of sizes works; the worst input for the 32-bit sums is black and white.
    #[test]
    fn any_size_to_any_size(
        source in (1_u32..64, 1_u32..64),
        target in (1_u32..64, 1_u32..64),
        color in colors(),
        filter in filters(),
        seed in any::<u32>(),
    ) {
        let length = source.0 * source.1 * color.channels() as u32;
        let bits = (0..length).map(|index| (index ^ seed).wrapping_mul(2_654_435_761) >> 31);
        let pixels = bits.map(|bit| if bit == 1 { 255 } else { 0 }).collect();
        let image = Image::new(source.0, source.1, color, pixels).unwrap();
        let resized = resize(&image, target.0, target.1, filter).unwrap();
        prop_assert_eq!((resized.width(), resized.height()), target);
    }

    /// No sum of weights can overflow 32 bits, whatever the pixels.
    #[test]
    fn sums_stay_in_range(source in 1_usize..5000, output in 1_u64..5000, filter in filters()) {
        let axis = Axis { source, output, first: 0, count: output as usize };
        for (_, weights) in Taps::new(axis, filter).iter() {
            let largest: i64 = weights.iter().map(|&weight| i64::from(weight).abs() * 255).sum();
            prop_assert!(largest + i64::from(HALF) <= i64::from(i32::MAX));
        }
    }

    /// A window holds the same bytes as that part of the whole.
    #[test]
    fn a_window_is_a_part_of_the_whole(
        source in (1_u32..40, 1_u32..40),
        target in (1_u32..40, 1_u32..40),
        corner in (0.0_f64..1.0, 0.0_f64..1.0),
        extent in (0.0_f64..1.0, 0.0_f64..1.0),
        color in colors(),
        filter in filters(),
    ) {
        let image = pattern(source.0, source.1, color);
        let place = |size: u32, corner: f64, extent: f64| {
            let first = (f64::from(size) * corner) as u32;
            (first, 1 + (f64::from(size - first - 1) * extent) as u32)
        };
        let (left, width) = place(target.0, corner.0, extent.0);
        let (top, height) = place(target.1, corner.1, extent.1);
        let whole = resize(&image, target.0, target.1, filter).unwrap();
        let window = Window { left: left.into(), top: top.into(), width, height };
        let part =
            resize_window(&image, target.0.into(), target.1.into(), window, filter).unwrap();
        let channels = color.channels();
        let expected: Vec<u8> = whole
            .pixels()
            .chunks_exact(target.0 as usize * channels)
            .skip(top as usize)
            .take(height as usize)
            .flat_map(|row| &row[left as usize * channels..(left + width) as usize * channels])
            .copied()
            .collect();
        prop_assert_eq!(part.pixels(), expected);
    }
}
