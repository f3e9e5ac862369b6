//! Parts of a slice and rectangles of a matrix, written by several threads at once.

use std::marker::PhantomData;

use crate::{Layout, Pool};

/// How a matrix is cut into tiles.
///
/// Rows are first cut into groups of `group_rows` (the images of a batch, say), each group into pieces of `row_step`;
/// columns into pieces of `column_step`. The last pieces of a group and of a row may be smaller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// Columns of the matrix.
    pub(crate) columns: usize,
    /// Rows of a group, a divisor of the number of rows.
    pub(crate) group_rows: usize,
    /// Rows of a tile.
    pub(crate) row_step: usize,
    /// Columns of a tile, in blocks a divisor of theirs.
    pub(crate) column_step: usize,
    /// How the matrix lies in memory.
    pub(crate) layout: Layout,
}

/// One tile, exclusively borrowed.
pub(crate) struct Tile<'a, T> {
    /// First row of the tile in the matrix.
    pub(crate) first_row: usize,
    /// Rows of the tile.
    pub(crate) rows: usize,
    /// First column of the tile in the matrix.
    pub(crate) first_column: usize,
    /// Columns of the tile.
    pub(crate) columns: usize,
    /// Where the element at the top left lies in the matrix.
    start: usize,
    /// That element.
    origin: *mut T,
    /// Elements from one row to the next.
    stride: usize,
    borrow: PhantomData<&'a mut T>,
}

impl<T> Tile<'_, T> {
    /// Where row `row` of the tile lies in a matrix of the same shape.
    #[inline(always)]
    pub(crate) fn row_range(&self, row: usize) -> std::ops::Range<usize> {
        let start = self.start + row * self.stride;
        start..start + self.columns
    }

    /// Row `row` of the tile, `columns` elements.
    #[inline(always)]
    pub(crate) fn row(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.rows);
        // SAFETY: `for_each_tile` made this tile from a rectangle of `rows` x `columns` inside the matrix, which no other
        // tile overlaps; `row` is inside it, and `&mut self` borrows it.
        unsafe { std::slice::from_raw_parts_mut(self.origin.add(row * self.stride), self.columns) }
    }
}

/// Calls `work` once for each piece of `size` elements of `data` (the last may be shorter), with its index.
pub(crate) fn for_each_chunk<T: Send>(
    pool: &Pool,
    data: &mut [T],
    size: usize,
    work: impl Fn(usize, &mut [T]) + Sync,
) {
    for_each_chunk_pair(pool, data, size, &mut [(); 0], 0, |index, chunk, _| work(index, chunk));
}

/// Calls `work` once for each piece of `first`, of `first_size` elements, with the piece of `second` that belongs to it, of
/// `second_size`, and their index; the last pieces may be shorter.
pub(crate) fn for_each_chunk_pair<A: Send, B: Send>(
    pool: &Pool,
    first: &mut [A],
    first_size: usize,
    second: &mut [B],
    second_size: usize,
    work: impl Fn(usize, &mut [A], &mut [B]) + Sync,
) {
    let (first_len, second_len) = (first.len(), second.len());
    let (first, second) = (Shared(first.as_mut_ptr()), Shared(second.as_mut_ptr()));
    pool.for_each(first_len.div_ceil(first_size), |index| {
        // SAFETY: `for_each` calls this once per index, the pieces of different indices do not overlap, and both slices are
        // borrowed until it returns.
        let first = unsafe { first.piece(index, first_size, first_len) };
        // SAFETY: as above.
        let second = unsafe { second.piece(index, second_size, second_len) };
        work(index, first, second);
    });
}

/// A pointer which threads may share.
struct Shared<T>(*mut T);

// SAFETY: the pointer is only used to make disjoint tiles, each of which moves to one thread; `T: Send` allows that.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    fn pointer(&self) -> *mut T {
        self.0
    }

    /// Piece `index` of those of `size` elements of a slice of `len` that begins here; empty beyond its end.
    ///
    /// # Safety
    /// The slice is borrowed exclusively for as long as the piece is, and nobody else has this piece.
    unsafe fn piece<'a>(&self, index: usize, size: usize, len: usize) -> &'a mut [T] {
        let start = index.saturating_mul(size).min(len);
        let size = size.min(len - start);
        // SAFETY: start + size is at most `len`, and the caller vouches for the rest.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), size) }
    }
}

/// Calls `work` once for each tile of `matrix`, on the threads of the pool. Tiles of the same rows follow one another.
///
/// # Panics
/// When the matrix is not made of whole groups of rows.
pub(crate) fn for_each_tile<T: Send>(
    pool: &Pool,
    matrix: &mut [T],
    cut: Cut,
    work: impl Fn(Tile<'_, T>) + Sync,
) {
    if matrix.is_empty() {
        return;
    }
    let Cut { columns, group_rows, row_step, column_step, layout } = cut;
    let width = layout.width(columns);
    assert!(layout == Layout::Rows || width.is_multiple_of(column_step), "tiles across blocks");
    assert_eq!(
        matrix.len() % (columns * group_rows),
        0,
        "a matrix of {} elements is not made of groups of {group_rows} rows of {columns}",
        matrix.len()
    );
    let groups = matrix.len() / (columns * group_rows);
    let row_pieces = group_rows.div_ceil(row_step);
    let column_pieces = columns.div_ceil(column_step);
    let rows = groups * group_rows;
    let shared = Shared(matrix.as_mut_ptr());
    pool.for_each(groups * row_pieces * column_pieces, |index| {
        let (rows_index, column_index) = (index / column_pieces, index % column_pieces);
        let (group, piece) = (rows_index / row_pieces, rows_index % row_pieces);
        let first_row = group * group_rows + piece * row_step;
        let first_column = column_index * column_step;
        let block = first_column / width;
        let start = (block * rows + first_row) * width + first_column % width;
        // SAFETY: `index` is below groups * row_pieces * column_pieces, so the element is inside the matrix.
        let origin = unsafe { shared.pointer().add(start) };
        // `for_each` calls this once per index, and different indices give disjoint rectangles: pieces of a group do not
        // overlap and end with the group, pieces of a row end with the row, and inside of its block where there are blocks.
        work(Tile {
            first_row,
            rows: row_step.min(group_rows - piece * row_step),
            first_column,
            columns: column_step.min(columns - first_column),
            start,
            origin,
            stride: width,
            borrow: PhantomData,
        });
    });
}
