use proptest::prelude::*;

use crate::samples::{Samples, in_blocks};
use crate::{Activations, Arithmetic, Isa, Layout, Patches, Pool, Rows, reference};

fn pack(pool: &Pool, arithmetic: Arithmetic, rows: &Rows<'_>) -> Activations {
    let mut packed = Activations::new();
    packed.pack(pool, arithmetic, rows);
    packed
}

fn quantized(pool: &Pool, values: &[f32], columns: usize) -> Activations {
    pack(pool, Arithmetic::Int8, &Rows::Plain { values, columns, layout: Layout::Rows })
}

/// The definition, one row at a time.
fn quantized_row(row: &[f32]) -> (Vec<i8>, f32, i32) {
    let low = row.iter().fold(0.0_f32, |low, &x| low.min(x));
    let high = row.iter().fold(0.0_f32, |high, &x| high.max(x));
    let step = (high - low) / 255.0;
    let scale = if step < 1e-37 { 1.0 } else { step };
    let inverse = 1.0 / scale;
    let zero = (-low * inverse).round_ties_even() as i32 - 128;
    let code = |x: &f32| ((x * inverse).round_ties_even() as i32 + zero).clamp(-128, 127) as i8;
    (row.iter().map(code).collect(), scale, zero)
}

fn pools() -> Vec<Pool> {
    Isa::available()
        .into_iter()
        .flat_map(|isa| [1, 3].map(|threads| Pool::with_isa(threads, isa).unwrap()))
        .collect()
}

fn check(a: &[f32], k: usize) {
    for pool in pools() {
        let isa = pool.isa();
        let packed = quantized(&pool, a, k);
        let (codes, scales, zeros) = packed.to_codes();
        for (row, values) in a.chunks(k).enumerate() {
            let (expected, scale, zero) = quantized_row(values);
            assert_eq!(codes[row * k..][..k], expected, "{isa}, row {row}");
            assert_eq!(scales[row].to_bits(), scale.to_bits(), "{isa}");
            assert_eq!(zeros[row], zero);
            let sum: i32 = expected.iter().map(|&code| i32::from(code) - zero).sum();
            assert_eq!(packed.grids()[row].code_sum, sum);
        }
    }
}

#[test]
fn codes_follow_the_definition_on_every_instruction_set() {
    let mut samples = Samples::new(1);
    for (m, k) in [(1, 1), (3, 7), (2, 64), (17, 33), (40, 100)] {
        check(&samples.floats(m * k, 3.0), k);
    }
}

#[test]
fn halves_round_to_even_and_extremes_are_reached() {
    let pool = Pool::with_isa(1, Isa::best()).unwrap();
    // The scale is 1: quotients are the numbers themselves.
    let one_sided = [0.0, 255.0, 100.0, 0.5, 1.5];
    let (codes, scales, zeros) = quantized(&pool, &one_sided, 5).to_codes();
    assert_eq!(codes, [-128, 127, -28, -128, -126]);
    assert_eq!((&scales[..], &zeros[..]), (&[1.0][..], &[-128][..]));
    check(&one_sided, 5);
    let two_sided = [-128.0, 127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5, 0.0];
    let (codes, ..) = quantized(&pool, &two_sided, 10).to_codes();
    assert_eq!(codes, [-128, 127, 0, 2, 2, 0, -2, -2, 126, 0]);
    check(&two_sided, 10);
}

#[test]
fn zero_rows_have_scale_one() {
    for pool in pools() {
        for zero in [0.0, -0.0, f32::from_bits(1), 1e-36] {
            let (codes, scales, zeros) = quantized(&pool, &[zero; 20], 10).to_codes();
            assert_eq!(scales, [1.0; 2]);
            assert!(codes.iter().all(|&code| i32::from(code) == zeros[0]));
        }
    }
}

#[test]
fn rows_that_are_not_finite_become_nan_and_leave_the_others_alone() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for place in [0, 5, 18] {
            let mut a = Samples::new(2).floats(3 * 19, 1.0);
            let clean = a.clone();
            a[19 + place] = value;
            for pool in pools() {
                let (expected, expected_scales, _) = quantized(&pool, &clean, 19).to_codes();
                let (codes, scales, _) = quantized(&pool, &a, 19).to_codes();
                assert!(scales[1].is_nan());
                assert_eq!(codes[19..38], [0; 19]);
                for row in [0, 2] {
                    assert_eq!(scales[row], expected_scales[row]);
                    let range = row * 19..row * 19 + 19;
                    assert_eq!(codes[range.clone()], expected[range]);
                }
            }
        }
    }
    // The range overflows.
    let pool = Pool::with_isa(1, Isa::best()).unwrap();
    assert!(quantized(&pool, &[f32::MAX, f32::MIN], 2).to_codes().1[0].is_nan());
}

