//! Memory brought nearer ahead of its use.

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

/// Has words brought into the second-level cache.
#[inline(always)]
pub(super) fn fetch(words: &[u32]) {
    /// Words of a cache line.
    const LINE: usize = 16;
    for line in words.chunks(LINE) {
        // SAFETY: a hint, which reads nothing, at an address inside a slice.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
}
