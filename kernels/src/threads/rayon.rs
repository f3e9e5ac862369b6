//! Worker threads by rayon.

use rayon::prelude::*;

use crate::PoolError;

/// Threads that wait for work, two or more.
#[derive(Debug)]
pub(super) struct Workers(rayon::ThreadPool);

/// Threads of a pool that may have as many as the machine runs at once.
pub(super) fn available() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Workers {
    /// Starts `threads` threads.
    ///
    /// # Errors
    /// [`PoolError::Threads`] when the operating system gives none.
    pub(super) fn start(threads: usize) -> Result<Self, PoolError> {
        let workers = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("fresnel-{index}"))
            .build()
            .map_err(|source| PoolError::Threads { threads, source: Box::new(source) })?;
        Ok(Self(workers))
    }

    pub(super) fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.0.install(work)
    }

    pub(super) fn broadcast<R: Send>(&self, work: impl Fn() -> R + Sync) -> Vec<R> {
        self.0.broadcast(|_| work())
    }

    pub(super) fn for_each(&self, count: usize, work: impl Fn(usize) + Sync) {
        self.0.install(|| (0..count).into_par_iter().for_each(&work));
    }

    pub(super) fn for_each_chunk<T: Send>(
        &self,
        data: &mut [T],
        size: usize,
        work: impl Fn(usize, &mut [T]) + Sync,
    ) {
        self.0.install(|| {
            data.par_chunks_mut(size).enumerate().for_each(|(index, chunk)| work(index, chunk));
        });
    }

    pub(super) fn for_each_chunk_pair<A: Send, B: Send>(
        &self,
        first: &mut [A],
        first_size: usize,
        second: &mut [B],
        second_size: usize,
        work: impl Fn(usize, &mut [A], &mut [B]) + Sync,
    ) {
        self.0.install(|| {
            first
                .par_chunks_mut(first_size)
                .zip(second.par_chunks_mut(second_size))
                .enumerate()
                .for_each(|(index, (first, second))| work(index, first, second));
        });
    }
}
