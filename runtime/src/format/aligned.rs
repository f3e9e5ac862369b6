//! A byte buffer that starts on a cache line, without unsafe code.

use std::io::Read;

use super::header::ALIGNMENT;
use crate::error::{Error, ErrorKind};

/// Bytes whose first lies at an address divisible by 64, so that every tensor of a data section does too.
///
/// The buffer is over-allocated by one cache line and used from the first aligned byte on. The bytes
/// never move after they are read: a `Vec` keeps its allocation when it is moved, and nothing grows it.
pub(super) struct AlignedBytes {
    storage: Vec<u8>,
    start: usize,
}

impl AlignedBytes {
    /// Reads exactly `len` bytes. Fails without aborting when the memory is not there.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] when `reader` ends early, [`ErrorKind::Io`] when it fails,
    /// [`ErrorKind::Limit`] when `len` bytes cannot be allocated.
    pub(super) fn read(reader: &mut impl Read, len: u64) -> Result<AlignedBytes, Error> {
        let no_memory =
            || Error::new(ErrorKind::Limit, format!("no memory for {len} bytes of tensor data"));
        let line = usize::try_from(ALIGNMENT).map_err(|_| no_memory())?;
        let capacity = usize::try_from(len)
            .ok()
            .and_then(|len| len.checked_add(line))
            .ok_or_else(no_memory)?;
        let mut storage: Vec<u8> = Vec::new();
        storage.try_reserve_exact(capacity).map_err(|_| no_memory())?;
        let start = storage.as_ptr().align_offset(line);
        storage.resize(start, 0);
        let found = reader
            .take(len)
            .read_to_end(&mut storage)
            .map_err(|source| Error::io("cannot read the tensor data", source))?;
        if u64::try_from(found) != Ok(len) {
            return Err(Error::new(
                ErrorKind::Truncated,
                format!("expected {len} bytes of tensor data, found {found}"),
            ));
        }
        Ok(AlignedBytes { storage, start })
    }

    /// The bytes.
    pub(super) fn as_slice(&self) -> &[u8] {
        self.storage.get(self.start..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_on_a_cache_line_and_holds_what_was_read() {
        for len in [0_usize, 1, 63, 64, 65, 4096, 100_003] {
            let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let aligned = AlignedBytes::read(&mut bytes.as_slice(), len as u64).unwrap();
            assert_eq!(aligned.as_slice(), bytes);
            assert_eq!(aligned.as_slice().as_ptr().align_offset(64), 0, "length {len}");
        }
    }

    #[test]
    fn refuses_early_ends_and_impossible_lengths() {
        let error = AlignedBytes::read(&mut [1_u8, 2].as_slice(), 3).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Truncated);
        let error = AlignedBytes::read(&mut [1_u8].as_slice(), u64::MAX).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Limit);
    }
}
