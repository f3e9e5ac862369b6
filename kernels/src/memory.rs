//! Aligned memory: the storage of matrices, and buffers that a thread keeps from call to call.

use std::cell::Cell;
use std::collections::TryReserveError;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytemuck::{Pod, Zeroable};

/// A cache line, which is also the widest vector.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u32; 16]);

/// Zeroed memory that starts at a cache line.
#[derive(Debug, Default)]
pub(crate) struct Lines(Vec<Line>);

impl Lines {
    /// Memory for `count` elements of `T`.
    pub(crate) fn zeroed<T: Pod>(count: usize) -> Lines {
        let mut lines = Lines::default();
        lines.grow::<T>(count);
        lines
    }

    /// No memory yet, but room for `count` elements of `T`, up to which [`grow`](Self::grow) does not allocate.
    ///
    /// # Errors
    /// When the system does not have the memory.
    pub(crate) fn with_room<T: Pod>(count: usize) -> Result<Lines, TryReserveError> {
        let mut lines = Vec::new();
        lines.try_reserve_exact(lines_of::<T>(count))?;
        Ok(Lines(lines))
    }

    /// Makes it at least `count` elements long; what is added is zero.
    pub(crate) fn grow<T: Pod>(&mut self, count: usize) {
        let needed = lines_of::<T>(count);
        if self.0.len() < needed {
            self.0.resize(needed, Line::zeroed());
        }
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.0.len() * size_of::<Line>()
    }

    /// The memory as elements of `T`, including what fills up the last line.
    pub(crate) fn of<T: Pod>(&self) -> &[T] {
        bytemuck::cast_slice(&self.0)
    }

    /// The memory as elements of `T`, including what fills up the last line.
    pub(crate) fn of_mut<T: Pod>(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

/// Numbers that start at a cache line: inputs and outputs of operations, whose widest loads and stores then stay within one.
/// A part of [`Vec`]; it derefs to a slice.
#[derive(Debug)]
pub struct AlignedVec<T> {
    lines: Lines,
    len: usize,
    of: PhantomData<T>,
}

impl<T> Default for AlignedVec<T> {
    fn default() -> Self {
        Self { lines: Lines::default(), len: 0, of: PhantomData }
    }
}

impl<T: Pod> AlignedVec<T> {
    /// Makes it at least `len` long; what is added is zero.
    ///
    /// # Errors
    /// When the system does not have the memory; nothing has changed then.
    pub fn grow(&mut self, len: usize) -> Result<(), TryReserveError> {
        if len > self.len {
            let missing = lines_of::<T>(len).saturating_sub(self.lines.0.len());
            self.lines.0.try_reserve_exact(missing)?;
            self.lines.grow::<T>(len);
            self.len = len;
        }
        Ok(())
    }
}

impl<T: Pod> Deref for AlignedVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.lines.of()[..self.len]
    }
}

impl<T: Pod> DerefMut for AlignedVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.lines.of_mut()[..self.len]
    }
}

/// Lines that `count` elements of `T` take.
fn lines_of<T: Pod>(count: usize) -> usize {
    count.saturating_mul(size_of::<T>()).div_ceil(size_of::<Line>())
}

/// What a buffer is for; a thread keeps one of each.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Slot {
    /// A row of activations, before it is packed.
    Rows,
    /// The numbers of such a row as they are multiplied.
    RowCodes,
    /// A block of the right operand, expanded from codes.
    Right,
    /// Sums of a panel before the epilogue.
    Sums,
    /// Queries of attention.
    Queries,
    /// Keys of attention.
    Keys,
    /// Values of attention.
    Values,
    /// Scores of attention.
    Scores,
    /// Probabilities of integer attention, as codes.
    Probabilities,
    /// What they add up to, for each query.
    RowTotals,
    /// Scales of the queries of integer attention.
    QueryScales,
    /// Scales of the features of its keys.
    KeyScales,
    /// The reciprocals of these.
    KeyInverses,
    /// Scales of its values.
    ValueScales,
    /// Sums of their codes.
    ValueSums,
}

const SLOTS: usize = Slot::ValueSums as usize + 1;

thread_local! {
    static KEPT: [Cell<Lines>; SLOTS] = const { [const { Cell::new(Lines(Vec::new())) }; SLOTS] };
}

/// A buffer borrowed from this thread, given back when dropped.
///
/// A slot that is already lent on this thread (a worker that waits may start another task) yields a fresh buffer.
pub(crate) struct Buffer {
    slot: Slot,
    lines: Lines,
}

impl Buffer {
    /// Takes the buffer of a slot.
    pub(crate) fn take(slot: Slot) -> Buffer {
        let lines = KEPT.with(|kept| kept[slot as usize].take());
        Buffer { slot, lines }
    }

    /// The first `count` elements of `T`, with whatever an earlier call left in them.
    pub(crate) fn get<T: Pod>(&mut self, count: usize) -> &mut [T] {
        self.lines.grow::<T>(count);
        &mut self.lines.of_mut()[..count]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        // Fails only while the thread ends, when the memory may simply be freed.
        let _ = KEPT.try_with(|kept| kept[self.slot as usize].set(lines));
    }
}

#[cfg(test)]
mod tests {
    use super::{AlignedVec, Line};

    #[test]
    fn grows_by_zeros_aligned_to_lines() {
        let mut values = AlignedVec::<u16>::default();
        assert!(values.is_empty());
        for len in [1, 33, 5, 1000] {
            let before = values.len();
            values.grow(len).unwrap();
            assert_eq!(values.len(), len.max(before));
            assert_eq!(values.as_ptr().addr() % align_of::<Line>(), 0);
            assert!(values[before..].iter().all(|&value| value == 0));
            values.fill(7);
        }
        assert!(values.grow(usize::MAX).is_err());
        assert_eq!((values.len(), values[999]), (1000, 7));
    }
}
