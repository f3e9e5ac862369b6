//! Files that are read whole: regular ones of a stated length at most, so that neither a pipe nor a device nor a file of
//! zeros that takes no space keeps the program waiting or takes its memory.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{Error, ErrorKind};

/// The bytes of the file at `path`.
///
/// # Errors
/// All errors carry the path. [`ErrorKind::Io`] when the file cannot be read, [`ErrorKind::Input`] when it is no regular file,
/// [`ErrorKind::Limit`] when it has more than `limit` bytes, or more than there is memory for.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    read_bytes(path, limit).map_err(|error| error.at_path(path))
}

/// The text of the file at `path`.
///
/// # Errors
/// As [`read`], and [`ErrorKind::Input`] with the byte offset when it is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> Result<String, Error> {
    String::from_utf8(read(path, limit)?).map_err(|error| {
        let error = error.utf8_error();
        let before = error.valid_up_to();
        Error::new(ErrorKind::Input, "expected UTF-8 text: save the file as UTF-8")
            .at_path(path)
            .at_offset(before as u64)
            .with_source(error)
    })
}

fn read_bytes(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let failed = |error| Error::io("cannot read", error);
    // Asked before opening, since opening a named pipe would wait for its other end.
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        let found = if metadata.is_dir() { "a folder" } else { "a special file" };
        return Err(Error::new(ErrorKind::Input, format!("expected a file, found {found}")));
    }
    let found = metadata.len();
    if found > limit {
        return Err(too_long(found, limit));
    }
    let mut bytes = Vec::new();
    let reserved = usize::try_from(found).is_ok_and(|found| bytes.try_reserve_exact(found).is_ok());
    if !reserved {
        return Err(Error::new(ErrorKind::Limit, format!("no memory for a file of {found} bytes")));
    }
    // What grew meanwhile, or has no length of its own, is noticed by the byte behind the limit.
    File::open(path)
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(failed)?;
    let found = bytes.len() as u64;
    if found > limit { Err(too_long(found, limit)) } else { Ok(bytes) }
}

pub(crate) fn too_long(found: u64, limit: u64) -> Error {
    Error::new(ErrorKind::Limit, format!("expected a file of at most {limit} bytes, found {found}"))
}

#[cfg(test)]
mod tests {
    use super::{read, read_text};
    use crate::ErrorKind;

    #[test]
    fn only_regular_files_within_the_limit_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"abc").unwrap();
        assert_eq!(read(&path, 3).unwrap(), b"abc");
        assert_eq!(read_text(&path, 3).unwrap(), "abc");
        assert_eq!(read(&path, 2).unwrap_err().kind(), ErrorKind::Limit);
        assert_eq!(read(folder.path(), 3).unwrap_err().kind(), ErrorKind::Input);
        assert_eq!(read(&folder.path().join("none"), 3).unwrap_err().kind(), ErrorKind::Io);
        std::fs::write(&path, b"ab\xff").unwrap();
        let error = read_text(&path, 3).unwrap_err();
        assert_eq!((error.kind(), error.offset()), (ErrorKind::Input, Some(2)));
        // A terabyte of zeros that takes no space.
        std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(read(&path, 1 << 30).unwrap_err().kind(), ErrorKind::Limit);
    }

    #[cfg(unix)]
    #[test]
    fn devices_are_not_read() {
        let error = read("/dev/zero".as_ref(), 1 << 20).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input);
        assert_eq!(error.to_string(), "/dev/zero: expected a file, found a special file");
    }
}