#[test]
fn empty_shapes_are_accepted() {
    let pool = Pool::with_isa(1, Isa::best()).unwrap();
    assert_eq!(quantized(&pool, &[], 5).rows(), 0);
    assert_eq!(quantized(&pool, &[], 0).columns(), 0);
}

/// Packing rows of a kind is packing what they are computed from.
#[test]
fn normalized_rows_are_packed_like_rows_that_were_normalized_before() {
    let (m, k) = (37, 70);
    let mut samples = Samples::new(6);
    let (x, gamma, beta) =
        (samples.floats(m * k, 3.0), samples.floats(k, 1.0), samples.floats(k, 1.0));
    for pool in pools() {
        let mut normalized = vec![0.0; m * k];
        crate::ops::layer_norm(&pool, &x, &gamma, &beta, 1e-6, &mut normalized);
        for arithmetic in [Arithmetic::F32, Arithmetic::Int8] {
            let rows = Rows::Normalized {
                x: &x,
                gamma: &gamma,
                beta: &beta,
                eps: 1e-6,
                layout: Layout::Rows,
            };
            let fused = pack(&pool, arithmetic, &rows);
            let plain = Rows::Plain { values: &normalized, columns: k, layout: Layout::Rows };
            let apart = pack(&pool, arithmetic, &plain);
            assert_eq!(fused.words(), apart.words());
            assert_eq!(fused.grids(), apart.grids());
        }
    }
}

#[test]
fn rows_of_half_precision_are_packed_like_their_numbers() {
    let values: Vec<half::f16> =
        Samples::new(9).floats(5 * 37, 3.0).into_iter().map(half::f16::from_f32).collect();
    let widened: Vec<f32> = values.iter().map(|value| value.to_f32()).collect();
    for pool in pools() {
        for arithmetic in [Arithmetic::F32, Arithmetic::Int8] {
            let halves = pack(
                &pool,
                arithmetic,
                &Rows::Half { values: &values, columns: 37, layout: Layout::Rows },
            );
            let plain = pack(
                &pool,
                arithmetic,
                &Rows::Plain { values: &widened, columns: 37, layout: Layout::Rows },
            );
            assert_eq!(halves.words(), plain.words());
            assert_eq!(halves.grids(), plain.grids());
        }
    }
}

/// Packing rows that lie in blocks is packing the same rows one after another: any number of rows in the last tile, rows that
/// are zero, of one sign and not finite.
#[test]
fn rows_in_blocks_are_packed_like_those_one_after_another() {
    for (m, k) in [(1, 64), (6, 128), (37, 192), (16, 640)] {
        let mut samples = Samples::new(m as u64);
        let mut x = samples.floats(m * k, 3.0);
        let [gamma, beta] = [(); 2].map(|()| samples.floats(k, 1.0));
        for (index, row) in x.chunks_mut(k).enumerate() {
            match index {
                1 => row.fill(0.0),
                2 => row.iter_mut().for_each(|value| *value = value.abs()),
                3 => row.iter_mut().for_each(|value| *value = -value.abs()),
                4 => row[k - 1] = f32::NAN,
                5 => row[k / 2] = f32::NEG_INFINITY,
                6 => row.fill(-0.0),
                _ => {}
            }
        }
        let half: Vec<half::f16> = x.iter().map(|&value| half::f16::from_f32(value)).collect();
        let (x_blocks, half_blocks) = (in_blocks(&x, k), in_blocks(&half, k));
        for pool in pools() {
            let arithmetics = Arithmetic::ALL.into_iter().filter(|&one| pool.isa().supports(one));
            for arithmetic in arithmetics {
                let columns = k;
                let kinds = |layout, x, half| {
                    [
                        Rows::Plain { values: x, columns, layout },
                        Rows::Half { values: half, columns, layout },
                        Rows::Normalized { x, gamma: &gamma, beta: &beta, eps: 1e-6, layout },
                    ]
                };
                let rows = kinds(Layout::Rows, &x, &half);
                let blocks = kinds(Layout::Blocks, &x_blocks, &half_blocks);
                for (rows, blocks) in rows.iter().zip(&blocks) {
                    let [expected, found] =
                        [rows, blocks].map(|rows| pack(&pool, arithmetic, rows));
                    let name = format!("{}, {arithmetic:?}, {m} x {k}", pool.isa());
                    assert_eq!(expected.words(), found.words(), "{name}");
                    // As text, NaN is itself.
                    let grids = [&expected, &found].map(|packed| format!("{:?}", packed.grids()));
                    assert_eq!(grids[0], grids[1], "{name}");
                }
            }
        }
    }
}

