//! Round to nearest: every weight to the closest level of the min-max grid, data-free.
//!
//! `k = clip(round(w/c0 + z), 0, L-1)`, halves to even, in f64 so that a weight that lies exactly
//! between two levels rounds the same way everywhere.

use super::QuantizedLinear;
use super::alphabet::Alphabet;

/// Codes of `weights` (N x C row-major) on `alphabet`, N x C row-major.
pub fn codes(weights: &[f32], alphabet: &Alphabet) -> Vec<u8> {
    let top = f64::from(alphabet.levels - 1);
    weights
        .chunks_exact(alphabet.channels().max(1))
        .flat_map(|row| {
            row.iter().zip(&alphabet.scale).zip(&alphabet.zero).map(|((&weight, scale), zero)| {
                // Clamped to 0..=255.
                (f64::from(weight) / scale + zero).round_ties_even().clamp(0.0, top) as u8
            })
        })
        .collect()
}

/// Quantizes `weights` (N x C row-major) on their min-max grid.
pub fn quantize(weights: &[f32], channels: usize, levels: u32, symmetric: bool) -> QuantizedLinear {
    let alphabet = Alphabet::new(weights, channels, levels, symmetric);
    QuantizedLinear::on_grid(&codes(weights, &alphabet), &alphabet.scale, &alphabet.zero)
}
