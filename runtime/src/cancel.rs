//! Stopping a run before its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, ErrorKind};

/// A request to stop, shared between the [`Session`](crate::Session) that obeys it and whoever may make it.
///
/// Clones are the same flag. It stays up until [`reset`](Self::reset), so that no request is lost, whether it comes before,
/// during or between runs.
#[derive(Clone, Debug, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// Asks for a stop. Returns at once, from any thread; the run ends before its next transformer block.
    pub fn cancel(&self) {
        // The flag guards no other memory, so no ordering with other accesses is needed.
        self.0.store(true, Ordering::Relaxed);
    }

    /// Takes the request back: later runs are not stopped.
    pub fn reset(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether a stop is asked for.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// For work to call between its steps.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] when a stop is asked for.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "stopped on request"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
