//! In place of worker threads in a build that has none: a type without values, so that what takes them is known never to run.

use crate::PoolError;

/// Worker threads, which this build cannot start.
#[derive(Debug)]
pub(super) enum Workers {}

/// Threads of a pool that may have as many as it likes.
pub(super) fn available() -> usize {
    1
}

impl Workers {
    /// Refuses.
    ///
    /// # Errors
    /// [`PoolError::NoThreads`], always.
    pub(super) fn start(threads: usize) -> Result<Self, PoolError> {
        Err(PoolError::NoThreads { threads })
    }

    pub(super) fn for_each(&self, _: usize, _: &(dyn Fn(usize) + Sync)) {
        match *self {}
    }
}
