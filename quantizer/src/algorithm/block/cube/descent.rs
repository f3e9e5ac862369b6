//! The kernel of one block of a refinement sweep; the arithmetic is explained at its twin,
//! [`crate::algorithm::block::host::descent`].

use cubecl::prelude::*;
use fresnel_runtime::Error;

use super::{COLUMNS, Launch, MATRIX, UNITS, close, load_column, load_matrix, open};
use crate::algorithm::block::{Decided, MINIMUM_GAIN, RefinementBlock};

/// Relative margin between cosines below which f32 can't tell them apart.
const TIE: f32 = 2e-6;

/// Reconsiders the codes of one block.
///
/// # Errors
/// Fails when the tensors are not on the GPU.
pub(in crate::algorithm::block) fn refine(block: RefinementBlock) -> Result<Decided, Error> {
    let before = open(block.codes)?;
    let launch = Launch::new(&before);
    let (codes, s, n) = (launch.result(launch.rows), launch.result(1), launch.result(1));
    descent_kernel::launch(
        launch.client(),
        launch.cubes(),
        launch.units(),
        open(block.gram)?.into_buffer_arg(),
        open(block.h)?.into_buffer_arg(),
        open(block.target)?.into_buffer_arg(),
        before.into_buffer_arg(),
        open(block.s)?.into_buffer_arg(),
        open(block.n)?.into_buffer_arg(),
        codes.clone().into_buffer_arg(),
        s.clone().into_buffer_arg(),
        n.clone().into_buffer_arg(),
        launch.rows as u32,
        block.levels,
        block.zero_energy,
    );
    Ok(Decided { codes: close(codes), s: close(s), n: close(n) })
}

#[cube(launch)]
#[allow(clippy::too_many_arguments)]
fn descent_kernel(
    gram: &[f32],
    h: &[f32],
    target: &[f32],
    before: &[f32],
    s_before: &[f32],
    n_before: &[f32],
    codes: &mut [f32],
    s_after: &mut [f32],
    n_after: &mut [f32],
    rows: u32,
    levels: u32,
    zero_energy: f32,
) {
    let channels = s_before.len();
    let mut matrix = Shared::<[f32]>::new_slice(MATRIX);
    let mut columns = Shared::<[f32]>::new_slice(COLUMNS);
    load_matrix(gram, &mut matrix, rows);
    sync_cube();
    if ABSOLUTE_POS < channels {
        load_column(h, &mut columns, rows, channels);
        let side = rows as usize;
        let column = UNIT_POS as usize;
        let mut s = s_before[ABSOLUTE_POS];
        let mut n = n_before[ABSOLUTE_POS];
        for t in 0..side {
            let energy = matrix[t * side + t];
            let h = columns[t * UNITS + column];
            let b = target[t * channels + ABSOLUTE_POS];
            let code = before[t * channels + ABSOLUTE_POS];
            let mut best = code;
            if s > 0.0 && n > zero_energy {
                if levels <= 4 {
                    let mut best_gain = f32::new(MINIMUM_GAIN);
                    for level in 0..levels {
                        let level = f32::cast_from(level);
                        let gain = gain(level - code, energy, h, b, s, n, zero_energy);
                        if gain > best_gain {
                            best = level;
                            best_gain = gain;
                        }
                    }
                } else {
                    best = best_of_neighbours(code, levels, energy, h, b, s, n, zero_energy);
                }
            } else {
                best = choose_directly(code, levels, energy, h, b, s, n, zero_energy);
            }
            let d = best - code;
            s += d * b;
            n += d * (2.0 * h + d * energy);
            codes[t * channels + ABSOLUTE_POS] = best;
            if d != 0.0 {
                for later in t + 1..side {
                    columns[later * UNITS + column] += matrix[later * side + t] * d;
                }
            }
        }
        s_after[ABSOLUTE_POS] = s;
        n_after[ABSOLUTE_POS] = n;
    }
}

/// Growth of the squared cosine when a code changes by `d`; 0 for a change that leaves nothing or
/// turns away.
#[cube]
fn gain(d: f32, energy: f32, h: f32, target: f32, s: f32, n: f32, zero_energy: f32) -> f32 {
    let a = d * target / s;
    let r = d * (2.0 * h + d * energy) / n;
    let mut gain = 0.0;
    if 1.0 + a > 0.0 && (1.0 + r) * n > zero_energy {
        gain = (a * (2.0 + a) - r) / (1.0 + r);
    }
    gain
}

/// The better level beside the stationary point.
#[cube]
#[allow(clippy::too_many_arguments)]
fn best_of_neighbours(
    code: f32,
    levels: u32,
    energy: f32,
    h: f32,
    target: f32,
    s: f32,
    n: f32,
    zero_energy: f32,
) -> f32 {
    let top = f32::cast_from(levels - 1);
    let numerator = target * n - s * h;
    let denominator = s * energy - target * h;
    let mut point = f32::new(0.0);
    if denominator > 0.0 {
        // Beyond the grid on either side is as good as at its end.
        let reach = denominator * top;
        point = code + clamp(numerator, -reach, reach) / denominator;
    } else if numerator > 0.0 {
        point = top;
    }
    let below = clamp(point, f32::new(0.0), top).floor();
    let above = min(below + 1.0, top);
    let mut best = code;
    let mut best_gain = f32::new(MINIMUM_GAIN);
    let gain_below = gain(below - code, energy, h, target, s, n, zero_energy);
    if gain_below > best_gain {
        best = below;
        best_gain = gain_below;
    }
    if gain(above - code, energy, h, target, s, n, zero_energy) > best_gain {
        best = above;
    }
    best
}

/// The choice by the cosines themselves where the vector is zero or points away.
#[cube]
#[allow(clippy::too_many_arguments)]
fn choose_directly(
    code: f32,
    levels: u32,
    energy: f32,
    h: f32,
    target: f32,
    s: f32,
    n: f32,
    zero_energy: f32,
) -> f32 {
    let mut best = code;
    let mut best_score = score(f32::new(0.0), energy, h, target, s, n, zero_energy);
    for level in 0..levels {
        let level = f32::cast_from(level);
        let candidate = score(level - code, energy, h, target, s, n, zero_energy);
        if candidate > best_score + f32::new(TIE) * best_score.abs() {
            best = level;
            best_score = candidate;
        }
    }
    best
}

#[cube]
fn score(d: f32, energy: f32, h: f32, target: f32, s: f32, n: f32, zero_energy: f32) -> f32 {
    let s = s + d * target;
    let n = n + d * (2.0 * h + d * energy);
    let mut score = 0.0;
    if n > zero_energy {
        score = s / n.sqrt();
    }
    score
}
