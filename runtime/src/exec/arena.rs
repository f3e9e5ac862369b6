//! The buffers of a session's forward pass on the CPU, each reused by every layer and aligned to cache lines, which the stores
//! of a product would otherwise straddle:
//!
//! ```text
//! x       [tokens, dim]                   residual stream
//! y       [tokens, dim]                   embedded patches; attention output; the stream's next value
//! wide    [tokens, max(3 dim, hidden)]    query, key, value; hidden layer of the MLP; pooled tokens
//! half    [tokens, max(4 dim, hidden)]    query, key, value and attention output, or hidden layer, in half precision, where
//!                                         they are rounded further
//! packed  [tokens, max(dim, hidden)]      left operand of the next product
//! ```

use fresnel_kernels::{Activations, AlignedVec};
use half::f16;

use super::patches::Sizes;
use crate::error::{Error, ErrorKind};

/// Largest arena that a session allocates.
const MAX_BYTES: usize = 8 << 30;

/// The buffers, sized for one pass.
#[derive(Default)]
pub(super) struct Arena {
    pub(super) x: AlignedVec<f32>,
    pub(super) y: AlignedVec<f32>,
    pub(super) wide: AlignedVec<f32>,
    pub(super) half: AlignedVec<f16>,
    pub(super) packed: Activations,
}

impl Arena {
    /// Whether a session may have buffers for `images` images.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`] when it may not.
    pub(super) fn check(sizes: &Sizes, images: usize) -> Result<(), Error> {
        match lengths(sizes, images).and_then(bytes) {
            Some(bytes) if bytes <= MAX_BYTES => Ok(()),
            _ => Err(Error::new(
                ErrorKind::Limit,
                format!(
                    "one image of {} tokens needs more than {MAX_BYTES} bytes of activations",
                    sizes.tokens()
                ),
            )),
        }
    }

    /// Makes every buffer large enough for `images` images.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`] when the memory cannot be had.
    pub(super) fn reserve(&mut self, sizes: &Sizes, images: usize) -> Result<(), Error> {
        let lengths = lengths(sizes, images).unwrap_or([usize::MAX; 4]);
        let buffers = [&mut self.x, &mut self.y, &mut self.wide];
        for (buffer, length) in buffers.into_iter().zip(lengths) {
            grow(buffer, length)?;
        }
        grow(&mut self.half, lengths[3])
    }
}

/// Makes a buffer at least `length` numbers long.
fn grow<T: bytemuck::Pod>(buffer: &mut AlignedVec<T>, length: usize) -> Result<(), Error> {
    buffer.grow(length).map_err(|error| {
        let text = format!("cannot allocate {length} numbers for activations");
        Error::new(ErrorKind::Limit, text).with_source(error)
    })
}

/// Lengths of `x`, `y`, `wide` and `half`, for `images` images; `None` on overflow.
fn lengths(sizes: &Sizes, images: usize) -> Option<[usize; 4]> {
    let rows = sizes.tokens().checked_mul(images)?;
    let stream = rows.checked_mul(sizes.dim)?;
    let hidden = rows.checked_mul(sizes.hidden)?;
    let wide = stream.checked_mul(3)?.max(hidden);
    // The second classifier of a distilled model writes its logits to `y`.
    let logits = images.checked_mul(sizes.outputs)?;
    let half = stream.checked_mul(4)?.max(hidden);
    Some([stream, stream.max(logits), wide, half])
}

/// Bytes of buffers of these lengths; `None` on overflow.
fn bytes([x, y, wide, half]: [usize; 4]) -> Option<usize> {
    let half = half.checked_mul(size_of::<f16>())?;
    let single = x.checked_add(y)?.checked_add(wide)?;
    single.checked_mul(size_of::<f32>())?.checked_add(half)
}
