//! Reading: every rule is enforced, in an order that keeps a hostile file from costing anything.
//!
//! 1. the 64 bytes of the header, and the lengths in it against the real length;
//! 2. the manifest (at most 1 MiB): checksum, decoding, every rule that needs no data;
//! 3. tensor by tensor, as they are asked for: zero padding, finite numbers, scales that are not negative, valid codes,
//!    and the checksum;
//! 4. the tensors that nobody asked for, and the end of the file.
//!
//! A tensor comes in pieces that fit a cache, so that it is laid out where it is needed while it is read, and no file is
//! ever in memory beside what is made of it. What a piece has become may be used once the tensor's checksum was right;
//! until then it is only placed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use super::front_matter::{self, read_failed, too_long, zeros};
use super::manifest::{Encoding, Manifest, TensorEntry};
use super::validate;
use crate::error::{Error, ErrorKind};

/// Bytes read at a time, unless what may not be cut is longer.
const PIECE_BYTES: u64 = 128 * 1024;

/// A file of which header and manifest have passed every check.
pub(crate) struct Reader<R> {
    source: R,
    /// Byte of `source` that is read next.
    position: u64,
    /// First byte of the data section in `source`.
    data_offset: u64,
    contents: Contents,
    /// Which tensors have passed every check.
    checked: Vec<bool>,
    buffer: Vec<u8>,
}

/// What a file holds, but for the data.
#[derive(Clone)]
pub(crate) struct Contents {
    pub(crate) manifest: Manifest,
    /// Length of the file.
    pub(crate) file_bytes: u64,
    /// Where each tensor stands in the manifest.
    index: HashMap<String, usize>,
}

impl Contents {
    /// The place of the tensor called `name` in the manifest, and its entry, where there is one.
    pub(super) fn find(&self, name: &str) -> Option<(usize, &TensorEntry)> {
        let at = *self.index.get(name)?;
        Some((at, self.manifest.tensors.get(at)?))
    }

    /// Length of the data section.
    pub(super) fn data_len(&self) -> u64 {
        self.manifest.tensors.last().map_or(0, |last| last.offset.saturating_add(last.length))
    }
}

impl Reader<File> {
    /// Opens the file at `path`, which must be a regular one. The errors do not name it.
    ///
    /// # Errors
    /// As [`Reader::new`].
    pub(crate) fn open(path: &Path) -> Result<Reader<File>, Error> {
        let failed = |source| Error::io("cannot open", source);
        // Before opening, which would wait for ever at a pipe.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(Error::new(
                ErrorKind::Io,
                "expected a .fresnel file, found a folder or a device",
            ));
        }
        let file = File::open(path).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        Reader::new(file, about.len())
    }
}

impl<'a> Reader<Cursor<&'a [u8]>> {
    /// Reads a file that is in memory.
    ///
    /// # Errors
    /// As [`Reader::new`].
    pub(crate) fn from_bytes(bytes: &'a [u8]) -> Result<Self, Error> {
        Reader::new(Cursor::new(bytes), u64::try_from(bytes.len()).unwrap_or(u64::MAX))
    }

