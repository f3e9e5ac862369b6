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

    pub(super) fn install<R: Send>(&self, _: impl FnOnce() -> R + Send) -> R {
        match *self {}
    }

    pub(super) fn broadcast<R: Send>(&self, _: impl Fn() -> R + Sync) -> Vec<R> {
        match *self {}
    }

    pub(super) fn for_each(&self, _: usize, _: impl Fn(usize) + Sync) {
        match *self {}
    }

    pub(super) fn for_each_chunk<T: Send>(
        &self,
        _: &mut [T],
        _: usize,
        _: impl Fn(usize, &mut [T]) + Sync,
    ) {
        match *self {}
    }

    pub(super) fn for_each_chunk_pair<A: Send, B: Send>(
        &self,
        _: &mut [A],
        _: usize,
        _: &mut [B],
        _: usize,
        _: impl Fn(usize, &mut [A], &mut [B]) + Sync,
    ) {
        match *self {}
    }
}
