//! Picture files to model input.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Preprocessor;
use crate::error::Error;
use crate::image::decode;

impl Preprocessor {
    /// Decodes and prepares the picture at `path`.
    ///
    /// # Errors
    /// As [`decode`](crate::image::decode()) and [`apply`](Self::apply); all carry the path.
    pub fn load(&self, path: impl AsRef<Path>) -> Result<Vec<f32>, Error> {
        let path = path.as_ref();
        let image = decode::decode(path, self.color)?;
        self.apply(&image).map_err(|error| error.at_path(path))
    }

    /// [`load`](Self::load) for many pictures on `threads` threads (0: one per core). The results
    /// are in the order of `paths` and do not depend on the number of threads. One bad picture does
    /// not spoil the others: each has its own result.
    ///
    /// All results are held at once, so give a large set in parts.
    pub fn load_all<P: AsRef<Path> + Sync>(
        &self,
        paths: &[P],
        threads: usize,
    ) -> Vec<Result<Vec<f32>, Error>> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if threads == 0 { cores() } else { threads }.min(paths.len());
        if threads <= 1 {
            return paths.iter().map(|path| self.load(path)).collect();
        }
        // Pictures differ in size, so each thread takes the next one when it is done with its last.
        let next = AtomicUsize::new(0);
        let work = || {
            let take = || {
                let index = next.fetch_add(1, Ordering::Relaxed);
                Some((index, self.load(paths.get(index)?)))
            };
            std::iter::from_fn(take).collect::<Vec<_>>()
        };
        let mut results = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let mut results = Vec::with_capacity(paths.len());
            for worker in workers {
                match worker.join() {
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
