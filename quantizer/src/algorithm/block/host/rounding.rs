//! GPTQ's rounding within one block.

// A lane is an index into several arrays at once.
#![allow(clippy::needless_range_loop)]

use fresnel_runtime::Error;
use pulp::{Arch, Simd, WithSimd};

use crate::algorithm::block::{Rounded, RoundingBlock};
use crate::algorithm::lanes::{LANES, Lanes, add_outer, gather, gather_row, groups, merge};
use crate::device::{Device, read};

/// Rounds the coordinates of one block, each making up for the errors of those before it.
///
/// # Errors
/// Fails when the device fails.
pub(in crate::algorithm::block) fn round(
    device: &Device,
    block: RoundingBlock,
) -> Result<Rounded, Error> {
    let [rows, channels] = block.values.dims();
    let values = read(block.values)?;
    let upper = read(block.upper)?;
    let (scale, zero) = (read(block.scale)?, read(block.zero)?);
    let top = (block.levels - 1) as f32;
    let (codes, errors): (Vec<_>, Vec<_>) = groups(channels, |first| {
        let mut values = gather(&values, channels, first);
        // Lanes past the last channel have scale 0 and are dropped in the end.
        let scale = gather_row(&scale, channels, first).map(|c| if c > 0.0 { c } else { 1.0 });
        let zero = gather_row(&zero, channels, first);
        let rounding = Rounding { values: &mut values, upper: &upper, scale, zero, top };
        let codes = Arch::new().dispatch(rounding);
        (codes, values)
    })
    .into_iter()
    .unzip();
    Ok(Rounded {
        codes: device.matrix(merge(&codes, channels), rows, channels),
        errors: device.matrix(merge(&errors, channels), rows, channels),
    })
}

/// One group of channels.
struct Rounding<'a> {
    /// Values before, errors after.
    values: &'a mut [Lanes],
    upper: &'a [f32],
    scale: Lanes,
    zero: Lanes,
    top: f32,
}

impl WithSimd for Rounding<'_> {
    /// Codes.
    type Output = Vec<Lanes>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<Lanes> {
        let Self { values, upper, scale, zero, top } = self;
        let rows = values.len();
        let mut codes = Vec::with_capacity(rows);
        for t in 0..rows {
            let mut code = [0.0; LANES];
            let mut error = [0.0; LANES];
            let pivot = upper[t * rows + t];
            for lane in 0..LANES {
                let value = values[t][lane];
                code[lane] = (value / scale[lane] + zero[lane]).round_ties_even().clamp(0.0, top);
                error[lane] = (value - scale[lane] * (code[lane] - zero[lane])) / pivot;
            }
            let correction = error.map(|error| -error);
            add_outer(simd, &mut values[t + 1..], &upper[t * rows + t + 1..], &correction);
            values[t] = error;
            codes.push(code);
        }
        codes
    }
}
