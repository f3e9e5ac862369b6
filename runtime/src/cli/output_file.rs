//! Files that commands write: looked at before the work, written whole or not at all.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use super::{Exit, Failure};
use crate::new_file::{NewFile, is_replaceable};

/// Refuses an `output` that exists (unless `force`) or that is one of `inputs` (always), before any
/// work is done for it; also what is no regular file, such as a device, and one whose folder takes no new files.
///
/// # Errors
/// A [`Failure`] of [`Exit::Io`] that says which it is.
pub fn check_output(output: &Path, inputs: &[&Path], force: bool) -> Result<(), Failure> {
    let refuse =
        |text: &str| Err(Failure::new(Exit::Io, "exists", format!("{}: {text}", output.display())));
    if output.is_dir() {
        return refuse("is a directory, expected the name of a file");
    }
    if !is_replaceable(output) {
        return refuse("is not a regular file and will not be replaced");
    }
    let directory = output.parent().filter(|directory| !directory.as_os_str().is_empty());
    if directory.is_some_and(|directory| !directory.is_dir()) {
        return refuse("its directory does not exist");
    }
    // Gone again at once.
    tempfile::tempfile_in(directory.unwrap_or(Path::new(".")))
        .map_err(|error| Failure::io(output, &error))?;
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

/// Writes a file whole or not at all, see [`NewFile`].
///
/// # Errors
/// When writing fails, or `path` exists and `force` is not set; nothing is left behind then.
pub fn write_file(path: &Path, bytes: &[u8], force: bool) -> io::Result<()> {
    let mut file = NewFile::create(path)?;
    file.write_all(bytes)?;
    file.finish(force)
}
