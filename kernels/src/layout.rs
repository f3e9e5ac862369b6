//! How the numbers of a matrix lie in memory.

/// How a matrix `[rows, columns]` of activations lies in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// Row by row.
    #[default]
    Rows,
    /// In blocks of [`Layout::BLOCK`] columns, one after another and each row by row: `[columns / BLOCK][rows][BLOCK]`.
    ///
    /// For what is computed a few columns at a time, as products are. Their rows are then neighbours, where in a row-major
    /// matrix each of them is on another page of memory, and a core knows few pages at once that it writes to. And what one
    /// thread writes lies together: fetching ahead on behalf of one thread takes no lines away from another.
    Blocks,
}

impl Layout {
    /// Columns of a block.
    pub const BLOCK: usize = 64;

    /// [`Layout::Blocks`] where that many columns can be cut into blocks.
    pub fn of(columns: usize) -> Layout {
        if columns.is_multiple_of(Layout::BLOCK) { Layout::Blocks } else { Layout::Rows }
    }

    /// How many columns of a row lie together.
    ///
    /// # Panics
    /// When the columns cannot be cut into blocks.
    pub(crate) fn width(self, columns: usize) -> usize {
        match self {
            Layout::Rows => columns,
            Layout::Blocks => {
                assert_eq!(columns % Layout::BLOCK, 0, "{columns} columns are not made of blocks");
                Layout::BLOCK
            }
        }
    }

    /// Copies a row out of a matrix of rows like `row`.
    ///
    /// # Panics
    /// When the matrix does not have the row, or the columns cannot be cut into blocks.
    #[inline]
    pub fn gather<T: Copy>(self, values: &[T], index: usize, row: &mut [T]) {
        let columns = row.len();
        match self {
            Layout::Rows => row.copy_from_slice(&values[index * columns..][..columns]),
            Layout::Blocks if row.is_empty() => {}
            Layout::Blocks => {
                let height = values.len() / columns;
                let (blocks, _) = values.as_chunks::<{ Layout::BLOCK }>();
                let (parts, rest) = row.as_chunks_mut::<{ Layout::BLOCK }>();
                assert!(rest.is_empty(), "{columns} columns are not made of blocks");
                for (part, block) in parts.iter_mut().zip(blocks.chunks_exact(height)) {
                    *part = block[index];
                }
            }
        }
    }

    /// Writes a row of a matrix of rows like `row`.
    ///
    /// # Panics
    /// When the matrix does not have the row, or the columns cannot be cut into blocks.
    #[inline]
    pub fn scatter<T: Copy>(self, values: &mut [T], index: usize, row: &[T]) {
        let columns = row.len();
        match self {
            Layout::Rows => values[index * columns..][..columns].copy_from_slice(row),
            Layout::Blocks if row.is_empty() => {}
            Layout::Blocks => {
                let height = values.len() / columns;
                let (blocks, _) = values.as_chunks_mut::<{ Layout::BLOCK }>();
                let (parts, rest) = row.as_chunks::<{ Layout::BLOCK }>();
                assert!(rest.is_empty(), "{columns} columns are not made of blocks");
                for (part, block) in parts.iter().zip(blocks.chunks_exact_mut(height)) {
                    block[index] = *part;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Layout;

    #[test]
    fn rows_are_found_where_they_were_put() {
        let (rows, columns) = (3, 2 * Layout::BLOCK);
        let numbers: Vec<usize> = (0..rows * columns).collect();
        for layout in [Layout::Rows, Layout::Blocks] {
            let mut values = vec![0; rows * columns];
            for (index, row) in numbers.chunks(columns).enumerate() {
                layout.scatter(&mut values, index, row);
            }
            let mut row = vec![0; columns];
            for (index, expected) in numbers.chunks(columns).enumerate() {
                layout.gather(&values, index, &mut row);
                assert_eq!(row, expected);
            }
            // The second block of the first row follows the first block of the last, or of itself.
            let second = if layout == Layout::Rows { 1 } else { rows };
            assert_eq!(values[second * Layout::BLOCK], Layout::BLOCK);
        }
        assert_eq!(
            [64, 640, 65, 32].map(Layout::of).map(|layout| layout == Layout::Blocks),
            [true, true, false, false]
        );
        Layout::Blocks.scatter(&mut [0; 0], 0, &[]);
        Layout::Blocks.gather(&[0; 0], 0, &mut []);
    }

    #[test]
    #[should_panic(expected = "70 columns are not made of blocks")]
    fn columns_that_make_no_blocks_are_refused() {
        Layout::Blocks.gather(&[0; 140], 0, &mut [0; 70]);
    }
}
