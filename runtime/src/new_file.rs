//! Files written whole or not at all.
//!
//! A file is written beside its destination under a temporary name, flushed to the disk, and renamed over the
//! destination: whoever looks sees the old file or the new one, never half of one. A failure removes the temporary file.
//! So does [`remove_unfinished`], for programs that are told to stop: nothing is dropped when a process ends, so the
//! temporary files are on a list.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::NamedTempFile;

/// The temporary files of this process. Held while one is begun, renamed or removed.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the process from beginning or finishing files until it is dropped.
#[must_use = "files may be begun again when this is dropped"]
#[derive(Debug)]
pub struct NoMoreFiles(
    #[expect(dead_code, reason = "held, not read")] MutexGuard<'static, Vec<PathBuf>>,
);

/// Removes the files that this process has begun and not finished. No file is begun or finished until what is
/// returned is dropped: the caller ends the process before.
pub fn remove_unfinished() -> NoMoreFiles {
    let mut paths = unfinished();
    for path in paths.drain(..) {
        // Nothing better can be done with a file that does not go.
        let _ = std::fs::remove_file(path);
    }
    NoMoreFiles(paths)
}

/// A file that is not there under its name until [`finish`](Self::finish).
#[derive(Debug)]
pub struct NewFile {
    destination: PathBuf,
    /// There until the file is finished.
    temporary: Option<NamedTempFile>,
}

impl NewFile {
    /// Begins a file that is to become `destination`.
    ///
    /// # Errors
    /// When the folder of `destination` takes no new file.
    pub fn create(destination: impl Into<PathBuf>) -> io::Result<NewFile> {
        let destination = destination.into();
        let mut builder = tempfile::Builder::new();
        builder.prefix(".fresnel-").suffix(".partial");
        #[cfg(unix)]
        {
            // The permissions of an ordinary new file, as the umask has it.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let mut paths = unfinished();
        let temporary = builder.tempfile_in(folder(&destination))?;
        paths.push(temporary.path().to_path_buf());
        drop(paths);
        Ok(NewFile { destination, temporary: Some(temporary) })
    }

    /// Flushes the file to the disk and gives it its name; a file of that name is replaced only if `force` is set.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] without `force`, or what the operating system says. The destination is then
    /// as it was before.
    pub fn finish(mut self, force: bool) -> io::Result<()> {
        let Some(temporary) = self.temporary.take() else {
            return Ok(());
        };
        let synced = temporary.as_file().sync_all();
        let mut paths = unfinished();
        paths.retain(|path| path != temporary.path());
        // An error drops the temporary file, which removes it.
        synced?;
        let destination = &self.destination;
        let named = if force {
            temporary.persist(destination)
        } else {
            temporary.persist_noclobber(destination)
        };
        named.map_err(|error| error.error)?;
        drop(paths);
        // Makes the rename itself durable. Not every file system lets a folder be opened and synced.
        let _ = File::open(folder(destination)).and_then(|folder| folder.sync_all());
        Ok(())
    }

    fn open(&mut self) -> io::Result<&mut File> {
        let finished = || io::Error::other("the file is finished");
        self.temporary.as_mut().map(NamedTempFile::as_file_mut).ok_or_else(finished)
    }
}

/// Whether a rename may put a file in the place of `path`: a device or a pipe would be lost, and nobody means that.
pub fn is_replaceable(path: &Path) -> bool {
    // Follows links, such as /dev/stdout.
    path.metadata().map_or(true, |found| found.is_file())
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.open()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.open()?.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            unfinished().retain(|path| path != temporary.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_there_when_it_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut file = NewFile::create(&path).unwrap();
        file.write_all(b"one").unwrap();
        assert!(!path.exists());
        assert_eq!(names(folder.path()).len(), 1);
        file.finish(false).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one");

        let mut file = NewFile::create(&path).unwrap();
        file.write_all(b"two").unwrap();
        let refused = file.finish(false).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        drop(NewFile::create(&path).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"one");

        let mut file = NewFile::create(&path).unwrap();
        file.write_all(b"three").unwrap();
        file.finish(true).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"three");
        assert_eq!(names(folder.path()), ["a"]);
        assert!(NewFile::create(folder.path().join("no/where")).is_err());
    }
}
