use proptest::prelude::*;

use super::{lane, pack, panel, ternary, unpack, validate};
use crate::{PackError, Width};

/// All sequences of `count` codes below `levels`.
fn sequences(levels: u32, count: u32) -> impl Iterator<Item = Vec<u8>> {
    (0..levels.pow(count)).map(move |mut value| {
        (0..count)
            .map(|_| {
                let code = value % levels;
                value /= levels;
                code as u8
            })
            .collect()
    })
}

#[test]
fn every_group_of_codes_has_its_own_bytes_and_comes_back() {
    for (width, group) in
        [(Width::Ternary, 5), (Width::Two, 4), (Width::Four, 2), (Width::Eight, 1)]
    {
        let mut seen = [false; 256];
        for codes in sequences(width.levels(), group) {
            let packed = pack(width, 1, group as usize, &codes).unwrap();
            assert_eq!(packed.len(), 1);
            assert!(!std::mem::replace(&mut seen[packed[0] as usize], true));
            assert_eq!(unpack(width, 1, group as usize, &packed).unwrap(), codes);
        }
        let used = seen.iter().filter(|&&seen| seen).count();
        assert_eq!(used as u32, width.levels().pow(group));
    }
}

#[test]
fn every_pair_and_every_place_of_a_three_bit_group_comes_back() {
    for first in 0..8 {
        for second in 0..8 {
            for codes in sequences(8, 2) {
                let mut group = [5, 2, 7, 0, 1, 6, 3, 4];
                group[first] = codes[0];
                group[second] = codes[1];
                let packed = pack(Width::Three, 1, 8, &group).unwrap();
                assert_eq!(packed.len(), 3);
                assert_eq!(unpack(Width::Three, 1, 8, &packed).unwrap(), group);
            }
        }
    }
}

#[test]
fn bits_lie_where_the_format_says() {
    assert_eq!(pack(Width::Two, 1, 4, &[1, 2, 3, 0]).unwrap(), [0b00_11_10_01]);
    assert_eq!(pack(Width::Four, 1, 2, &[0x3, 0xa]).unwrap(), [0xa3]);
    let three = pack(Width::Three, 1, 8, &[1, 2, 3, 4, 5, 6, 7, 0]).unwrap();
    let bits = u32::from_le_bytes([three[0], three[1], three[2], 0]);
    assert_eq!(bits, 0b000_111_110_101_100_011_010_001);
    assert_eq!(pack(Width::Eight, 1, 2, &[7, 255]).unwrap(), [7, 255]);
    // v = 81: ceil(81 * 256 / 243) = 86.
    assert_eq!(pack(Width::Ternary, 1, 5, &[1, 0, 0, 0, 0]).unwrap(), [86]);
    assert_eq!(pack(Width::Ternary, 1, 5, &[2; 5]).unwrap(), [255]);
}

#[test]
fn ternary_bytes_follow_the_formula_and_thirteen_are_refused() {
    let mut used = 0;
    for byte in 0..=255_u8 {
        let result = unpack(Width::Ternary, 1, 5, &[byte]);
        let value = (0..243_u32).find(|value| (value * 256).div_ceil(243) == u32::from(byte));
        if let Some(value) = value {
            used += 1;
            let digits = result.unwrap();
            let back = digits.iter().fold(0, |v, &digit| v * 3 + u32::from(digit));
            assert_eq!(back, value);
        } else {
            let error = PackError::UnusedByte { row: 0, index: 0, byte };
            assert_eq!(result, Err(error));
        }
        assert_eq!(ternary::is_used(byte), value.is_some());
    }
    assert_eq!(used, 243);
}

#[test]
fn padding_that_is_not_zero_is_refused() {
    for width in Width::ALL {
        for cols in 1..=16 {
            let packed = pack(width, 2, cols, &vec![0; 2 * cols]).unwrap();
            let row_bytes = width.row_bytes(cols);
            for byte in 0..=255_u8 {
                let mut changed = packed.clone();
                changed[2 * row_bytes - 1] = byte;
                let canonical = unpack(width, 2, cols, &changed)
                    .is_ok_and(|codes| pack(width, 2, cols, &codes).unwrap() == changed);
                assert_eq!(validate(width, 2, cols, &changed).is_ok(), canonical);
                if !canonical && width != Width::Ternary {
                    let error = Err(PackError::Padding { row: 1 });
                    assert_eq!(validate(width, 2, cols, &changed), error);
                }
            }
        }
    }
}

#[test]
fn wrong_lengths_and_codes_are_named() {
    let error = pack(Width::Two, 2, 3, &[0; 5]).unwrap_err();
    assert_eq!(error.to_string(), "expected 6 codes for this shape, found 5");
    let error = unpack(Width::Two, 2, 3, &[0; 3]).unwrap_err();
    assert_eq!(error.to_string(), "expected 2 packed bytes for this shape, found 3");
    let error = pack(Width::Ternary, 2, 3, &[0, 1, 2, 0, 3, 0]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "code 3 at row 1, column 1 is not below 3, the number of levels at 1.58 bit"
    );
    let too_large = PackError::TooLarge { rows: usize::MAX, cols: 8 };
    assert_eq!(pack(Width::Three, usize::MAX, 8, &[]), Err(too_large));
}

#[test]
fn shapes_without_codes_have_no_bytes() {
    for width in Width::ALL {
        for (rows, cols) in [(0, 0), (0, 5), (5, 0)] {
            assert_eq!(pack(width, rows, cols, &[]).unwrap(), []);
            assert_eq!(unpack(width, rows, cols, &[]).unwrap(), []);
        }
    }
}

