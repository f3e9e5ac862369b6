//! The widths of weight codes.

/// Width of a weight code.
///
/// A weight is `scale[n] * k + offset[n]`, where `k` is an unsigned code in `0..levels()` and `n` the output channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Width {
    /// Three levels, five codes per byte: 1.6 bits on disk, log2(3) = 1.58 bits of information.
    Ternary,
    /// Four levels, four codes per byte.
    Two,
    /// Eight levels, eight codes in three bytes.
    Three,
    /// Sixteen levels, two codes per byte.
    Four,
    /// 256 levels, one code per byte.
    Eight,
}

impl Width {
    /// Every width, narrowest first.
    pub const ALL: [Width; 5] =
        [Width::Ternary, Width::Two, Width::Three, Width::Four, Width::Eight];

    /// Number of distinct codes: 3, 4, 8, 16 or 256.
    pub const fn levels(self) -> u32 {
        match self {
            Width::Ternary => 3,
            Width::Two => 4,
            Width::Three => 8,
            Width::Four => 16,
            Width::Eight => 256,
        }
    }

    /// Bytes of one row of `cols` codes in the canonical layout of [`pack`](crate::pack); saturates at `usize::MAX`.
    pub const fn row_bytes(self, cols: usize) -> usize {
        match self {
            Width::Ternary => cols.div_ceil(5),
            Width::Two => cols.div_ceil(4),
            // ceil(3 * cols / 8) without an overflowing product.
            Width::Three => (cols / 8).saturating_mul(3).saturating_add((cols % 8 * 3).div_ceil(8)),
            Width::Four => cols.div_ceil(2),
            Width::Eight => cols,
        }
    }

    /// The width in bits as users write it: `"1.58"`, `"2"`, `"3"`, `"4"` or `"8"`.
    pub const fn label(self) -> &'static str {
        match self {
            Width::Ternary => "1.58",
            Width::Two => "2",
            Width::Three => "3",
            Width::Four => "4",
            Width::Eight => "8",
        }
    }

    /// The code about which codes are centred inside the matmuls: `levels() / 2`.
    ///
    /// A power of two, so that `scale * middle` is exact and the offset of a grid that is symmetric about zero vanishes
    /// exactly.
    pub const fn middle(self) -> u32 {
        self.levels() / 2
    }

    /// Input features with which no 32-bit sum of products of an integer matmul can overflow, at most.
    pub(crate) const fn largest_integer_depth(self) -> usize {
        // |q - zero| is at most 255, a code at most levels - 1.
        i32::MAX as usize / (255 * (self.levels() as usize - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::Width;

    #[test]
    fn row_bytes_cover_the_codes_and_nothing_more() {
        for cols in 0..200_usize {
            assert_eq!(Width::Ternary.row_bytes(cols), cols.div_ceil(5));
            assert_eq!(Width::Two.row_bytes(cols), (2 * cols).div_ceil(8));
            assert_eq!(Width::Three.row_bytes(cols), (3 * cols).div_ceil(8));
            assert_eq!(Width::Four.row_bytes(cols), (4 * cols).div_ceil(8));
            assert_eq!(Width::Eight.row_bytes(cols), cols);
        }
        for width in Width::ALL {
            assert!(width.row_bytes(usize::MAX) >= usize::MAX / 5);
            assert!(width.middle().is_power_of_two());
        }
    }
}
