//! Shards of a batch side by side, with the same result on any number of threads.
//!
//! burn's CPU backend runs elementwise operations on the thread that asks for them, so whole shards
//! are spread over the threads rather than single operations. A shard's arithmetic never depends on
//! the number of threads: each worker thread computes its products by itself.

use std::sync::atomic::{AtomicUsize, Ordering};

use fresnel_runtime::{Error, ErrorKind};
use rayon::ThreadPool;

use crate::device::{Device, DeviceKind};

/// Threads that work on shards; none for a GPU, which is fed from one thread.
#[derive(Debug)]
pub(super) struct Workers {
    pools: Vec<ThreadPool>,
}

impl Workers {
    /// As many workers as calibration has threads, for work on `device`.
    ///
    /// # Errors
    /// Fails when the system gives no more threads.
    pub(super) fn new(device: &Device) -> Result<Self, Error> {
        let count = match device.kind() {
            DeviceKind::Cpu => rayon::current_num_threads(),
            DeviceKind::Gpu => 0,
        };
        let pools = (0..count)
            // A pool of one thread is what keeps burn from splitting a product.
            .map(|_| rayon::ThreadPoolBuilder::new().num_threads(1).build())
            .collect::<Result<_, _>>()
            .map_err(|error| {
                Error::new(ErrorKind::Io, "can't start a thread: use fewer with --threads")
                    .with_source(error)
            })?;
        Ok(Self { pools })
    }

    /// `work` for every shard; the results are in the shards' order.
    ///
    /// # Errors
    /// The error of the first shard that fails.
    pub(super) fn map<S: Sync, R: Send>(
        &self,
        shards: &[S],
        work: impl Fn(&S) -> Result<R, Error> + Sync,
    ) -> Result<Vec<R>, Error> {
        if self.pools.is_empty() {
            return shards.iter().map(work).collect();
        }
        let next = AtomicUsize::new(0);
        let take = || {
            let take = || {
                let index = next.fetch_add(1, Ordering::Relaxed);
                Some((index, work(shards.get(index)?)))
            };
            std::iter::from_fn(take).collect::<Vec<_>>()
        };
        let mut results = std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .pools
                .iter()
                .take(shards.len())
                .map(|pool| scope.spawn(|| pool.install(take)))
                .collect();
            let mut results = Vec::with_capacity(shards.len());
            for thread in threads {
                match thread.join() {
                    Ok(part) => results.extend(part),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            results
        });
        results.sort_unstable_by_key(|(index, _)| *index);
        results.into_iter().map(|(_, result)| result).collect()
    }
}