/// Places the codes of one channel in its zeroed lane one at a time, where `panel.rs` says that they lie.
fn place_each(width: Width, codes: &[u8], panel: &mut [u32], lanes: usize, lane: usize) {
    let stride = panel::group_words(width) * lanes;
    let depth = panel::group_depth(width);
    for (codes, words) in codes.chunks(depth).zip(panel.chunks_exact_mut(stride)) {
        for (k, &code) in codes.iter().enumerate() {
            let (byte, step) = (8 * (k % 4), k / 4);
            let code = u32::from(code);
            match width {
                Width::Ternary | Width::Two => words[lane] |= code << (byte + 2 * step),
                Width::Three => {
                    words[step / 4 * lanes + lane] |= (code & 3) << (byte + 2 * (step % 4));
                    words[2 * lanes + lane] |= (code >> 2) << (byte + step);
                }
                Width::Four => words[lane] |= code << (byte + 4 * step),
                Width::Eight => words[lane] |= code << byte,
            }
        }
    }
}

/// A width, a shape and its codes.
fn matrices() -> impl Strategy<Value = (Width, usize, usize, Vec<u8>)> {
    (0..Width::ALL.len(), 1..6_usize, 1..70_usize).prop_flat_map(|(width, rows, cols)| {
        let width = Width::ALL[width];
        let code = 0..=(width.levels() - 1) as u8;
        let codes = prop::collection::vec(code, rows * cols);
        (Just(width), Just(rows), Just(cols), codes)
    })
}

proptest! {
    #[test]
    fn packed_codes_come_back((width, rows, cols, codes) in matrices()) {
        let packed = pack(width, rows, cols, &codes).unwrap();
        prop_assert_eq!(packed.len(), rows * width.row_bytes(cols));
        prop_assert_eq!(unpack(width, rows, cols, &packed).unwrap(), codes);
    }

    #[test]
    fn what_unpacks_packs_to_the_same_bytes(
        width in 0..Width::ALL.len(),
        cols in 1..40_usize,
        mut bytes in prop::collection::vec(any::<u8>(), 40),
    ) {
        let width = Width::ALL[width];
        bytes.truncate(width.row_bytes(cols));
        if let Ok(codes) = unpack(width, 1, cols, &bytes) {
            prop_assert_eq!(pack(width, 1, cols, &codes).unwrap(), bytes);
        }
    }

    #[test]
    fn lanes_are_what_placing_code_by_code_makes(
        width in 0..Width::ALL.len(),
        cols in prop_oneof![1..100_usize, 1000..5000_usize],
        lanes in prop_oneof![Just(8_usize), Just(16), Just(32)],
        lane in any::<prop::sample::Index>(),
        seed: u32,
    ) {
        let width = Width::ALL[width];
        let lane = lane.index(lanes);
        let mut state = seed;
        let codes: Vec<u8> = (0..cols)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((state >> 16) % width.levels()) as u8
            })
            .collect();
        let packed = pack(width, 1, cols, &codes).unwrap();
        // Neither the other lanes nor what was there before may matter.
        let mut words = vec![0xdead_beef; panel::panel_words(width, cols, lanes)];
        let mut expected = words.clone();
        expected.iter_mut().skip(lane).step_by(lanes).for_each(|word| *word = 0);
        place_each(width, &codes, &mut expected, lanes, lane);
        let sum = lane::fill(width, &packed, &mut words, lanes, lane);
        prop_assert_eq!(words, expected);
        prop_assert_eq!(sum, codes.iter().map(|&code| i32::from(code)).sum::<i32>());
    }

    #[test]
    fn panels_expand_to_the_codes((width, rows, cols, codes) in matrices()) {
        const LANES: usize = 8;
        let depth = cols.next_multiple_of(panel::DEPTH_STEP);
        let mut words = vec![0; panel::panel_words(width, cols, LANES)];
        let packed = pack(width, rows, cols, &codes).unwrap();
        for (lane, bytes) in packed.chunks(width.row_bytes(cols)).enumerate() {
            lane::fill(width, bytes, &mut words, LANES, lane);
        }
        let mut floats = vec![0.0; depth * LANES];
        panel::expand_f32::<LANES>(width, &words, &mut floats);
        let mut bytes = vec![0; depth / 4 * LANES];
        panel::expand_bytes::<LANES>(width, &words, &mut bytes);
        let mut pairs = vec![0; depth / 2 * LANES];
        panel::expand_half::<LANES>(width, &words, &mut pairs);
        let mut halves = vec![0; depth / 2 * LANES];
        if width == Width::Eight {
            panel::expand_pairs::<LANES>(&words, &mut halves);
        }
        for lane in 0..rows {
            for k in 0..cols {
                let code = u32::from(codes[lane * cols + k]);
                let centred = floats[k * LANES + lane] + width.middle() as f32;
                prop_assert_eq!(centred, code as f32);
                let byte = bytes[k / 4 * LANES + lane] >> (8 * (k % 4)) & 0xff;
                prop_assert_eq!(byte, code);
                let bits = pairs[k / 2 * LANES + lane] >> (16 * (k % 2)) << 16;
                prop_assert_eq!(f32::from_bits(bits), centred - width.middle() as f32);
                if width == Width::Eight {
                    let half = halves[(k / 4 * 2 + k % 2) * LANES + lane];
                    prop_assert_eq!(half >> (16 * (k % 4 / 2)) & 0xffff, code);
                }
            }
        }
    }
}
