//! The kernel of one block of COMQ.

use burn::tensor::Tensor;
use cubecl::prelude::*;
use fresnel_runtime::Error;

use super::{COLUMNS, Launch, MATRIX, UNITS, close, load_column, load_matrix, open};
use crate::algorithm::block::DescentBlock;

/// Moves each coordinate of one block to its best level, the others held fixed.
///
/// # Errors
/// Fails when the tensors are not on the GPU.
pub(in crate::algorithm::block) fn descend(block: DescentBlock) -> Result<Tensor<2>, Error> {
    let values = open(block.values)?;
    let launch = Launch::new(&values);
    let codes = launch.result(launch.rows);
    nearest_kernel::launch(
        launch.client(),
        launch.cubes(),
        launch.units(),
        open(block.gram)?.into_buffer_arg(),
        open(block.residual)?.into_buffer_arg(),
        values.into_buffer_arg(),
        open(block.scale)?.into_buffer_arg(),
        open(block.zero)?.into_buffer_arg(),
        codes.clone().into_buffer_arg(),
        launch.rows as u32,
        block.levels,
    );
    Ok(close(codes))
}

#[cube(launch)]
#[allow(clippy::too_many_arguments)]
fn nearest_kernel(
    gram: &[f32],
    residual: &[f32],
    values: &[f32],
    scale: &[f32],
    zero: &[f32],
    codes: &mut [f32],
    rows: u32,
    levels: u32,
) {
    let channels = scale.len();
    let mut matrix = Shared::<[f32]>::new_slice(MATRIX);
    let mut columns = Shared::<[f32]>::new_slice(COLUMNS);
    load_matrix(gram, &mut matrix, rows);
    sync_cube();
    if ABSOLUTE_POS < channels {
        load_column(residual, &mut columns, rows, channels);
        let side = rows as usize;
        let column = UNIT_POS as usize;
        let scale = scale[ABSOLUTE_POS];
        let zero = zero[ABSOLUTE_POS];
        let top = f32::cast_from(levels - 1);
        for t in 0..side {
            let energy = matrix[t * side + t];
            let value = values[t * channels + ABSOLUTE_POS];
            let mut best = value;
            if energy > 0.0 {
                best = value + columns[t * UNITS + column] / energy;
            }
            let code = clamp((best / scale).round() + zero, f32::new(0.0), top);
            let change = scale * (code - zero) - value;
            codes[t * channels + ABSOLUTE_POS] = code;
            for later in t + 1..side {
                columns[later * UNITS + column] -= matrix[later * side + t] * change;
            }
        }
    }
}
