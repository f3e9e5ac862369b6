//! The kernel of one block of the initialization; the arithmetic is explained at its twin,
//! [`crate::algorithm::block::host::path`].

use cubecl::prelude::*;
use fresnel_runtime::Error;

use super::{COLUMNS, Launch, MATRIX, UNITS, close, load_column, load_matrix, open};
use crate::algorithm::block::{Decided, InitializationBlock, MINIMUM_GAIN};

/// Below any gain or score.
const LEAST: f32 = -1e30;
/// Above any distance between levels.
const FARTHEST: f32 = 1e30;
/// Share of the energy below which a vector counts as zero.
const ZERO_ENERGY: f32 = 1e-14;
/// Relative margin of a tie between cosines.
const TIE: f32 = 1e-7;

/// Decides the codes of one block of the initialization.
///
/// # Errors
/// Fails when the tensors are not on the GPU.
pub(in crate::algorithm::block) fn initialize(
    block: InitializationBlock,
) -> Result<Decided, Error> {
    let weights = open(block.weights)?;
    let launch = Launch::new(&weights);
    let (codes, s, n) = (launch.result(launch.rows), launch.result(1), launch.result(1));
    let gram = open(block.gram)?;
    let h = open(block.h)?;
    let zero = open(block.zero)?;
    // A kernel binds every argument: what a block lacks is stood in for and not read.
    let or = |tensor: Option<_>, other: &burn_cubecl::tensor::CubeTensor| match tensor {
        Some(tensor) => open(tensor),
        None => Ok(other.clone()),
    };
    let flags = (block.cross.is_some(), block.reference.is_some());
    let cross = or(block.cross, &gram)?;
    let e = or(block.e, &h)?;
    let reference = or(block.reference, &zero)?;
    path_kernel::launch(
        launch.client(),
        launch.cubes(),
        launch.units(),
        gram.into_buffer_arg(),
        cross.into_buffer_arg(),
        h.into_buffer_arg(),
        e.into_buffer_arg(),
        weights.into_buffer_arg(),
        open(block.partial_target)?.into_buffer_arg(),
        zero.into_buffer_arg(),
        reference.into_buffer_arg(),
        open(block.s)?.into_buffer_arg(),
        open(block.n)?.into_buffer_arg(),
        codes.clone().into_buffer_arg(),
        s.clone().into_buffer_arg(),
        n.clone().into_buffer_arg(),
        launch.rows as u32,
        block.levels,
        flags.0,
        flags.1,
    );
    Ok(Decided { codes: close(codes), s: close(s), n: close(n) })
}

#[cube(launch)]
#[allow(clippy::too_many_arguments)]
fn path_kernel(
    gram: &[f32],
    cross: &[f32],
    h: &[f32],
    e: &[f32],
    weights: &[f32],
    partial_target: &[f32],
    zero: &[f32],
    reference: &[f32],
    s_before: &[f32],
    n_before: &[f32],
    codes: &mut [f32],
    s_after: &mut [f32],
    n_after: &mut [f32],
    rows: u32,
    levels: u32,
    #[comptime] with_cross: bool,
    #[comptime] with_reference: bool,
) {
    let channels = s_before.len();
    let mut gram_block = Shared::<[f32]>::new_slice(MATRIX);
    let mut h_columns = Shared::<[f32]>::new_slice(COLUMNS);
    let mut cross_block = Shared::<[f32]>::new_slice(if with_cross { MATRIX } else { 1 });
    let mut e_columns = Shared::<[f32]>::new_slice(if with_cross { COLUMNS } else { 1 });
    load_matrix(gram, &mut gram_block, rows);
    if with_cross {
        load_matrix(cross, &mut cross_block, rows);
    }
    sync_cube();
    if ABSOLUTE_POS < channels {
        load_column(h, &mut h_columns, rows, channels);
        if with_cross {
            load_column(e, &mut e_columns, rows, channels);
        }
        let side = rows as usize;
        let column = UNIT_POS as usize;
        let zero = zero[ABSOLUTE_POS];
        let mut s = s_before[ABSOLUTE_POS];
        let mut n = n_before[ABSOLUTE_POS];
        for t in 0..side {
            let energy = gram_block[t * side + t];
            let h = h_columns[t * UNITS + column];
            let weight = weights[t * channels + ABSOLUTE_POS];
            let target = partial_target[t * channels + ABSOLUTE_POS];
            if with_cross {
                s += weight * e_columns[t * UNITS + column];
            } else {
                s += weight * h;
            }
            let mut preferred = f32::new(0.0);
            if with_reference {
                preferred = weight / reference[ABSOLUTE_POS];
            }
            let code = choose(levels, zero, preferred, energy, h, target, s, n, with_reference);
            let q = code - zero;
            s += q * target;
            n += q * (2.0 * h + q * energy);
            codes[t * channels + ABSOLUTE_POS] = code;
            for later in t + 1..side {
                h_columns[later * UNITS + column] += gram_block[later * side + t] * q;
                if with_cross {
                    e_columns[later * UNITS + column] += cross_block[t * side + later] * q;
                }
            }
        }
        s_after[ABSOLUTE_POS] = s;
        n_after[ABSOLUTE_POS] = n;
    }
}

/// The best level; among equals the one nearest to `preferred`.
#[cube]
#[allow(clippy::too_many_arguments)]
fn choose(
    levels: u32,
    zero: f32,
    preferred: f32,
    energy: f32,
    h: f32,
    target: f32,
    s: f32,
    n: f32,
    #[comptime] ascending: bool,
) -> f32 {
    let mut best = f32::new(0.0);
    let mut best_score = f32::new(LEAST);
    let mut best_distance = f32::new(FARTHEST);
    let relative = s > 0.0 && n > 0.0;
    for step in 0..levels {
        let mut level = f32::cast_from(step);
        if !ascending {
            level = f32::cast_from(levels - 1 - step);
        }
        let p = level - zero;
        let distance = (p - preferred).abs();
        let mut score = f32::new(LEAST);
        let mut margin = f32::new(MINIMUM_GAIN);
        if relative {
            let a = p * target / s;
            let r = p * (2.0 * h + p * energy) / n;
            if 1.0 + a > 0.0 && 1.0 + r > 0.0 {
                score = (a * (2.0 + a) - r) / (1.0 + r);
            }
        } else {
            score = cosine(p, energy, h, target, s, n);
            margin = f32::new(TIE) * min(best_score.abs(), score.abs());
        }
        if score > best_score + margin || (score >= best_score - margin && distance < best_distance)
        {
            best = level;
            best_score = score;
            best_distance = distance;
        }
    }
    best
}

/// The cosine itself, up to the target's norm.
#[cube]
fn cosine(p: f32, energy: f32, h: f32, target: f32, s: f32, n: f32) -> f32 {
    let mut cosine = f32::new(0.0);
    if n == 0.0 {
        // Every level of the target's sign has cosine 1 here: an exact tie.
        let product = p * target;
        if energy > 0.0 && target != 0.0 && p != 0.0 {
            cosine = select(product > 0.0, f32::new(1.0), f32::new(-1.0));
        }
    } else {
        let s = s + p * target;
        let n = n + p * (2.0 * h + p * energy);
        if n > f32::new(ZERO_ENERGY) * energy {
            cosine = s / n.sqrt();
        }
    }
    cosine
}
