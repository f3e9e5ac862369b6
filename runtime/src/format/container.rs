//! A whole file in memory, for those who want to look at its bytes.

use std::io::{Cursor, Read, Seek};
use std::path::Path;

use super::aligned::AlignedBytes;
use super::manifest::{Manifest, TensorEntry};
use super::reader::{Contents, Reader};
use crate::error::Error;
#[cfg(doc)]
use crate::error::ErrorKind;

/// A file that has passed every check: its manifest and the data of its tensors.
///
/// [`Model`](crate::Model) reads files without holding their bytes; this is for tools and tests that need those.
pub struct Container {
    contents: Contents,
    data: AlignedBytes,
}

const _: () = {
    const fn shared_between_threads<T: Send + Sync>() {}
    shared_between_threads::<Container>();
};

/// One tensor of a [`Container`].
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// Name, shape and encoding.
    pub entry: &'a TensorEntry,
    /// The encoded values, little-endian; starts at an address divisible by 64.
    pub bytes: &'a [u8],
}

impl Container {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be read; [`ErrorKind::NotAFresnelFile`],
    /// [`ErrorKind::UnsupportedVersion`], [`ErrorKind::Truncated`], [`ErrorKind::Corrupt`],
    /// [`ErrorKind::Limit`] or [`ErrorKind::Invalid`] when it breaks a rule of the format. The error
    /// names the file, and the tensor or byte where there is one.
    pub fn open(path: impl AsRef<Path>) -> Result<Container, Error> {
        let path = path.as_ref();
        Reader::open(path).and_then(Self::read).map_err(|error| error.at_path(path))
    }

    /// Reads a file that is already in memory; the tensors' data is copied.
    ///
    /// # Errors
    /// As [`open`](Self::open), but for [`ErrorKind::Io`].
    pub fn from_bytes(bytes: impl AsRef<[u8]>) -> Result<Container, Error> {
        Self::read(Reader::from_bytes(bytes.as_ref())?)
    }

    fn read(mut reader: Reader<impl Read + Seek>) -> Result<Container, Error> {
        let mut data = AlignedBytes::with_room(reader.contents().data_len())?;
        for entry in reader.contents().manifest.tensors.clone() {
            let mut offset = entry.offset;
            reader.values(&entry.name, |piece| {
                data.put(offset, piece)?;
                offset = offset.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
                Ok(())
            })?;
        }
        Ok(Container { contents: reader.finish()?, data })
    }

    /// Everything but the tensors' data.
    pub fn manifest(&self) -> &Manifest {
        &self.contents.manifest
    }

    /// Length of the file.
    pub fn file_bytes(&self) -> u64 {
        self.contents.file_bytes
    }

    /// The tensor called `name`, where there is one.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let (_, entry) = self.contents.find(name)?;
        let start = usize::try_from(entry.offset).ok()?;
        let length = usize::try_from(entry.length).ok()?;
        Some(TensorView { entry, bytes: self.data.as_slice().get(start..)?.get(..length)? })
    }

    /// Every tensor, in the order of the file.
    pub fn tensors(&self) -> impl Iterator<Item = TensorView<'_>> {
        self.manifest().tensors.iter().filter_map(|entry| self.tensor(&entry.name))
    }

    /// Reads the file once more, from memory.
    pub(crate) fn reader(&self) -> Reader<Cursor<&[u8]>> {
        Reader::of_data(self.contents.clone(), self.data.as_slice())
    }
}

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Container")
            .field("architecture", &self.manifest().config.architecture)
            .field("tensors", &self.manifest().tensors.len())
            .field("file_bytes", &self.file_bytes())
            .finish_non_exhaustive()
    }
}
