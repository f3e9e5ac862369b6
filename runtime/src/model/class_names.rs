//! Class names as users keep them: a text file.

use std::path::Path;

use crate::error::{Error, ErrorKind};

/// Reads class names from a text file, one per line in index order.
///
/// # Errors
/// Fails when the file can't be read as text or does not hold `classes` names.
pub fn read(path: &Path, classes: u32) -> Result<Vec<String>, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::io("can't read the class names", error).at_path(path))?;
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
