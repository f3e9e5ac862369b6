//! Tensors in safetensors files: the input and the output of `run`.

use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::{Exit, Failure, write_file};
use crate::format::limits::MAX_FILE_BYTES;
use crate::input_file;

/// Reads the `f32` tensor `name` of `path`: its shape and its numbers.
pub(super) fn read(path: &Path, name: &str) -> Result<(Vec<usize>, Vec<f32>), Failure> {
    let bytes = input_file::read(path, MAX_FILE_BYTES)?;
    let bad = |text: String| Failure::bad_input(format!("{}: {text}", path.display()));
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| bad(format!("not a safetensors file: {error}")))?;
    let tensor = file.tensor(name).map_err(|_| {
        let mut names = file.names();
        names.sort_unstable();
        names.truncate(8);
        bad(format!("expected a tensor named \"{name}\", found {names:?}"))
    })?;
    if tensor.dtype() != Dtype::F32 {
        return Err(bad(format!(
            "tensor \"{name}\": expected numbers of type F32, found {:?}",
            tensor.dtype()
        )));
    }
    let (chunks, _) = tensor.data().as_chunks();
    Ok((tensor.shape().to_vec(), chunks.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()))
}

/// Writes the `f32` tensor `name` as the only one of a new file at `path`: whole or not at all.
///
/// Refuses to replace a file unless `force`.
pub(super) fn write(
    path: &Path,
    name: &str,
    shape: Vec<usize>,
    values: &[f32],
    force: bool,
) -> Result<(), Failure> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let failure = |text: String| {
        Failure::new(Exit::Io, "io", format!("{}: cannot write the tensor: {text}", path.display()))
    };
    let view = TensorView::new(Dtype::F32, shape, &bytes).map_err(|e| failure(e.to_string()))?;
    let file =
        safetensors::serialize([(name, view)], None).map_err(|error| failure(error.to_string()))?;
    write_file(path, &file, force).map_err(|error| Failure::io(path, &error))
}
