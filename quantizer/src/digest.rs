//! SHA-256 as files are identified by it: of bytes, of a file, of a list of files.

use std::path::{Path, PathBuf};

use fresnel_runtime::Error;
use sha2::{Digest, Sha256};

/// Digits of a digest or another number of bytes, two per byte.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of a file's content.
///
/// # Errors
/// Fails with `failure` and the path when the file can't be read.
pub fn of_file(path: &Path, failure: &'static str) -> Result<[u8; 32], Error> {
    let bytes = std::fs::read(path).map_err(|error| Error::io(failure, error).at_path(path))?;
    Ok(Sha256::digest(&bytes).into())
}

/// SHA-256 over the SHA-256 of each file, in order, as hexadecimal digits: what a list of files is,
/// whatever they are called.
///
/// # Errors
/// As [`of_file`].
pub fn of_files(paths: &[PathBuf], failure: &'static str) -> Result<String, Error> {
    let mut hash = Sha256::new();
    for path in paths {
        hash.update(of_file(path, failure)?);
    }
    Ok(hexadecimal(&hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::{Digest, Sha256, hexadecimal, of_files};

    #[test]
    fn digests_are_those_of_the_standard() {
        // FIPS 180-4's example for a message of one block.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hexadecimal(&Sha256::digest("abc")), expected);
    }

    #[test]
    fn a_list_of_files_is_its_contents_in_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).expect("written");
            path
        };
        let (a, b, copy) = (file("a", "one"), file("b", "two"), file("c", "one"));
        let of = |paths: &[_]| of_files(paths, "can't read").expect("a digest");
        let parts = [Sha256::digest("one"), Sha256::digest("two")].concat();
        assert_eq!(of(&[a.clone(), b.clone()]), hexadecimal(&Sha256::digest(parts)));
        assert_eq!(of(&[a.clone(), b.clone()]), of(&[copy, b.clone()]));
        assert_ne!(of(&[a.clone(), b.clone()]), of(&[b, a]));
        let error = of_files(&[folder.path().join("d")], "can't read").expect_err("no file");
        assert!(error.path().is_some_and(|path| path.ends_with("d")), "{error}");
    }
}
