//! From sums to outputs, a few rows of a panel at a time.
//!
//! Without an activation function a row stays in registers from its sums to its store. Activation functions need all the
//! registers for themselves, so they are a loop of their own over rows in the first-level cache.

use std::iter::Zip;
use std::marker::PhantomData;
use std::slice::Iter;

use half::f16;

use super::Epilogue;
use super::driver::Finish;
use crate::activations::RowGrid;
use crate::arch::tiles::Tile;
use crate::arch::{ChannelTerms, Simd, one_at_a_time};
use crate::{Activation, Activations, Layout, Matrix};

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
        // A copy, for the address of one that lives in registers would keep it in memory.
        return store_partial_row(simd, *values, &channels.layer_scale, residual, out);
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
    mut values: [f32; LANES],
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
    store(simd, &values, &mut whole);
    out.copy_from_slice(&whole[..count]);
}

/// From the sums of a row to its product, bias included.
pub(super) trait RowProduct<Sum> {
    /// Writes the product of a row.
    fn product<S: Simd, const LANES: usize>(
        &self,
        simd: S,
        row: &RowGrid,
        sums: &[Sum; LANES],
        channels: &Channels<LANES>,
        values: &mut [f32; LANES],
    );
}

/// The end of a product: from the sums of a row to what is stored.
pub(super) struct FinishRows<'a, O, P> {
    rows: &'a [RowGrid],
    w: &'a Matrix,
    epilogue: &'a Epilogue<'a>,
    product: P,
    out: PhantomData<fn(O)>,
}

impl<'a, O, P> FinishRows<'a, O, P> {
    pub(super) fn new(
        a: &'a Activations,
        w: &'a Matrix,
        epilogue: &'a Epilogue<'a>,
        product: P,
    ) -> Self {
        Self { rows: a.grids(), w, epilogue, product, out: PhantomData }
    }
}

impl<O: Output, Sum, P: RowProduct<Sum> + Sync> Finish<Sum> for FinishRows<'_, O, P> {
    type Out = O;
    type Panel<const LANES: usize> = Channels<LANES>;

    fn layout(&self) -> Layout {
        self.epilogue.layout
    }

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
        let rows = &self.rows[tile.first_row + first..][..sums.len()];
        let rows = rows.iter().zip(sums);
        if epilogue.layer_scale.is_none() && epilogue.residual.is_none() {
            finish::<S, Sum, O, LANES, true>(simd, panel, epilogue, first, rows, tile, product);
        } else {
            finish::<S, Sum, O, LANES, false>(simd, panel, epilogue, first, rows, tile, product);
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
    rows: Zip<Iter<'_, RowGrid>, Iter<'_, [Sum; LANES]>>,
    tile: &mut Tile<'_, O>,
    product: &impl RowProduct<Sum>,
) {
    let residual = epilogue.residual;
    let Some(activation) = epilogue.activation else {
        for (row, (grid, sums)) in (first..).zip(rows) {
            one_at_a_time();
            let mut values = [0.0; LANES];
            product.product(simd, grid, sums, channels, &mut values);
            store_row::<S, O, LANES, PLAIN>(simd, &mut values, channels, residual, row, tile);
        }
        return;
    };
    let mut values = Aligned([[0.0; LANES]; MOST_ACTIVATED_ROWS]);
    let (mut rows, mut first) = (rows, first);
    while rows.len() > 0 {
        let values = &mut values.0[..rows.len().min(S::ACTIVATED_ROWS)];
        for (values, (grid, sums)) in values.iter_mut().zip(&mut rows) {
            one_at_a_time();
            product.product(simd, grid, sums, channels, values);
        }
        activate::<S, O>(simd, activation, values.as_flattened_mut());
        for values in values {
            one_at_a_time();
            store_row::<S, O, LANES, PLAIN>(simd, values, channels, residual, first, tile);
            first += 1;
        }
    }
}

/// Numbers that start at a cache line, so that no vector of them lies in two.
#[repr(align(64))]
struct Aligned<T>(T);

/// Applies an activation function as exactly as the output can tell.
#[inline(always)]
fn activate<S: Simd, O: Output>(simd: S, activation: Activation, values: &mut [f32]) {
    match O::HALF {
        true => activation.apply_coarsely(simd, values),
        false => activation.apply::<S>(values),
    }
}
