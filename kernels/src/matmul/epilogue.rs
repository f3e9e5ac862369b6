//! From sums to outputs, a few rows of a panel at a time.
//!
//! Without an activation function a row stays in registers from its sums to its store. Activation functions need all the
//! registers for themselves, so they are a loop of their own over rows in the first-level cache.

use std::marker::PhantomData;

use half::f16;

use super::Epilogue;
use super::driver::Finish;
use crate::arch::tiles::Tile;
use crate::arch::{ChannelTerms, Simd, one_at_a_time};
use crate::{Activation, Matrix};

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

/// What the epilogue needs per output channel, for the channels of a panel.
pub(super) struct Channels<const LANES: usize> {
    pub(super) terms: ChannelTerms<LANES>,
    /// One where there is none.
    layer_scale: [f32; LANES],
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
        let (mut scale, mut offset, mut code_sums) = ([1.0; LANES], [0.0; LANES], [0; LANES]);
        if w.width().is_some() {
            scale = padded(w.scale.of());
            offset = padded(w.centred_offset.of());
            code_sums[..range.len()].copy_from_slice(&w.code_sums.of::<i32>()[range.clone()]);
        }
        let bias = epilogue.bias.map_or([0.0; LANES], padded);
        Channels {
            terms: ChannelTerms { scale, offset, code_sums, bias },
            layer_scale: epilogue.layer_scale.map_or([1.0; LANES], padded),
        }
    }
}

/// A number that products are stored as: `f32` or [`f16`].
pub(crate) trait Output: bytemuck::Pod + Send + Sync {
    /// Whether this is `f16`.
    const HALF: bool;
}

impl Output for f32 {
    const HALF: bool = false;
}

impl Output for f16 {
    const HALF: bool = true;
}

/// Stores the numbers of a row.
#[inline(always)]
fn store<S: Simd, O: Output, const LANES: usize>(
    simd: S,
    values: &[f32; LANES],
    out: &mut [O; LANES],
) {
    if O::HALF {
        simd.narrow_finite(values, bytemuck::cast_slice_mut(out));
    } else if let Ok(out) = <&mut [f32; LANES]>::try_from(bytemuck::cast_slice_mut::<O, f32>(out)) {
        *out = *values;
    }
}

/// Layer scale and residual of one row, and its store.
///
/// Arrays that are changed on some paths only are torn into single lanes by the compiler, so what is absent is replaced by
/// numbers that change nothing, and the choice whether anything is there at all is the caller's, once for all rows.
#[inline(always)]
fn store_row<S: Simd, O: Output, const LANES: usize, const PLAIN: bool>(
    simd: S,
    values: &mut [f32; LANES],
    channels: &Channels<LANES>,
    residual: Option<&[f32]>,
    row: usize,
    tile: &mut Tile<'_, O>,
) {
    let residual = residual.map(|residual| &residual[tile.row_range(row)]);
    let out = tile.row(row);
    let Some(out) = out.first_chunk_mut::<LANES>() else {
        return store_partial_row(simd, values, &channels.layer_scale, residual, out);
    };
    if !PLAIN {
        let residual =
            residual.and_then(|residual| residual.first_chunk()).unwrap_or(&[0.0; LANES]);
        for lane in 0..LANES {
            values[lane] = values[lane] * channels.layer_scale[lane] + residual[lane];
        }
    }
    store(simd, values, out);
}

/// The same for the last panel, where it has fewer channels than lanes.
#[inline(never)]
fn store_partial_row<S: Simd, O: Output, const LANES: usize>(
    simd: S,
    values: &mut [f32; LANES],
    layer_scale: &[f32; LANES],
    residual: Option<&[f32]>,
    out: &mut [O],
) {
    let count = out.len();
    for lane in 0..count {
        values[lane] =
            values[lane] * layer_scale[lane] + residual.map_or(0.0, |values| values[lane]);
    }
    let mut whole = [O::zeroed(); LANES];
    store(simd, values, &mut whole);
    out.copy_from_slice(&whole[..count]);
}

