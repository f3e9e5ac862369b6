//! Matrices made in pieces are those made at once, and hold what they were given.

use half::f16;
use proptest::prelude::*;

use super::{Matrix, MatrixBuilder, Storage, lanes};
use crate::memory::Lines;
use crate::samples::Samples;
use crate::{Isa, MatrixError, PackError, Width, pack};

fn memory(matrix: &Matrix) -> [&[u32]; 4] {
    let (Storage::Codes(_, weights) | Storage::F32(weights) | Storage::F16(weights)) =
        &matrix.storage;
    [weights, &matrix.scale, &matrix.centred_offset, &matrix.code_sums].map(Lines::of)
}

/// Pushes `rows` in pieces of as many rows as `cuts` says, over and over.
fn push(builder: &mut MatrixBuilder, mut rows: &[u8], cuts: &[usize]) {
    let row_bytes = builder.row_bytes();
    for cut in cuts.iter().cycle() {
        if rows.is_empty() {
            return;
        }
        let (now, later) = rows.split_at((cut * row_bytes).min(rows.len()));
        builder.push(now).unwrap();
        rows = later;
    }
}

/// The weight `[n][k]` where a panel of floats has it.
fn place(n: usize, k: usize, depth: usize, lanes: usize) -> usize {
    (n / lanes * depth + k) * lanes + n % lanes
}

proptest! {
    #[test]
    fn pieces_make_the_same_codes_as_the_whole(
        width in 0..Width::ALL.len(),
        n in 1..80_usize,
        k in 1..200_usize,
        cuts in prop::collection::vec(1..40_usize, 1..4),
        seed: u64,
    ) {
        let width = Width::ALL[width];
        let mut samples = Samples::new(seed);
        let codes = samples.codes(n * k, width.levels());
        let packed = pack::pack(width, n, k, &codes).unwrap();
        let (scale, offset) = (samples.floats(n, 1.0), samples.floats(n, 1.0));
        for isa in Isa::available() {
            let whole = Matrix::from_codes(isa, width, n, k, &packed, &scale, &offset).unwrap();
            let mut builder = MatrixBuilder::codes(isa, width, n, k).unwrap();
            push(&mut builder, &packed, &cuts);
            let pieces = builder.finish(&scale, &offset).unwrap();
            prop_assert_eq!(memory(&pieces), memory(&whole));
            prop_assert_eq!(pieces.resident_bytes(), whole.resident_bytes());
            for (row, codes) in codes.chunks(k).enumerate() {
                let sum: i32 = codes.iter().map(|&code| i32::from(code)).sum();
                prop_assert_eq!(whole.code_sums.of::<i32>()[row], sum);
            }
        }
    }

    #[test]
    fn floats_lie_where_the_panels_say(
        n in 1..80_usize,
        k in 1..100_usize,
        cuts in prop::collection::vec(1..40_usize, 1..4),
        seed: u64,
    ) {
        let singles = Samples::new(seed).floats(n * k, 1.0);
        let halves: Vec<f16> = singles.iter().map(|&value| f16::from_f32(value)).collect();
        for isa in Isa::available() {
            let lanes = lanes(isa.require().unwrap());

            let whole = Matrix::from_f32(isa, n, k, &singles).unwrap();
            let mut builder = MatrixBuilder::f32(isa, n, k).unwrap();
            let bytes: Vec<u8> = singles.iter().flat_map(|value| value.to_le_bytes()).collect();
            push(&mut builder, &bytes, &cuts);
            let pieces = builder.finish(&[], &[]).unwrap();
            prop_assert_eq!(memory(&pieces), memory(&whole));
            let Storage::F32(weights) = &whole.storage else { unreachable!() };
            let weights = weights.of::<f32>();
            for (index, value) in singles.iter().enumerate() {
                prop_assert_eq!(weights[place(index / k, index % k, k, lanes)], *value);
            }

            let whole = Matrix::from_f16(isa, n, k, &halves).unwrap();
            let mut builder = MatrixBuilder::f16(isa, n, k).unwrap();
            let bytes: Vec<u8> = halves.iter().flat_map(|value| value.to_le_bytes()).collect();
            push(&mut builder, &bytes, &cuts);
            let pieces = builder.finish(&[], &[]).unwrap();
            prop_assert_eq!(memory(&pieces), memory(&whole));
            let Storage::F16(weights) = &whole.storage else { unreachable!() };
            let weights = weights.of::<f16>();
            for (index, value) in halves.iter().enumerate() {
                prop_assert_eq!(weights[place(index / k, index % k, k, lanes)], *value);
            }
        }
    }
}

#[test]
fn pieces_that_do_not_fit_are_refused_and_change_nothing() {
    // Three codes of four bits leave half a byte of padding.
    let mut builder = MatrixBuilder::codes(Isa::Scalar, Width::Four, 3, 3).unwrap();
    assert_eq!(builder.row_bytes(), 2);
    let error = builder.push(&[0; 3]).unwrap_err();
    assert_eq!(error.to_string(), "expected 2 bytes in whole rows, found 3");
    let error = builder.push(&[0; 8]).unwrap_err();
    assert_eq!(error.to_string(), "expected 6 bytes in whole rows, found 8");
    builder.push(&[0x11, 0x01]).unwrap();
    // The row is counted from the first of the matrix, not of the piece.
    let error = builder.push(&[0, 0, 0, 0x10]).unwrap_err();
    assert_eq!(error, MatrixError::Pack(PackError::Padding { row: 2 }));
    builder.push(&[0x22, 0x02, 0x33, 0x03]).unwrap();
    assert!(builder.push(&[0, 0]).is_err());
    let matrix = builder.finish(&[1.0; 3], &[0.0; 3]).unwrap();
    assert_eq!(matrix.code_sums.of::<i32>()[..3], [3, 6, 9]);

    let builder = MatrixBuilder::f32(Isa::Scalar, 2, 1).unwrap();
    let error = builder.finish(&[], &[]).unwrap_err();
    assert_eq!(error.to_string(), "expected 2 rows, found 0");
    let mut builder = MatrixBuilder::f32(Isa::Scalar, 1, 1).unwrap();
    builder.push(&1.0_f32.to_le_bytes()).unwrap();
    let error = builder.finish(&[1.0], &[]).unwrap_err();
    assert_eq!(error.to_string(), "expected 0 scales, found 1");
}

#[test]
fn memory_that_is_not_there_is_an_error() {
    // Within the address space, but beyond any machine.
    let (n, k) = (1 << 30, 1 << 29);
    let error = MatrixBuilder::f32(Isa::Scalar, n, k).unwrap_err();
    assert_eq!(error, MatrixError::Memory { out_features: n, in_features: k });
}
