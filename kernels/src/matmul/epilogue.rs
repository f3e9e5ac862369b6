//! From sums to outputs, one row of a panel at a time, in registers.

use super::Epilogue;
use crate::Matrix;
use crate::arch::Simd;
use crate::arch::tiles::Tile;

/// Evaluates an expression with `S::LANES` as a constant `$lanes` that can be the length of an array.
macro_rules! for_lanes {
    ($simd:ident, $lanes:ident => $body:expr) => {
        match $simd::LANES {
            8 => {
                const $lanes: usize = 8;
                $body
            }
            16 => {
                const $lanes: usize = 16;
                $body
            }
            32 => {
                const $lanes: usize = 32;
                $body
            }
            lanes => unreachable!("panels of {lanes} lanes"),
        }
    };
}
pub(crate) use for_lanes;

/// What the epilogue needs per output channel, for the channels of a panel; zero in lanes without a channel.
pub(super) struct Channels<const LANES: usize> {
    /// Scale of the codes.
    pub(super) scale: [f32; LANES],
    /// Offset of the centred codes.
    pub(super) offset: [f32; LANES],
    /// Sum of the codes.
    pub(super) code_sums: [i32; LANES],
    bias: Option<[f32; LANES]>,
    layer_scale: Option<[f32; LANES]>,
}

impl<const LANES: usize> Channels<LANES> {
    #[inline(always)]
    pub(super) fn new<T>(w: &Matrix, epilogue: &Epilogue<'_>, tile: &Tile<'_, T>) -> Self {
        let range = tile.first_column..tile.first_column + tile.columns;
        let padded = |values: &[f32]| {
            let mut lanes = [0.0; LANES];
            lanes[..range.len()].copy_from_slice(&values[range.clone()]);
            lanes
        };
        let (mut scale, mut offset, mut code_sums) = ([0.0; LANES], [0.0; LANES], [0; LANES]);
        if w.width().is_some() {
            scale = padded(w.scale.of());
            offset = padded(w.centred_offset.of());
            code_sums[..range.len()].copy_from_slice(&w.code_sums.of::<i32>()[range.clone()]);
        }
        Channels {
            scale,
            offset,
            code_sums,
            bias: epilogue.bias.map(padded),
            layer_scale: epilogue.layer_scale.map(padded),
        }
    }
}

/// Applies the epilogue to one row and stores it.
#[inline(always)]
pub(super) fn write_row<S: Simd, const LANES: usize>(
    channels: &Channels<LANES>,
    epilogue: &Epilogue<'_>,
    mut values: [f32; LANES],
    tile: &mut Tile<'_, f32>,
    row: usize,
) {
    if let Some(bias) = &channels.bias {
        for lane in 0..LANES {
            values[lane] += bias[lane];
        }
    }
    if let Some(activation) = epilogue.activation {
        activation.apply::<S>(&mut values);
    }
    if let Some(layer_scale) = &channels.layer_scale {
        for lane in 0..LANES {
            values[lane] *= layer_scale[lane];
        }
    }
    let residual = epilogue.residual.map(|residual| &residual[tile.row_range(row)]);
    let out = tile.row(row);
    if let Ok(out) = <&mut [f32; LANES]>::try_from(&mut *out) {
        if let Some(residual) = residual.and_then(|residual| residual.first_chunk::<LANES>()) {
            for lane in 0..LANES {
                values[lane] += residual[lane];
            }
        }
        *out = values;
    } else {
        let columns = out.len();
        if let Some(residual) = residual {
            for (value, residual) in values.iter_mut().zip(residual) {
                *value += residual;
            }
        }
        out.copy_from_slice(&values[..columns]);
    }
}
