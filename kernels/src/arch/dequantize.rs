//! From integer sums to numbers: what the micro-kernels need of the rows and channels of a product.

use super::Simd;
use crate::ops::math::mul_add;

/// A row of activations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowTerms {
    /// The code that stands for zero.
    pub(crate) zero: i32,
    /// `middle * sum`, which centred codes of weights leave out.
    pub(crate) shift: i32,
    /// `sum_k (q - zero)`.
    pub(crate) sum: f32,
    /// Step between codes.
    pub(crate) scale: f32,
}

/// The channels of a panel; anything in lanes without a channel.
#[repr(align(64))]
pub(crate) struct ChannelTerms<const LANES: usize> {
    /// Scale of the codes; one for floats.
    pub(crate) scale: [f32; LANES],
    /// Offset of the centred codes; zero for floats.
    pub(crate) offset: [f32; LANES],
    /// Sum of the codes.
    pub(crate) code_sums: [i32; LANES],
    /// Zero where there is none.
    pub(crate) bias: [f32; LANES],
}

/// [`Simd::dequantize`], portably.
#[inline(always)]
pub(super) fn dequantize<S: Simd, const LANES: usize>(
    sums: &[i32; LANES],
    row: RowTerms,
    channels: &ChannelTerms<LANES>,
) -> [f32; LANES] {
    let mut values = [0.0; LANES];
    for lane in 0..LANES {
        let correction = row.zero.wrapping_mul(channels.code_sums[lane]).wrapping_add(row.shift);
        let centred = sums[lane].wrapping_sub(correction) as f32;
        let constant = channels.offset[lane] * row.sum;
        let y = mul_add::<S>(centred, channels.scale[lane], constant);
        values[lane] = mul_add::<S>(y, row.scale, channels.bias[lane]);
    }
    values
}
