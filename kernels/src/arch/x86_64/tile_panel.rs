//! A panel of the right operand that is expanded while it is multiplied.
//!
//! Storing the words of a step where another panel has driven the last one out of the first-level cache takes as long as the
//! products of that step with a pair of row tiles, and both can be done at a time.

use super::avx512::Avx512Vnni;
use super::tile_registers::{Product, STEP};
use crate::Width;
use crate::arch::{RightBlock, Simd};
use crate::pack::panel;

const LANES: usize = Avx512Vnni::LANES;

/// A panel, expanded as far as it is needed.
pub(super) struct Panel<'a> {
    width: Width,
    /// Words, none once they are expanded.
    pub(super) packed: &'a [u32],
    /// Words of a step.
    per_step: usize,
    /// All steps, as they are multiplied; written only while there are packed words.
    pub(super) steps: *mut u32,
}

impl<'a> Panel<'a> {
    /// # Panics
    /// When there are fewer than `steps` steps.
    #[inline(always)]
    pub(super) fn new<P: Product>(width: Width, right: RightBlock<'a>, steps: usize) -> Self {
        let (packed, expanded, len): (&[u32], _, _) = match right {
            RightBlock::Expanded(right) => (&[], right.as_ptr().cast_mut(), right.len()),
            RightBlock::Packed { words, expanded } => {
                (words, expanded.as_mut_ptr(), expanded.len())
            }
        };
        assert!(len >= steps * STEP * LANES, "a step of the right operand is missing");
        let per_step = panel::panel_words(width, P::DEPTH, LANES);
        assert!(packed.len() <= steps * per_step, "more words than steps");
        Panel { width, packed, per_step, steps: expanded }
    }

    /// Expands step `step`, if it is there and still packed.
    ///
    /// # Safety
    /// What the panel was made of is still borrowed.
    #[inline(always)]
    pub(super) unsafe fn expand<P: Product, S: Simd>(&self, simd: S, step: usize) {
        let rest = self.packed.get(step * self.per_step..).unwrap_or(&[]);
        if !rest.is_empty() {
            let words = &rest[..rest.len().min(self.per_step)];
            // SAFETY: packed words are those of at most as many steps as there is room for, which `new` has checked, and
            // nothing else refers to them.
            let out = unsafe {
                let start = self.steps.add(step * STEP * LANES);
                std::slice::from_raw_parts_mut(start, STEP * LANES)
            };
            P::expand(simd, self.width, words, out);
        }
    }
}
