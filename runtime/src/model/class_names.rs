//! Class names as users keep them: a text file.

use std::path::Path;

use crate::error::{Error, ErrorKind};
use crate::format::limits::{MAX_CLASS_NAME_BYTES, MAX_CLASS_NAMES};
use crate::input_file;

/// Longest file: as many names as a model file holds, each as long as it may be, and the ends of their lines.
const MAX_BYTES: u64 = (MAX_CLASS_NAMES * (MAX_CLASS_NAME_BYTES + 2)) as u64;

/// Reads class names from a text file, one per line in index order.
///
/// # Errors
/// Fails when the file can't be read as text or does not hold `classes` names.
pub fn read(path: &Path, classes: u32) -> Result<Vec<String>, Error> {
    let text = input_file::read_text(path, MAX_BYTES)?;
    let names: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    if names.len() != classes as usize {
        return Err(Error::new(
            ErrorKind::Input,
            format!("expected {classes} class names, one per line, found {}", names.len()),
        )
        .at_path(path));
    }
    Ok(names)
}
