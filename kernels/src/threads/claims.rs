//! Which thread does which piece of a region.
//!
//! Every thread has a range of its own, the same one in every region of that size: neighbouring pieces share cache lines,
//! and what a thread wrote in one region is nearest to it in the next. Who has finished takes pieces off the far ends of the
//! others' ranges.

use std::sync::atomic::{AtomicU64, Ordering};

/// The pieces that nobody has taken yet: a range for each thread.
#[derive(Debug)]
pub(super) struct Claims(Box<[Range]>);

/// The end in the upper half, the start in the lower one. On cache lines of its own: it changes with every piece.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Range(AtomicU64);

impl Claims {
    /// Most pieces.
    pub(super) const MAX: usize = u32::MAX as usize;

    /// Nothing to take, for so many threads.
    pub(super) fn new(threads: usize) -> Self {
        Self((0..threads).map(|_| Range::default()).collect())
    }

    /// Divides `count` pieces among the threads; nobody may be taking any.
    pub(super) fn divide(&self, count: usize) {
        debug_assert!(count <= Self::MAX);
        let threads = self.0.len() as u64;
        let start = |thread: u64| count as u64 * thread / threads;
        for (thread, range) in (0..).zip(&self.0) {
            range.0.store(start(thread + 1) << 32 | start(thread), Ordering::Relaxed);
        }
    }

    /// Calls `work` for the pieces of a thread, then for what is left of the others'.
    pub(super) fn take(&self, thread: usize, work: &dyn Fn(usize)) {
        let first = |left: u64| (left as u32, left + 1);
        while let Some(piece) = self.0[thread].take(first) {
            work(piece);
        }
        let last = |left: u64| ((left >> 32) as u32 - 1, left - (1 << 32));
        for other in (thread + 1..self.0.len()).chain(0..thread) {
            while let Some(piece) = self.0[other].take(last) {
                work(piece);
            }
        }
    }
}

impl Range {
    /// Takes a piece; `split` gives it and the rest.
    fn take(&self, split: impl Fn(u64) -> (u32, u64)) -> Option<usize> {
        let rest = |left: u64| (left as u32 != (left >> 32) as u32).then(|| split(left).1);
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest);
        before.ok().map(|left| split(left).0 as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::Claims;

    /// Pieces in the order in which a thread that is alone takes them.
    fn order(claims: &Claims, thread: usize) -> Vec<usize> {
        let taken = RefCell::new(Vec::new());
        claims.take(thread, &|piece| taken.borrow_mut().push(piece));
        taken.into_inner()
    }

    #[test]
    fn a_thread_takes_its_own_range_and_then_the_ends_of_the_others() {
        let claims = Claims::new(3);
        claims.divide(8);
        assert_eq!(order(&claims, 1), [2, 3, 4, 7, 6, 5, 1, 0]);
        assert!(order(&claims, 0).is_empty());
    }

    #[test]
    fn there_may_be_fewer_pieces_than_threads() {
        let claims = Claims::new(5);
        claims.divide(2);
        let mut taken = order(&claims, 0);
        taken.sort_unstable();
        assert_eq!(taken, [0, 1]);
    }
}
