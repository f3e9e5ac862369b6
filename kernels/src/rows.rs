//! Where the rows of a product come from.
//!
//! A product reads its left operand once, to pack it, so whatever a row is computed from need not exist as a matrix:
//! normalised tokens and the pixels of patches are made one row at a time, in a buffer that stays in the first-level cache.

use half::f16;

use crate::Layout;
use crate::arch::Simd;
use crate::ops::{normalize_in_place, normalize_row};

/// The rows of the left operand of a product.
#[derive(Clone, Copy, Debug)]
pub enum Rows<'a> {
    /// Rows as they lie.
    Plain {
        /// `[rows, columns]`.
        values: &'a [f32],
        /// Numbers per row.
        columns: usize,
        /// How the numbers lie in memory.
        layout: Layout,
    },
    /// Rows of half precision.
    Half {
        /// `[rows, columns]`.
        values: &'a [f16],
        /// Numbers per row.
        columns: usize,
        /// How the numbers lie in memory.
        layout: Layout,
    },
    /// Layer normalisation of each row, see [`ops::layer_norm`](crate::ops::layer_norm).
    Normalized {
        /// `[rows, gamma.len()]`.
        x: &'a [f32],
        /// Scale of each column.
        gamma: &'a [f32],
        /// Shift of each column.
        beta: &'a [f32],
        /// Added to the variance.
        eps: f32,
        /// How the numbers lie in memory.
        layout: Layout,
    },
    /// Patches of images, image by image and row by row of patches.
    Patches(Patches<'a>),
}

/// Images cut into patches: a row holds the pixels of one patch, `[channels, patch height, patch width]`, the order in which
/// the weight of a convolution lies. Pixels right of and below the last whole patch are unused.
#[derive(Clone, Copy, Debug)]
pub struct Patches<'a> {
    /// `[images, channels, height, width]`.
    pub images: &'a [f32],
    /// Channels of an image.
    pub channels: usize,
    /// Height and width of an image.
    pub image_size: [usize; 2],
    /// Height and width of a patch.
    pub patch_size: [usize; 2],
}

impl Patches<'_> {
    /// Numbers per image.
    fn image(&self) -> usize {
        self.channels * self.image_size[0] * self.image_size[1]
    }

    /// Patches per image.
    fn per_image(&self) -> usize {
        (self.image_size[0] / self.patch_size[0]) * (self.image_size[1] / self.patch_size[1])
    }

    /// Copies one patch.
    #[inline(always)]
    fn gather(&self, index: usize, row: &mut [f32]) {
        let ([height, width], [patch_height, patch_width]) = (self.image_size, self.patch_size);
        let image = &self.images[index / self.per_image() * self.image()..][..self.image()];
        let columns = width / patch_width;
        let index = index % self.per_image();
        let (top, left) = (index / columns * patch_height, index % columns * patch_width);
        for (line, out) in row.chunks_exact_mut(patch_width).enumerate() {
            let (channel, y) = (line / patch_height, top + line % patch_height);
            let start = (channel * height + y) * width + left;
            out.copy_from_slice(&image[start..start + patch_width]);
        }
    }
}

impl Rows<'_> {
    /// Numbers per row, `K`.
    pub fn columns(&self) -> usize {
        match self {
            Rows::Plain { columns, .. } | Rows::Half { columns, .. } => *columns,
            Rows::Normalized { gamma, .. } => gamma.len(),
            Rows::Patches(patches) => {
                patches.channels * patches.patch_size[0] * patches.patch_size[1]
            }
        }
    }

    /// Number of rows, `M`.
    ///
    /// # Panics
    /// When the numbers are not made of whole rows, or `gamma` and `beta` differ in length.
    pub fn count(&self) -> usize {
        let (length, row, count) = match self {
            Rows::Plain { values, columns, .. } => (values.len(), *columns, 1),
            Rows::Half { values, columns, .. } => (values.len(), *columns, 1),
            Rows::Normalized { x, gamma, beta, .. } => {
                assert_eq!(gamma.len(), beta.len(), "gamma and beta differ in length");
                (x.len(), gamma.len(), 1)
            }
            Rows::Patches(patches) => (patches.images.len(), patches.image(), patches.per_image()),
        };
        assert!(
            length.checked_rem(row).unwrap_or(length) == 0,
            "{length} numbers are not rows of {row}"
        );
        length.checked_div(row).unwrap_or(0) * count
    }

    /// One row, made in `buffer` (`columns` numbers) unless it lies somewhere.
    #[inline(always)]
    pub(crate) fn row<'b, S: Simd>(
        &'b self,
        simd: S,
        index: usize,
        buffer: &'b mut [f32],
    ) -> &'b [f32] {
        match self {
            Rows::Plain { values, columns, layout: Layout::Rows } => {
                &values[index * columns..][..*columns]
            }
            Rows::Plain { values, layout: Layout::Blocks, .. } => {
                Layout::Blocks.gather(values, index, buffer);
                buffer
            }
            Rows::Half { values, columns, layout } => {
                let width = layout.width(*columns);
                let blocks = values.chunks_exact(values.len() / columns * width);
                for (part, block) in buffer.chunks_exact_mut(width).zip(blocks) {
                    simd.widen(&block[index * width..][..width], part);
                }
                buffer
            }
            Rows::Normalized { x, gamma, beta, eps, layout: Layout::Rows } => {
                let columns = gamma.len();
                normalize_row(simd, &x[index * columns..][..columns], gamma, beta, *eps, buffer);
                buffer
            }
            Rows::Normalized { x, gamma, beta, eps, layout: Layout::Blocks } => {
                Layout::Blocks.gather(x, index, buffer);
                normalize_in_place(simd, buffer, gamma, beta, *eps);
                buffer
            }
            Rows::Patches(patches) => {
                patches.gather(index, buffer);
                buffer
            }
        }
    }
}
