//! Threads that watch for work.
//!
//! A forward pass is a hundred regions of 30 to 500 microseconds, one after another, and every one ends before the next
//! begins. So what counts is how soon the other threads are there: after a region they go on watching for a while before they
//! sleep, the caller works along instead of waiting, and nobody waits for a thread that has not come yet. A general
//! scheduler takes some 30 microseconds to spread and to gather a region, which is a fifth of a pass on two cores.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::claims::Claims;
use crate::PoolError;

/// How long a thread watches for the next region before it sleeps: longer than the serial stretches of a pass.
const WATCH: Duration = Duration::from_micros(200);

/// Set in [`State`] while threads may enter.
const OPEN: u64 = 1 << 31;

/// The bits of [`State`] that count the threads inside.
const INSIDE: u64 = OPEN - 1;

/// One region in [`State`].
const REGION: u64 = 1 << 32;

/// Threads of a pool that may have as many as the machine runs at once.
pub(super) fn available() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Threads that take part in the regions of a caller, one or more.
#[derive(Debug)]
pub(super) struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Whether some caller has a region.
    taken: AtomicBool,
}

/// What the threads that take part call for every piece of a region.
struct Region<'a> {
    work: &'a (dyn Fn(usize) + Sync),
    /// What a thread other than the caller's panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

#[derive(Debug)]
struct Shared {
    state: State,
    claims: Claims,
    sleep: Sleep,
}

/// Which region is on. The number of the region is in the upper half, below it [`OPEN`] and the number of the threads inside.
#[derive(Debug, Default)]
struct State {
    bits: AtomicU64,
    /// The region, of type `Region`; valid for a thread that has entered, until it leaves.
    region: AtomicPtr<()>,
}

#[derive(Debug, Default)]
struct Sleep {
    sleeping: AtomicUsize,
    /// Whether the threads are to end.
    end: Mutex<bool>,
    wake: Condvar,
}

impl Workers {
    /// Starts the threads of a pool of `threads`, one of which is the caller's.
    ///
    /// # Errors
    /// [`PoolError::Threads`] when the operating system gives none.
    pub(super) fn start(threads: usize) -> Result<Self, PoolError> {
        let shared = Shared {
            state: State::default(),
            claims: Claims::new(threads),
            sleep: Sleep::default(),
        };
        let mut workers =
            Self { shared: Arc::new(shared), threads: Vec::new(), taken: AtomicBool::new(false) };
        for index in 1..threads {
            let shared = Arc::clone(&workers.shared);
            let thread = std::thread::Builder::new()
                .name(format!("fresnel-{index}"))
                .spawn(move || shared.take_part(index))
                .map_err(|source| PoolError::Threads { threads, source })?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// Calls `work` for every index below `count`, each on one of the threads: those of the others that come before everything
    /// is taken, and the caller's. On the caller's alone while another caller has the others, inside of `work`, and where
    /// there are more than [`Claims::MAX`].
    ///
    /// # Panics
    /// When `work` panics on any thread.
    pub(super) fn for_each(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        if count > Claims::MAX || self.taken.swap(true, Ordering::Acquire) {
            return (0..count).for_each(work);
        }
        let claims = &self.shared.claims;
        claims.divide(count);
        let region = Region { work, panic: Mutex::new(None) };
        {
            let _open = Open::new(self, &region);
            claims.take(0, work);
        }
        let panic = region.panic.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        *self.shared.sleep.end.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.sleep.wake.notify_all();
        for thread in self.threads.drain(..) {
            // It caught what the work panicked with, and has nothing else to panic with.
            let _ = thread.join();
        }
    }
}

/// An open region. Closes it, and waits for the threads inside, when it is dropped: also when the caller's work panics.
struct Open<'a>(&'a Workers);

impl<'a> Open<'a> {
    fn new(workers: &'a Workers, region: &'a Region<'_>) -> Self {
        let Shared { state, sleep, .. } = &*workers.shared;
        state.region.store(ptr::from_ref(region).cast_mut().cast(), Ordering::Relaxed);
        let number = state.bits.load(Ordering::Relaxed) & !(OPEN | INSIDE);
        // Seen together with the pointer by whoever enters; in one order with `sleeping`, so that either this thread sees the
        // sleeper or the sleeper sees the region.
        state.bits.store(number.wrapping_add(REGION) | OPEN, Ordering::SeqCst);
        if sleep.sleeping.load(Ordering::SeqCst) > 0 {
            drop(sleep.end.lock());
            sleep.wake.notify_all();
        }
        Self(workers)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let bits = &self.0.shared.state.bits;
        bits.fetch_and(!OPEN, Ordering::Relaxed);
        let mut spins = 0_u32;
        // Acquires what the threads wrote.
        while bits.load(Ordering::Acquire) & INSIDE != 0 {
            spins += 1;
            // A thread inside may have lost its core to another program.
            if spins.is_multiple_of(1024) {
                std::thread::yield_now()
            } else {
                std::hint::spin_loop()
            }
        }
        self.0.taken.store(false, Ordering::Release);
    }
}

impl Shared {
    /// What a thread does from its start to its end.
    #[allow(unsafe_code)]
    fn take_part(&self, thread: usize) {
        let mut last = 0;
        while let Some(number) = self.enter_next(last) {
            last = number;
            let region = self.state.region.load(Ordering::Relaxed).cast::<Region<'_>>();
            // SAFETY: `Open::new` stored the pointer to a region before it opened it, and this thread entered it since. The
            // region and what it borrows live until the caller's `Open` is dropped, which closes the region and waits for
            // those inside; this thread uses the reference before it leaves only.
            let region = unsafe { &*region };
            if let Err(panic) =
                catch_unwind(AssertUnwindSafe(|| self.claims.take(thread, region.work)))
            {
                *region.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
            }
            // Releases what the work wrote.
            self.state.bits.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits for a region other than the last one and enters it; its number, or `None` at the end.
    fn enter_next(&self, last: u64) -> Option<u64> {
        loop {
            let start = Instant::now();
            while start.elapsed() < WATCH {
                for _ in 0..32 {
                    if let Some(number) = self.state.enter(last) {
                        return Some(number);
                    }
                    std::hint::spin_loop();
                }
            }
            let Sleep { sleeping, end, wake } = &self.sleep;
            let mut ended = end.lock().unwrap_or_else(PoisonError::into_inner);
            sleeping.fetch_add(1, Ordering::SeqCst);
            while !*ended && !self.state.is_open(last) {
                ended = wake.wait(ended).unwrap_or_else(PoisonError::into_inner);
            }
            sleeping.fetch_sub(1, Ordering::Relaxed);
            if *ended {
                return None;
            }
        }
    }
}

impl State {
    /// Whether there is an open region other than the last one.
    fn is_open(&self, last: u64) -> bool {
        let bits = self.bits.load(Ordering::SeqCst);
        bits & OPEN != 0 && bits / REGION != last
    }

    /// Enters the open region unless it is the last one; its number.
    fn enter(&self, last: u64) -> Option<u64> {
        let mut bits = self.bits.load(Ordering::Relaxed);
        while bits & OPEN != 0 && bits / REGION != last {
            // Acquires the pointer.
            match self.bits.compare_exchange_weak(
                bits,
                bits + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(bits / REGION),
                Err(now) => bits = now,
            }
        }
        None
    }
}
