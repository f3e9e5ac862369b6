//! The kernel of one block of GPTQ.

use cubecl::prelude::*;
use fresnel_runtime::Error;

use super::{COLUMNS, Launch, MATRIX, UNITS, close, load_column, load_matrix, open};
use crate::algorithm::block::{Rounded, RoundingBlock};

/// Rounds the coordinates of one block, each making up for the errors of those before it.
///
/// # Errors
/// Fails when the tensors are not on the GPU.
pub(in crate::algorithm::block) fn round(block: RoundingBlock) -> Result<Rounded, Error> {
    let values = open(block.values)?;
    let launch = Launch::new(&values);
    let (codes, errors) = (launch.result(launch.rows), launch.result(launch.rows));
    rounding_kernel::launch(
        launch.client(),
        launch.cubes(),
        launch.units(),
        open(block.upper)?.into_buffer_arg(),
        values.into_buffer_arg(),
        open(block.scale)?.into_buffer_arg(),
        open(block.zero)?.into_buffer_arg(),
        codes.clone().into_buffer_arg(),
        errors.clone().into_buffer_arg(),
        launch.rows as u32,
        block.levels,
    );
    Ok(Rounded { codes: close(codes), errors: close(errors) })
}

#[cube(launch)]
#[allow(clippy::too_many_arguments)]
fn rounding_kernel(
    upper: &[f32],
    values: &[f32],
    scale: &[f32],
    zero: &[f32],
    codes: &mut [f32],
    errors: &mut [f32],
    rows: u32,
    levels: u32,
) {
    let channels = scale.len();
    let mut matrix = Shared::<[f32]>::new_slice(MATRIX);
    let mut columns = Shared::<[f32]>::new_slice(COLUMNS);
    load_matrix(upper, &mut matrix, rows);
    sync_cube();
    if ABSOLUTE_POS < channels {
        load_column(values, &mut columns, rows, channels);
        let side = rows as usize;
        let column = UNIT_POS as usize;
        let scale = scale[ABSOLUTE_POS];
        let zero = zero[ABSOLUTE_POS];
        let top = f32::cast_from(levels - 1);
        for t in 0..side {
            let value = columns[t * UNITS + column];
            let code = clamp((value / scale + zero).round(), f32::new(0.0), top);
            let error = (value - scale * (code - zero)) / matrix[t * side + t];
            codes[t * channels + ABSOLUTE_POS] = code;
            errors[t * channels + ABSOLUTE_POS] = error;
            for later in t + 1..side {
                columns[later * UNITS + column] -= matrix[t * side + later] * error;
            }
        }
    }
}