#[test]
fn patches_hold_the_pixels_of_their_window() {
    let (images, channels, [height, width], [patch_height, patch_width]) = (2, 3, [9, 8], [4, 3]);
    let pixels: Vec<f32> = (0..images * channels * height * width).map(|i| i as f32).collect();
    let patches = Patches {
        images: &pixels,
        channels,
        image_size: [height, width],
        patch_size: [patch_height, patch_width],
    };
    let rows = Rows::Patches(patches);
    assert_eq!((rows.count(), rows.columns()), (2 * 2 * 2, 36));
    let mut buffer = vec![0.0; 36];
    for index in 0..8 {
        let row = rows.row(crate::arch::Scalar, index, &mut buffer);
        let (image, top, left) = (index / 4, index % 4 / 2 * 4, index % 2 * 3);
        for (place, &value) in row.iter().enumerate() {
            let (channel, y, x) = (place / 12, top + place % 12 / 3, left + place % 3);
            assert_eq!(value as usize, ((image * channels + channel) * height + y) * width + x);
        }
    }
}

#[test]
#[should_panic(expected = "are not rows of 5")]
fn rows_that_do_not_fill_a_matrix_are_refused() {
    quantized(&Pool::with_isa(1, Isa::best()).unwrap(), &[0.0; 7], 5);
}

proptest! {
    #[test]
    fn dequantized_numbers_are_near(row in prop::collection::vec(-1e3_f32..1e3, 1..80)) {
        let pool = Pool::with_isa(1, Isa::best()).unwrap();
        let (codes, scales, zeros) = quantized(&pool, &row, row.len()).to_codes();
        for (&code, &value) in codes.iter().zip(&row) {
            let back = scales[0] * (i32::from(code) - zeros[0]) as f32;
            prop_assert!((back - value).abs() <= scales[0] * 1.001, "{back} {value} {}", scales[0]);
        }
    }

    #[test]
    fn the_emulated_multiply_add_is_the_fused_one(a in any::<u32>(), b in any::<u32>(), c in any::<u32>()) {
        let [a, b, c] = [a, b, c].map(f32::from_bits);
        let (found, expected) = (crate::ops::math::emulated_mul_add(a, b, c), a.mul_add(b, c));
        prop_assert!(found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan());
    }

    #[test]
    fn the_emulated_multiply_add_is_the_fused_one_where_terms_cancel(
        a in -2.0_f32..2.0,
        b in -2.0_f32..2.0,
        shift in -8..8_i32,
    ) {
        let c = f32::from_bits((-a * b).to_bits().wrapping_add_signed(shift));
        let (found, expected) = (crate::ops::math::emulated_mul_add(a, b, c), a.mul_add(b, c));
        prop_assert_eq!(found.to_bits(), expected.to_bits());
    }

    #[test]
    fn integer_rows_stand_for_the_numbers_of_the_oracle(seed in any::<u64>()) {
        let pool = Pool::with_isa(1, Isa::best()).unwrap();
        let row = Samples::new(seed).floats(64, 5.0);
        let (codes, scales, zeros) = quantized(&pool, &row, 64).to_codes();
        let back: Vec<f64> = codes
            .iter()
            .map(|&code| f64::from(scales[0]) * f64::from(i32::from(code) - zeros[0]))
            .collect();
        let exact: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
        let error = reference::matmul(&back, 1, &vec![1.0; 64], 1, 64)[0]
            - reference::matmul(&exact, 1, &vec![1.0; 64], 1, 64)[0];
        prop_assert!(error.abs() <= 64.0 * f64::from(scales[0]));
    }
}
