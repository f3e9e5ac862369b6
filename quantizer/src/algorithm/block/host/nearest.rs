//! COMQ's coordinate steps within one block: the level nearest to the minimiser of the squared error.

// A lane is an index into several arrays at once.
#![allow(clippy::needless_range_loop)]

use burn::tensor::Tensor;
use fresnel_runtime::Error;
use pulp::{Arch, Simd, WithSimd};

use crate::algorithm::block::DescentBlock;
use crate::algorithm::lanes::{LANES, Lanes, add_outer, gather, gather_row, groups, merge};
use crate::device::{Device, read};

/// Moves each coordinate of one block to its best level, the others held fixed.
///
/// # Errors
/// Fails when the device fails.
pub(in crate::algorithm::block) fn descend(
    device: &Device,
    block: DescentBlock,
) -> Result<Tensor<2>, Error> {
    let [rows, channels] = block.values.dims();
    let gram = read(block.gram)?;
    let residual = read(block.residual)?;
    let values = read(block.values)?;
    let (scale, zero) = (read(block.scale)?, read(block.zero)?);
    let top = (block.levels - 1) as f32;
    let codes = groups(channels, |first| {
        // Lanes past the last channel have scale 0 and are dropped in the end.
        let scale = gather_row(&scale, channels, first).map(|c| if c > 0.0 { c } else { 1.0 });
        Arch::new().dispatch(Nearest {
            gram: &gram,
            residual: gather(&residual, channels, first),
            values: gather(&values, channels, first),
            scale,
            zero: gather_row(&zero, channels, first),
            top,
        })
    });
    Ok(device.matrix(merge(&codes, channels), rows, channels))
}

/// One group of channels.
struct Nearest<'a> {
    gram: &'a [f32],
    residual: Vec<Lanes>,
    values: Vec<Lanes>,
    scale: Lanes,
    zero: Lanes,
    top: f32,
}

impl WithSimd for Nearest<'_> {
    /// Codes.
    type Output = Vec<Lanes>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<Lanes> {
        let Self { gram, mut residual, values, scale, zero, top } = self;
        let rows = values.len();
        let mut codes = Vec::with_capacity(rows);
        for t in 0..rows {
            let energy = gram[t * rows + t];
            let inverse = if energy > 0.0 { 1.0 / energy } else { 0.0 };
            let mut code = [0.0; LANES];
            let mut change = [0.0; LANES];
            for lane in 0..LANES {
                let best = values[t][lane] + residual[t][lane] * inverse;
                code[lane] = ((best / scale[lane]).round_ties_even() + zero[lane]).clamp(0.0, top);
                change[lane] = scale[lane] * (code[lane] - zero[lane]) - values[t][lane];
            }
            let correction = change.map(|change| -change);
            // The block of G is symmetric: its row t is column t.
            add_outer(simd, &mut residual[t + 1..], &gram[t * rows + t + 1..], &correction);
            codes.push(code);
        }
        codes
    }
}
