//! Tensors in safetensors files: the input and the output of `run`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::{Exit, Failure};

/// Reads the `f32` tensor `name` of `path`: its shape and its numbers.
pub(super) fn read(path: &Path, name: &str) -> Result<(Vec<usize>, Vec<f32>), Failure> {
    let bytes = fs::read(path).map_err(|error| Failure::io(path, &error))?;
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

/// Refuses an `output` that exists (unless `force`) or that is one of `inputs` (always), before any
/// work is done for it.
pub(super) fn check_output(output: &Path, inputs: &[&Path], force: bool) -> Result<(), Failure> {
    let refuse =
        |text: &str| Err(Failure::new(Exit::Io, "exists", format!("{}: {text}", output.display())));
    if output.is_dir() {
        return refuse("is a directory, expected the name of a file");
    }
    let directory = output.parent().filter(|directory| !directory.as_os_str().is_empty());
    if directory.is_some_and(|directory| !directory.is_dir()) {
        return refuse("its directory does not exist");
    }
    if output.symlink_metadata().is_err() {
        return Ok(());
    }
    if inputs.iter().any(|input| same_file(input, output)) {
        return refuse("is an input of this command and will not be replaced");
    }
    if !force {
        return refuse("exists already: choose another name or give --force");
    }
    Ok(())
}

fn same_file(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        if let (Ok(a), Ok(b)) = (fs::metadata(a), fs::metadata(b)) {
            return a.dev() == b.dev() && a.ino() == b.ino();
        }
    }
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// A temporary file beside `path`, flushed to disk, then renamed.
fn write_file(path: &Path, bytes: &[u8], force: bool) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".fresnel-").suffix(".partial");
    #[cfg(unix)]
    {
        // The permissions of an ordinary new file, as the umask has it.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(&directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    if force {
        file.persist(path).map_err(|error| error.error)?;
    } else {
        file.persist_noclobber(path).map_err(|error| error.error)?;
    }
    // Not every file system lets a directory be opened and synced; the rename has happened anyway.
    let _ = File::open(&directory).and_then(|directory| directory.sync_all());
    Ok(())
}
