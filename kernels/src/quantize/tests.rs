use proptest::prelude::*;

use crate::samples::Samples;
use crate::{Isa, Pool, QuantizedActivations};

fn symmetric(pool: &Pool, a: &[f32], m: usize, k: usize) -> QuantizedActivations {
    let mut quantized = QuantizedActivations::new();
    quantized.quantize_symmetric(pool, a, m, k);
    quantized
}

fn asymmetric(pool: &Pool, a: &[f32], m: usize, k: usize) -> QuantizedActivations {
    let mut quantized = QuantizedActivations::new();
    quantized.quantize_asymmetric(pool, a, m, k);
    quantized
}

/// The definition, one row at a time.
fn symmetric_row(row: &[f32]) -> (Vec<i8>, f32) {
    let largest = row.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
    let scale = if largest == 0.0 { 1.0 } else { largest / 127.0 };
    let codes = row.iter().map(|x| (x / scale).round_ties_even() as i8);
    (codes.collect(), scale)
}

/// The definition, one row at a time.
fn asymmetric_row(row: &[f32]) -> (Vec<i8>, f32, i32) {
    let low = row.iter().fold(0.0_f32, |low, &x| low.min(x));
    let high = row.iter().fold(0.0_f32, |high, &x| high.max(x));
    let scale = if high == low { 1.0 } else { (high - low) / 255.0 };
    let zero = (-low / scale).round_ties_even() as i32 - 128;
    let code = |x: &f32| ((x / scale).round_ties_even() as i32 + zero).clamp(-128, 127) as i8;
    (row.iter().map(code).collect(), scale, zero)
}

fn pools() -> Vec<Pool> {
    Isa::available()
        .into_iter()
        .flat_map(|isa| [1, 3].map(|threads| Pool::with_isa(threads, isa).unwrap()))
        .collect()
}

fn check(a: &[f32], m: usize, k: usize) {
    for pool in pools() {
        let isa = pool.isa();
        let quantized = symmetric(&pool, a, m, k);
        let shifted = asymmetric(&pool, a, m, k);
        for (row, values) in a.chunks(k).enumerate() {
            let (codes, scale) = symmetric_row(values);
            assert_eq!(quantized.codes()[row * k..][..k], codes, "{isa}, row {row}");
            assert_eq!(quantized.scales()[row].to_bits(), scale.to_bits(), "{isa}");
            assert_eq!(quantized.zeros()[row], 0);
            let sum: i32 = codes.iter().map(|&code| i32::from(code)).sum();
            assert_eq!(quantized.sums()[row], sum);

            let (codes, scale, zero) = asymmetric_row(values);
            assert_eq!(shifted.codes()[row * k..][..k], codes, "{isa}, row {row}");
            assert_eq!(shifted.scales()[row].to_bits(), scale.to_bits(), "{isa}");
            assert_eq!(shifted.zeros()[row], zero);
            let sum: i32 = codes.iter().map(|&code| i32::from(code)).sum();
            assert_eq!(shifted.sums()[row], sum);
        }
    }
}

#[test]
fn codes_follow_the_definition_on_every_instruction_set() {
    let mut samples = Samples::new(1);
    for (m, k) in [(1, 1), (3, 7), (2, 64), (17, 33), (40, 100)] {
        check(&samples.floats(m * k, 3.0), m, k);
    }
}

#[test]
fn halves_round_to_even_and_extremes_are_reached() {
    // The scale is 1: quotients are the numbers themselves.
    let row = [127.0, -127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5, 0.0];
    check(&row, 1, row.len());
    let pool = Pool::with_isa(1, Isa::best()).unwrap();
    let quantized = symmetric(&pool, &row, 1, row.len());
    assert_eq!(quantized.codes(), [127, -127, 0, 2, 2, 0, -2, -2, 126, 0]);
    assert_eq!(quantized.scales(), [1.0]);

    let one_sided = [0.0, 255.0, 100.0, 0.5, 1.5];
    let quantized = asymmetric(&pool, &one_sided, 1, 5);
    assert_eq!(quantized.codes(), [-128, 127, -28, -128, -126]);
    assert_eq!(quantized.zeros(), [-128]);
    check(&one_sided, 1, 5);
}

#[test]
fn zero_rows_have_scale_one() {
    for pool in pools() {
        for quantized in
            [symmetric(&pool, &[0.0; 20], 2, 10), asymmetric(&pool, &[-0.0; 20], 2, 10)]
        {
            assert_eq!(quantized.scales(), [1.0; 2]);
            let zero = quantized.zeros()[0];
            assert!(quantized.codes().iter().all(|&code| i32::from(code) == zero));
        }
    }
}

#[test]
fn tiny_numbers_stay_on_the_grid() {
    // 127 times the least subnormal, half as much, and less than any scale can express.
    let least = f32::from_bits(1);
    for row in [[127.0 * least, -least], [60.0 * least, -60.0 * least], [least, 0.0]] {
        for pool in pools() {
            let quantized = symmetric(&pool, &row, 1, 2);
            assert!(quantized.scales()[0] > 0.0);
            assert!(quantized.codes().iter().all(|&code| code >= -127));
            let quantized = asymmetric(&pool, &row, 1, 2);
            assert!(quantized.scales()[0] > 0.0);
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
                for quantize in [symmetric, asymmetric] {
                    let expected = quantize(&pool, &clean, 3, 19);
                    let quantized = quantize(&pool, &a, 3, 19);
                    assert!(quantized.scales()[1].is_nan());
                    assert_eq!(quantized.codes()[19..38], [0; 19]);
                    for row in [0, 2] {
                        assert_eq!(quantized.scales()[row], expected.scales()[row]);
                        let range = row * 19..row * 19 + 19;
                        assert_eq!(quantized.codes()[range.clone()], expected.codes()[range]);
                    }
                }
            }
        }
    }
    // The range overflows.
    let pool = Pool::with_isa(1, Isa::best()).unwrap();
    assert!(asymmetric(&pool, &[f32::MAX, f32::MIN], 1, 2).scales()[0].is_nan());
}

#[test]
fn empty_shapes_are_accepted() {
    let pool = Pool::with_isa(1, Isa::best()).unwrap();
    assert_eq!(symmetric(&pool, &[], 0, 5).rows(), 0);
    let quantized = symmetric(&pool, &[], 4, 0);
    assert_eq!((quantized.rows(), quantized.columns()), (4, 0));
}

proptest! {
    #[test]
    fn dequantized_numbers_are_near(row in prop::collection::vec(-1e3_f32..1e3, 1..80)) {
        let pool = Pool::with_isa(1, Isa::best()).unwrap();
        for quantize in [symmetric, asymmetric] {
            let quantized = quantize(&pool, &row, 1, row.len());
            let (scale, zero) = (quantized.scales()[0], quantized.zeros()[0]);
            for (&code, &value) in quantized.codes().iter().zip(&row) {
                let back = scale * (i32::from(code) - zero) as f32;
                prop_assert!((back - value).abs() <= scale * 1.001, "{back} {value} {scale}");
            }
        }
    }
}
