//! Evaluation pictures and calibration images: identified by content, and kept apart.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use fresnel_runtime::{Error, ErrorKind};

use crate::digest;

const UNREADABLE: &str = "can't read the picture";

/// SHA-256 over the SHA-256 of each file, in order, as hexadecimal digits: what a list of pictures
/// is, whatever its files are called.
///
/// # Errors
/// Fails with the path of a file that can't be read.
pub fn sha256(paths: &[PathBuf]) -> Result<String, Error> {
    digest::of_files(paths, UNREADABLE)
}

/// Refuses evaluation pictures that are calibration images as well, under whatever name: accuracy
/// on them would flatter every method that looked at them.
///
/// # Errors
/// [`ErrorKind::Input`] with the first such picture and their number; [`ErrorKind::Io`] when a file
/// can't be read.
pub fn check_disjoint(evaluation: &[PathBuf], calibration: &[PathBuf]) -> Result<(), Error> {
    // Only files of equal length are read.
    let mut by_length: HashMap<u64, Vec<&PathBuf>> = HashMap::new();
    for path in calibration {
        by_length.entry(length(path)?).or_default().push(path);
    }
    let mut digests: HashMap<u64, HashSet<[u8; 32]>> = HashMap::new();
    let mut shared: Option<(&Path, usize)> = None;
    for path in evaluation {
        let length = length(path)?;
        let Some(candidates) = by_length.get(&length) else { continue };
        let known = match digests.entry(length) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                entry.insert(candidates.iter().map(|path| content(path)).collect::<Result<_, _>>()?)
            }
        };
        if known.contains(&content(path)?) {
            shared = Some(shared.map_or((path, 1), |(first, count)| (first, count + 1)));
        }
    }
    match shared {
        None => Ok(()),
        Some((path, count)) => Err(Error::new(
            ErrorKind::Input,
            format!(
                "is a calibration image as well, one of {count}: evaluate on pictures that calibration does not see"
            ),
        )
        .at_path(path)),
    }
}

fn content(path: &Path) -> Result<[u8; 32], Error> {
    digest::of_file(path, UNREADABLE)
}

fn length(path: &Path) -> Result<u64, Error> {
    let metadata =
        fs::metadata(path).map_err(|error| Error::io(UNREADABLE, error).at_path(path))?;
    Ok(metadata.len())
}

#[cfg(test)]
mod tests {
    use super::{check_disjoint, sha256};

    #[test]
    fn pictures_are_recognised_by_content() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let calibration = [file("a", "one"), file("b", "three"), file("c", "seven")];
        let apart = [file("d", "two"), file("e", "eleven")];
        check_disjoint(&apart, &calibration).unwrap();
        let shared = [file("f", "two"), file("g", "seven"), file("h", "one")];
        let error = check_disjoint(&shared, &calibration).unwrap_err();
        assert!(error.path().unwrap().ends_with("g"), "{error}");
        assert!(error.to_string().contains("one of 2"), "{error}");
        assert_eq!(sha256(&shared[1..2]).unwrap(), sha256(&calibration[2..]).unwrap());
        assert_ne!(sha256(&shared).unwrap(), sha256(&calibration).unwrap());
        let missing = [folder.path().join("nowhere")];
        assert!(
            check_disjoint(&missing, &calibration).unwrap_err().to_string().contains("nowhere")
        );
    }
}