/// From the sums of a row to its product, bias included.
pub(super) trait RowProduct<Sum> {
    /// Writes the product of row `row` of the matrix.
    fn product<S: Simd, const LANES: usize>(
        &self,
        simd: S,
        row: usize,
        sums: &[Sum; LANES],
        channels: &Channels<LANES>,
        values: &mut [f32; LANES],
    );
}

/// The end of a product: from the sums of a row to what is stored.
pub(super) struct FinishRows<'a, O, P> {
    w: &'a Matrix,
    epilogue: &'a Epilogue<'a>,
    product: P,
    out: PhantomData<fn(O)>,
}

impl<'a, O, P> FinishRows<'a, O, P> {
    pub(super) fn new(w: &'a Matrix, epilogue: &'a Epilogue<'a>, product: P) -> Self {
        Self { w, epilogue, product, out: PhantomData }
    }
}

impl<O: Output, Sum, P: RowProduct<Sum> + Sync> Finish<Sum> for FinishRows<'_, O, P> {
    type Out = O;
    type Panel<const LANES: usize> = Channels<LANES>;

    #[inline(always)]
    fn panel<const LANES: usize>(&self, tile: &Tile<'_, O>) -> Channels<LANES> {
        Channels::new(self.w, self.epilogue, tile)
    }

    #[inline(always)]
    fn rows<S: Simd, const LANES: usize>(
        &self,
        simd: S,
        panel: &Channels<LANES>,
        first: usize,
        sums: &[[Sum; LANES]],
        tile: &mut Tile<'_, O>,
    ) {
        let Self { epilogue, product, .. } = self;
        if epilogue.layer_scale.is_none() && epilogue.residual.is_none() {
            finish::<S, Sum, O, LANES, true>(simd, panel, epilogue, first, sums, tile, product);
        } else {
            finish::<S, Sum, O, LANES, false>(simd, panel, epilogue, first, sums, tile, product);
        }
    }
}

/// Most rows that go through an activation function together.
const MOST_ACTIVATED_ROWS: usize = 8;

/// No closures here: what is not inlined would be compiled without the instruction set.
#[inline(always)]
fn finish<S: Simd, Sum, O: Output, const LANES: usize, const PLAIN: bool>(
    simd: S,
    channels: &Channels<LANES>,
    epilogue: &Epilogue<'_>,
    first: usize,
    sums: &[[Sum; LANES]],
    tile: &mut Tile<'_, O>,
    product: &impl RowProduct<Sum>,
) {
    let (first_row, residual) = (tile.first_row, epilogue.residual);
    if S::ACTIVATED_ROWS == 1 || epilogue.activation.is_none() {
        let mut values = Aligned([[0.0; LANES]; 1]);
        for (row, sums) in (first..).zip(sums) {
            one_at_a_time();
            product.product(simd, first_row + row, sums, channels, &mut values.0[0]);
            activate::<S, O>(simd, epilogue.activation, &mut values.0[0]);
            store_row::<S, O, LANES, PLAIN>(simd, &mut values.0[0], channels, residual, row, tile);
        }
        return;
    }
    let mut values = Aligned([[0.0; LANES]; MOST_ACTIVATED_ROWS]);
    let step = S::ACTIVATED_ROWS;
    for (first, sums) in (first..).step_by(step).zip(sums.chunks(step)) {
        let values = &mut values.0[..sums.len()];
        for (row, (values, sums)) in (first..).zip(values.iter_mut().zip(sums)) {
            one_at_a_time();
            product.product(simd, first_row + row, sums, channels, values);
        }
        activate::<S, O>(simd, epilogue.activation, values.as_flattened_mut());
        for (row, values) in (first..).zip(values) {
            one_at_a_time();
            store_row::<S, O, LANES, PLAIN>(simd, values, channels, residual, row, tile);
        }
    }
}

/// Numbers that start at a cache line, so that no vector of them lies in two.
#[repr(align(64))]
struct Aligned<T>(T);

/// Applies an activation function as exactly as the output can tell.
#[inline(always)]
fn activate<S: Simd, O: Output>(simd: S, activation: Option<Activation>, values: &mut [f32]) {
    match activation {
        Some(activation) if O::HALF => activation.apply_coarsely(simd, values),
        Some(activation) => activation.apply::<S>(values),
        None => {}
    }
}
