//! Float tensors in 16 or 32 bits, and the rule by which one or the other is chosen.
//!
//! **Rule.** A tensor is stored as binary16 when every value `v` satisfies
//! `|f16(v) - v| <= 2^-11 * max(|v|, m / 32)`, with `m` the largest magnitude of the tensor and `f16`
//! rounding to nearest; otherwise as binary32.
//!
//! In binary16's normal range the rounding error is at most `2^-11 |v|` by construction, so only very
//! small and very large values decide. The floor `m / 32` says how much a very small value may be off:
//! `2^-16 m`, a thirty-second of the error that the tensor's largest values carry anyway, and as fine as a
//! 16-bit fixed-point number over the tensor's range. A tensor of small values throughout, such as a layer
//! scale near 1e-6, stays in 32 bits: there binary16 would lose digits of the values that matter.

use half::f16;

use super::manifest::Encoding;
use crate::error::{Error, ErrorKind};

/// Largest relative rounding error of binary16 in its normal range.
const RELATIVE_ERROR: f64 = 1.0 / 2048.0;
/// Values below this fraction of the largest magnitude are held to its absolute error only.
const SMALL_FRACTION: f64 = 1.0 / 32.0;

/// Encodes `values` in 16 bits where that costs no accuracy (see the module's rule), else in 32.
///
/// # Errors
/// [`ErrorKind::Invalid`] when a value is not finite.
pub fn encode_float(values: &[f32]) -> Result<(Encoding, Vec<u8>), Error> {
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        return Err(Error::new(ErrorKind::Invalid, format!("value {at} is not finite")));
    }
    if fits_f16(values) {
        Ok((Encoding::F16, encode_f16(values)))
    } else {
        Ok((Encoding::F32, encode_f32(values)))
    }
}

/// Whether the module's rule allows binary16 for `values`.
pub fn fits_f16(values: &[f32]) -> bool {
    let largest = values.iter().fold(0.0_f64, |largest, value| largest.max(f64::from(value.abs())));
    let floor = largest * SMALL_FRACTION;
    values.iter().all(|&value| {
        let exact = f64::from(value);
        let error = (f64::from(f16::from_f32(value)) - exact).abs();
        // False for a value that overflows, whose error is infinite, and for NaN.
        error <= RELATIVE_ERROR * exact.abs().max(floor)
    })
}

/// `values` in binary32, little-endian.
pub fn encode_f32(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// `values` rounded to nearest in binary16, little-endian.
pub fn encode_f16(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode_f16(bytes: &[u8]) -> impl Iterator<Item = f16> + '_ {
        bytes.as_chunks().0.iter().map(|value| f16::from_le_bytes(*value))
    }

    #[test]
    fn ordinary_weights_fit_sixteen_bits() {
        // Down to binary16's smallest subnormals, beside a largest value of 0.5.
        let mut values = vec![0.5, -0.25, 0.1, 1e-3, -3.3e-6, 5e-8, 0.0, -0.0];
        assert_eq!(encode_float(&values).unwrap().0, Encoding::F16);
        values.push(65_519.0);
        assert_eq!(encode_float(&values).unwrap().0, Encoding::F16);
        values.push(65_520.0); // rounds to infinity
        assert_eq!(encode_float(&values).unwrap().0, Encoding::F32);
    }

    #[test]
    fn small_tensors_keep_their_digits() {
        assert_eq!(encode_float(&[1e-6, 1.01e-6]).unwrap().0, Encoding::F32);
        assert_eq!(encode_float(&[1e-5; 7]).unwrap().0, Encoding::F32);
        assert_eq!(encode_float(&[0.0; 7]).unwrap().0, Encoding::F16);
        assert_eq!(encode_float(&[]).unwrap().0, Encoding::F16);
    }

    #[test]
    fn the_stated_error_holds() {
        let values: Vec<f32> = (1..2000).map(|i| (i as f32 * 0.37).sin() / i as f32).collect();
        let (encoding, bytes) = encode_float(&values).unwrap();
        assert_eq!(encoding, Encoding::F16);
        let largest = values.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        for (value, stored) in values.iter().zip(decode_f16(&bytes)) {
            let bound = value.abs().max(largest / 32.0) / 2048.0;
            assert!((stored.to_f32() - value).abs() <= bound, "{value} {stored}");
        }
    }

    #[test]
    fn values_survive_the_round_trip() {
        let values = [1.5_f32, -2.25, 0.0, 1024.0];
        let singles = encode_f32(&values);
        let singles = singles.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value));
        assert_eq!(singles.collect::<Vec<_>>(), values);
        let halves: Vec<f32> = decode_f16(&encode_f16(&values)).map(f16::to_f32).collect();
        assert_eq!(halves, values);
    }

    #[test]
    fn non_finite_values_are_refused() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = encode_float(&[1.0, bad]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains("value 1"));
        }
    }
}
