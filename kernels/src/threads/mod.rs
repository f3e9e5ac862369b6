//! The threads of a session.
//!
//! More than one thread takes the feature `threads`. Without it the same interface runs everything on the caller, for
//! targets that have no threads or no room for their scheduler.

#[cfg(feature = "threads")]
mod claims;
#[cfg(not(feature = "threads"))]
#[path = "absent.rs"]
mod workers;
#[cfg(feature = "threads")]
mod workers;

use crate::arch::Token;
use crate::{Isa, PoolError};
use workers::Workers;

/// A fixed number of threads, and the instruction set of the operations which own no matrix.
///
/// One of the threads is the caller's, the others are started by [`Pool::new`] and live as long as the pool. They watch for
/// work for a fraction of a millisecond before they sleep. How work is cut never changes how a number is computed: every
/// result is the same, bit for bit, for any number of threads. A pool may be used by several callers at once: the threads help
/// one of them at a time, and the others go on alone.
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

    pub(crate) fn token(&self) -> Token {
        self.token
    }

    /// Calls `work` exactly once for each index below `count`.
    pub(crate) fn for_each(&self, count: usize, work: impl Fn(usize) + Sync) {
        match &self.workers {
            Some(workers) if count > 1 => workers.for_each(count, &work),
            _ => (0..count).for_each(work),
        }
    }
}

#[cfg(all(test, feature = "threads"))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::thread;
    use std::time::Duration;

    use super::Pool;
    use crate::Isa;

    /// Every index once, whatever the number of threads and of indices, with pauses in which threads fall asleep.
    #[test]
    fn every_index_once() {
        for threads in [1, 2, 3, 16] {
            let pool = Pool::with_isa(threads, Isa::Scalar).unwrap();
            for count in [0, 1, 2, 3, 17, 1000].into_iter().cycle().take(300) {
                let seen: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                pool.for_each(count, |index| {
                    seen[index].fetch_add(1, Relaxed);
                });
                assert!(seen.iter().all(|seen| seen.load(Relaxed) == 1), "{threads} {count}");
                if count == 17 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }

    /// All threads of a pool take part while there is work, woken where they sleep.
    #[test]
    fn all_threads_come() {
        let pool = Pool::with_isa(4, Isa::Scalar).unwrap();
        thread::sleep(Duration::from_millis(5));
        let inside = AtomicUsize::new(0);
        pool.for_each(4, |_| {
            inside.fetch_add(1, Relaxed);
            while inside.load(Relaxed) < 4 {
                thread::yield_now();
            }
        });
    }

    #[test]
    fn callers_and_nested_work_share_a_pool() {
        let pool = Pool::with_isa(3, Isa::Scalar).unwrap();
        let total = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        pool.for_each(5, |_| {
                            pool.for_each(3, |_| {
                                total.fetch_add(1, Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(total.into_inner(), 4 * 200 * 5 * 3);
    }

    /// A panic of any piece reaches the caller, and the pool goes on.
    #[test]
    fn a_panic_reaches_the_caller() {
        let pool = Pool::with_isa(3, Isa::Scalar).unwrap();
        for piece in 0..9 {
            let work = || pool.for_each(9, |index| assert!(index != piece, "piece {index}"));
            assert!(catch_unwind(AssertUnwindSafe(work)).is_err());
        }
        let done = AtomicUsize::new(0);
        pool.for_each(9, |_| {
            done.fetch_add(1, Relaxed);
        });
        assert_eq!(done.into_inner(), 9);
    }
}
