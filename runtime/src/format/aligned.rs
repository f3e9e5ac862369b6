//! A byte buffer that starts on a cache line, without unsafe code.

use super::header::ALIGNMENT;
use crate::error::{Error, ErrorKind};

/// Bytes whose first lies at an address divisible by 64, so that every tensor of a data section does too.
///
/// The buffer is over-allocated by one cache line and used from the first aligned byte on. The bytes
/// never move: a `Vec` keeps its allocation when it is moved, and nothing grows it beyond its capacity.
pub(super) struct AlignedBytes {
    storage: Vec<u8>,
    start: usize,
    /// Length up to which bytes may be added.
    room: usize,
}

impl AlignedBytes {
    /// No bytes yet, but room for `len`. Fails without aborting when the memory is not there.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`] when `len` bytes cannot be allocated.
    pub(super) fn with_room(len: u64) -> Result<AlignedBytes, Error> {
        let no_memory =
            || Error::new(ErrorKind::Limit, format!("no memory for {len} bytes of tensor data"));
        let line = usize::try_from(ALIGNMENT).map_err(|_| no_memory())?;
        let room = usize::try_from(len).map_err(|_| no_memory())?;
        let capacity = room.checked_add(line).ok_or_else(no_memory)?;
        let mut storage: Vec<u8> = Vec::new();
        storage.try_reserve_exact(capacity).map_err(|_| no_memory())?;
        let start = storage.as_ptr().align_offset(line);
        storage.resize(start, 0);
        Ok(AlignedBytes { storage, start, room })
    }

    /// Adds zeros up to length `offset`, and `bytes` behind them.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] where there is no room, or where bytes stand already.
    pub(super) fn put(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let outside = || Error::new(ErrorKind::Corrupt, "the tensor lies outside the data section");
        let offset = usize::try_from(offset).map_err(|_| outside())?;
        let end = offset.checked_add(bytes.len());
        if end.is_none_or(|end| end > self.room) || offset < self.as_slice().len() {
            return Err(outside());
        }
        self.storage.resize(self.start.saturating_add(offset), 0);
        self.storage.extend_from_slice(bytes);
        Ok(())
    }

    /// The bytes so far.
    pub(super) fn as_slice(&self) -> &[u8] {
        self.storage.get(self.start..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_on_a_cache_line_and_holds_what_was_put() {
        for len in [0_usize, 1, 63, 64, 65, 4096, 100_003] {
            let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let mut aligned = AlignedBytes::with_room(len as u64 + 10).unwrap();
            aligned.put(0, &bytes[..len / 2]).unwrap();
            aligned.put(len as u64 / 2, &bytes[len / 2..]).unwrap();
            assert_eq!(aligned.as_slice(), bytes);
            aligned.put(len as u64 + 8, &[5, 6]).unwrap();
            assert_eq!(aligned.as_slice()[len..], [0, 0, 0, 0, 0, 0, 0, 0, 5, 6]);
            assert_eq!(aligned.as_slice().as_ptr().align_offset(64), 0, "length {len}");
        }
    }

    #[test]
    fn refuses_impossible_lengths_and_places() {
        for len in [u64::MAX, u64::MAX / 2] {
            assert_eq!(AlignedBytes::with_room(len).err().unwrap().kind(), ErrorKind::Limit);
        }
        let mut aligned = AlignedBytes::with_room(10).unwrap();
        aligned.put(2, &[1, 2]).unwrap();
        for (offset, length) in [(3, 1), (4, 7), (11, 0), (u64::MAX, 1)] {
            let error = aligned.put(offset, &vec![0; length]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{offset}, {length}");
        }
        assert_eq!(aligned.as_slice(), [0, 0, 1, 2]);
    }
}
