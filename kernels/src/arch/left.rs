//! The packed left operand of a product, as the micro-kernels see it.

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
