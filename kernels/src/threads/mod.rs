//! The threads of a session.
//!
//! More than one thread takes the feature `threads`. Without it the same interface runs everything on the caller, for
//! targets that have no threads or no room for their scheduler.

#[cfg(not(feature = "threads"))]
#[path = "absent.rs"]
mod workers;
#[cfg(feature = "threads")]
#[path = "rayon.rs"]
mod workers;

use crate::arch::Token;
use crate::{Isa, PoolError};
use workers::Workers;

/// A fixed number of threads, and the instruction set of the operations which own no matrix.
///
/// One thread runs everything inline on the caller. More threads are started once, by [`Pool::new`], and live as long as
/// the pool. How work is cut never changes how a number is computed: every result is the same, bit for bit, for any number
/// of threads. A pool may be used by several callers at once.
#[derive(Debug)]
pub struct Pool {
    threads: usize,
    workers: Option<Workers>,
    token: Token,
}

impl Pool {
    /// Most threads of a pool: above the cores of any machine today, below what brings one down.
    pub const MAX_THREADS: usize = 256;

    /// A pool of `threads` threads (0: one per core, or one without the feature `threads`), with the instruction set of
    /// [`Isa::from_env`].
    ///
    /// # Errors
    /// When `FRESNEL_ISA` names an instruction set that is unknown or not available, for more than [`Pool::MAX_THREADS`], or when
    /// threads cannot be started.
    pub fn new(threads: usize) -> Result<Pool, PoolError> {
        Pool::with_isa(threads, Isa::from_env()?)
    }

    /// A pool of `threads` threads (0 as in [`Pool::new`]) whose operations use the given instruction set.
    ///
    /// Matmuls use that of their [`Matrix`](crate::Matrix) instead.
    ///
    /// # Errors
    /// When this machine lacks the instructions, or threads cannot be started.
    pub fn with_isa(threads: usize, isa: Isa) -> Result<Pool, PoolError> {
        let token = isa.require()?;
        let threads = match threads {
            0 => workers::available(),
            threads => threads,
        };
        if threads > Pool::MAX_THREADS {
            return Err(PoolError::TooMany { threads });
        }
        let workers = if threads == 1 { None } else { Some(Workers::start(threads)?) };
        Ok(Pool { threads, workers, token })
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The instruction set of the operations which own no matrix.
    pub fn isa(&self) -> Isa {
        self.token.isa()
    }

    /// Runs `work` on a thread of the pool (on the caller where there is one thread only) and waits for it.
    ///
    /// Operations called inside start at once; each one called from outside wakes the pool first. Put a whole forward pass
    /// in one `install`.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.workers {
            Some(workers) => workers.install(work),
            None => work(),
        }
    }

    pub(crate) fn token(&self) -> Token {
        self.token
    }

    /// Calls `work` once on every thread, all at the same time.
    pub(crate) fn on_every_thread<R: Send>(&self, work: impl Fn() -> R + Sync) -> Vec<R> {
        match &self.workers {
            Some(workers) => workers.broadcast(work),
            None => vec![work()],
        }
    }

    /// Calls `work` exactly once for each index below `count`.
    pub(crate) fn for_each(&self, count: usize, work: impl Fn(usize) + Sync) {
        match &self.workers {
            Some(workers) if count > 1 => workers.for_each(count, work),
            _ => (0..count).for_each(work),
        }
    }

    /// Calls `work` once for each piece of `size` elements (the last may be shorter), with its index.
    pub(crate) fn for_each_chunk<T: Send>(
        &self,
        data: &mut [T],
        size: usize,
        work: impl Fn(usize, &mut [T]) + Sync,
    ) {
        match &self.workers {
            Some(workers) if data.len() > size => workers.for_each_chunk(data, size, work),
            _ => data.chunks_mut(size).enumerate().for_each(|(index, chunk)| work(index, chunk)),
        }
    }

    /// Calls `work` once for each piece of `first`, of `first_size` elements, with the piece of `second` that belongs to it, of
    /// `second_size`, and their index; the last pieces may be shorter.
    pub(crate) fn for_each_chunk_pair<A: Send, B: Send>(
        &self,
        first: &mut [A],
        first_size: usize,
        second: &mut [B],
        second_size: usize,
        work: impl Fn(usize, &mut [A], &mut [B]) + Sync,
    ) {
        match &self.workers {
            Some(workers) if first.len() > first_size => {
                workers.for_each_chunk_pair(first, first_size, second, second_size, work);
            }
            _ => first
                .chunks_mut(first_size)
                .zip(second.chunks_mut(second_size))
                .enumerate()
                .for_each(|(index, (first, second))| work(index, first, second)),
        }
    }
}
