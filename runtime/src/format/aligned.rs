//! A byte buffer that starts on a cache line, without unsafe code.

use super::header::ALIGNMENT;
use crate::error::{Error, ErrorKind};

/// Bytes whose first lies at an address divisible by 64, so that every tensor of a data section does too.
///
/// The buffer is over-allocated by one cache line and used from the first aligned byte on. The bytes
/// never move: a `Vec` keeps its allocation when it is moved, and nothing grows it.
pub(super) struct AlignedBytes {
    storage: Vec<u8>,
    start: usize,
}

impl AlignedBytes {
    /// `len` zeros. Fails without aborting when the memory is not there.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`] when `len` bytes cannot be allocated.
    pub(super) fn zeroed(len: u64) -> Result<AlignedBytes, Error> {
        let no_memory =
            || Error::new(ErrorKind::Limit, format!("no memory for {len} bytes of tensor data"));
        let line = usize::try_from(ALIGNMENT).map_err(|_| no_memory())?;
        let len = usize::try_from(len).map_err(|_| no_memory())?;
        let capacity = len.checked_add(line).ok_or_else(no_memory)?;
        let mut storage: Vec<u8> = Vec::new();
        storage.try_reserve_exact(capacity).map_err(|_| no_memory())?;
        let start = storage.as_ptr().align_offset(line);
        storage.resize(start.saturating_add(len), 0);
        Ok(AlignedBytes { storage, start })
    }

    /// The bytes.
    pub(super) fn as_slice(&self) -> &[u8] {
        self.storage.get(self.start..).unwrap_or_default()
    }

    /// The bytes, to be written.
    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        self.storage.get_mut(self.start..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_on_a_cache_line_and_has_the_length_asked_for() {
        for len in [0_usize, 1, 63, 64, 65, 4096, 100_003] {
            let mut aligned = AlignedBytes::zeroed(len as u64).unwrap();
            assert_eq!(aligned.as_slice(), vec![0; len]);
            aligned.as_mut_slice().fill(7);
            assert_eq!(aligned.as_slice(), vec![7; len]);
            assert_eq!(aligned.as_slice().as_ptr().align_offset(64), 0, "length {len}");
        }
    }

    #[test]
    fn refuses_impossible_lengths() {
        for len in [u64::MAX, u64::MAX / 2] {
            let error = AlignedBytes::zeroed(len).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Limit);
        }
    }
}
