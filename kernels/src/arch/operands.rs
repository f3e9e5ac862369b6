//! The operands of a product, as the micro-kernels see them.

/// All rows of a task, for one block of the input dimension.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeftBlock<'a, T> {
    /// Row tiles one after another, each `[step][rows][elements of a step]` over the whole input dimension.
    pub(crate) packed: &'a [T],
    /// Elements of a row over the whole input dimension.
    pub(crate) per_row: usize,
    /// Rows of every tile but the last.
    pub(crate) tile_rows: usize,
    /// Elements of a row before the block.
    pub(crate) start: usize,
    /// Elements of a row up to the end of the block.
    pub(crate) end: usize,
}

impl<'a, T> LeftBlock<'a, T> {
    /// The block of each row tile.
    #[inline(always)]
    pub(crate) fn tiles(self) -> impl Iterator<Item = &'a [T]> {
        self.packed.chunks(self.tile_rows * self.per_row).map(move |tile| {
            let rows = tile.len() / self.per_row;
            &tile[self.start * rows..self.end * rows]
        })
    }
}

/// A panel of the right operand, for one block of the input dimension.
#[derive(Debug)]
pub(crate) enum RightBlock<'a> {
    /// As the micro-kernel multiplies it.
    Expanded(&'a [u32]),
    /// Still packed.
    Packed {
        /// Words of the panel.
        words: &'a [u32],
        /// Where they are expanded to.
        expanded: &'a mut [u32],
    },
}

impl<'a> RightBlock<'a> {
    /// The block as the micro-kernel multiplies it, expanded if need be.
    #[inline(always)]
    pub(crate) fn expand(self, expand: impl FnOnce(&[u32], &mut [u32])) -> &'a [u32] {
        match self {
            RightBlock::Expanded(right) => right,
            RightBlock::Packed { words, expanded } => {
                expand(words, expanded);
                expanded
            }
        }
    }
}