    /// Reads the data section `data` of a file with these contents.
    pub(super) fn of_data(contents: Contents, data: &'a [u8]) -> Self {
        Reader::behind_front_matter(Cursor::new(data), contents, 0)
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Reads header and manifest of a file of `length` bytes, at the start of which `source` stands.
    ///
    /// # Errors
    /// See [`Container::open`](super::Container::open), but for what concerns the tensors' data.
    fn new(mut source: R, length: u64) -> Result<Reader<R>, Error> {
        let (header, manifest) = front_matter::read(&mut source, length)?;
        let names = manifest.tensors.iter().map(|entry| entry.name.clone());
        let index = names.enumerate().map(|(at, name)| (name, at)).collect();
        let contents = Contents { manifest, file_bytes: header.file_len(), index };
        Ok(Reader::behind_front_matter(source, contents, header.data_offset()))
    }

    fn behind_front_matter(source: R, contents: Contents, data_offset: u64) -> Reader<R> {
        let checked = vec![false; contents.manifest.tensors.len()];
        let buffer = Vec::new();
        Reader { source, position: data_offset, data_offset, contents, checked, buffer }
    }

    /// Everything but the tensors' data.
    pub(crate) fn contents(&self) -> &Contents {
        &self.contents
    }

    /// The tensor called `name`, where there is one.
    pub(crate) fn entry(&self, name: &str) -> Option<&TensorEntry> {
        self.contents.find(name).map(|(_, entry)| entry)
    }

    /// Reads the tensor called `name` and hands its bytes to `take`, in pieces of whole values, or whole rows of codes.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when there is no such tensor or a value is wrong, [`ErrorKind::Corrupt`] when the data is
    /// damaged, whatever its values, [`ErrorKind::Io`] or [`ErrorKind::Truncated`] when it cannot be read, and the errors
    /// of `take`. What `take` has been given must not be used then.
    pub(crate) fn values(
        &mut self,
        name: &str,
        take: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (at, entry) = self.find(name)?;
        self.pieces(at, &entry, smallest_unit(&entry), take)
    }

    /// As [`values`](Self::values), in pieces of whole rows: of what belongs to one index of the first dimension.
    ///
    /// # Errors
    /// As [`values`](Self::values).
    pub(crate) fn rows(
        &mut self,
        name: &str,
        take: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (at, entry) = self.find(name)?;
        self.pieces(at, &entry, row_bytes(&entry), take)
    }

    /// Checks the tensors that have not been read and the end of the file.
    ///
    /// # Errors
    /// As [`values`](Self::values), and [`ErrorKind::Corrupt`] when the file has grown.
    pub(crate) fn finish(mut self) -> Result<Contents, Error> {
        let tensors = self.contents.manifest.tensors.iter().cloned().enumerate();
        let unread = tensors.zip(&self.checked).filter(|(_, checked)| !**checked);
        let unread: Vec<(usize, TensorEntry)> = unread.map(|(tensor, _)| tensor).collect();
        for (at, entry) in unread {
            self.pieces(at, &entry, smallest_unit(&entry), |_| Ok(()))?;
        }
        let end = self.data_offset.saturating_add(self.contents.data_len());
        self.seek(end)?;
        // The length was known beforehand, but the file may have grown since.
        let mut more = Vec::new();
        let found = self.source.take(1).read_to_end(&mut more);
        if found.map_err(|source| read_failed(source, end))? != 0 {
            return Err(too_long(end));
        }
        Ok(self.contents)
    }

    fn find(&self, name: &str) -> Result<(usize, TensorEntry), Error> {
        let found = self.contents.find(name).map(|(at, entry)| (at, entry.clone()));
        found.ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "the file has no such tensor").at_tensor(name)
        })
    }

    /// Reads the padding in front of tensor number `at`, and the tensor in pieces of whole `unit`s of bytes.
    fn pieces(
        &mut self,
        at: usize,
        entry: &TensorEntry,
        unit: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let tensors = &self.contents.manifest.tensors;
        let before = at.checked_sub(1).and_then(|before| tensors.get(before));
        let start = before.map_or(0, |before| before.offset.saturating_add(before.length));
        let mut buffer = std::mem::take(&mut self.buffer);
        let place = self.data_offset.saturating_add(start);
        self.fill(&mut buffer, place, entry.offset.saturating_sub(start))?;
        zeros(&buffer, place)?;

        let place = self.data_offset.saturating_add(entry.offset);
        let units = PIECE_BYTES.checked_div(unit).unwrap_or(1).max(1);
        let longest = units.saturating_mul(unit);
        let mut hasher = crc32fast::Hasher::new();
        let mut verdict = Ok(());
        let mut done = 0_u64;
        while done < entry.length {
            let length = longest.min(entry.length.saturating_sub(done));
            self.fill(&mut buffer, place.saturating_add(done), length)?;
            hasher.update(&buffer);
            if verdict.is_ok() {
                verdict = validate::values(entry, done, &buffer).and_then(|()| take(&buffer));
            }
            done = done.saturating_add(length);
        }
        self.buffer = buffer;
        // Wrong values are news only if they are what was written.
        validate::checksum(entry, hasher.finalize())
            .and(verdict)
            .map_err(|error| error.at_tensor(&entry.name).at_offset(place))?;
        if let Some(checked) = self.checked.get_mut(at) {
            *checked = true;
        }
        Ok(())
    }

    /// Makes `buffer` the `length` bytes of the source from `offset` on.
    fn fill(&mut self, buffer: &mut Vec<u8>, offset: u64, length: u64) -> Result<(), Error> {
        let no_memory = || Error::new(ErrorKind::Limit, format!("no memory for {length} bytes"));
        let length = usize::try_from(length).map_err(|_| no_memory())?;
        if let Some(missing) = length.checked_sub(buffer.len()) {
            buffer.try_reserve_exact(missing).map_err(|_| no_memory())?;
        }
        buffer.resize(length, 0);
        self.seek(offset)?;
        self.source.read_exact(buffer).map_err(|source| read_failed(source, offset))?;
        self.position = offset.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        Ok(())
    }

    fn seek(&mut self, offset: u64) -> Result<(), Error> {
        if self.position != offset {
            let found = self.source.seek(SeekFrom::Start(offset));
            self.position = found.map_err(|source| read_failed(source, offset))?;
        }
        Ok(())
    }
}

/// Bytes that belong to one index of the first dimension.
fn row_bytes(entry: &TensorEntry) -> u64 {
    let rows = entry.shape.first().copied().map_or(1, u64::from);
    entry.length.checked_div(rows).unwrap_or(entry.length)
}

/// Bytes of the smallest part that can be checked by itself.
fn smallest_unit(entry: &TensorEntry) -> u64 {
    match entry.encoding {
        Encoding::F32 => 4,
        Encoding::F16 => 2,
        Encoding::Codes(_) => row_bytes(entry),
    }
}
