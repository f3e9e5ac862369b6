//! The loops around the micro-kernels, once for every arithmetic.

use std::ops::Range;

use bytemuck::Pod;

use super::epilogue::for_lanes;
use crate::arch::tiles::{Cut, Tile, for_each_tile};
use crate::arch::{Between, LeftBlock, Simd, Vectorized};
use crate::memory::{Buffer, Slot};
use crate::{Layout, Pool};

/// Most rows of a task: its left operand (for one block of the input dimension) and its sums should stay in the second-level
/// cache.
const TASK_ROWS: usize = 400;

/// A part of the right operand.
pub(super) struct Part {
    /// Which panel of output channels.
    pub(super) panel: usize,
    /// A block of input features.
    pub(super) block: Range<usize>,
}

impl Part {
    /// Whether sums start with this part, and are not continued.
    pub(super) fn starts(&self) -> bool {
        self.block.start == 0
    }
}

/// The operands of a product.
pub(super) trait Product: Sync {
    /// Element of the packed left operand.
    type Left: Pod + Send + Sync;
    /// Element of the sums.
    type Sum: Pod;
    /// Input features of a block, a multiple of `panel::DEPTH_STEP` and of what lies together in the left operand.
    const BLOCK: usize;

    /// Most rows of a register tile.
    fn tile_rows<S: Simd>() -> usize;

    /// What the number of rows is rounded up to in the left operand and the sums.
    fn row_step<S: Simd>() -> usize;

    /// Input features.
    fn depth(&self) -> usize;

    /// The left operand, all row tiles one after another.
    fn left(&self) -> &[Self::Left];

    /// Left elements of a row for that many input features, counted from a block boundary.
    fn left_len<S: Simd>(&self, depth: usize) -> usize;

    /// What will be expanded next, after the part: words in memory.
    fn following<S: Simd>(&self, part: &Part) -> &[u32];

    /// Calls the micro-kernel for every row tile, with other work between the products if it leaves room for that. The part is
    /// expanded into `right` unless it is stored as it is multiplied.
    fn multiply<S: Simd>(
        &self,
        simd: S,
        left: LeftBlock<'_, Self::Left>,
        part: &Part,
        right: &mut Buffer,
        sums: &mut [Self::Sum],
        between: &mut impl Between<Self::Sum>,
    );
}

/// What becomes of the sums of a panel.
pub(super) trait Finish<Sum>: Sync {
    /// Element of the output.
    type Out: Send;
    /// What the rows of a panel have in common.
    type Panel<const LANES: usize>;

    /// How the output lies in memory.
    fn layout(&self) -> Layout;

    /// That of the panel of a tile.
    fn panel<const LANES: usize>(&self, tile: &Tile<'_, Self::Out>) -> Self::Panel<LANES>;

    /// Writes rows of a tile, from row `first` on, from their sums.
    fn rows<S: Simd, const LANES: usize>(
        &self,
        simd: S,
        panel: &Self::Panel<LANES>,
        first: usize,
        sums: &[[Sum; LANES]],
        tile: &mut Tile<'_, Self::Out>,
    );
}

/// Multiplies all `m` rows with all `n` output channels.
pub(super) fn drive<S: Simd, P: Product, F: Finish<P::Sum>>(
    simd: S,
    pool: &Pool,
    product: &P,
    finish: &F,
    (m, n): (usize, usize),
    out: &mut [F::Out],
) {
    if m == 0 {
        return;
    }
    let cut = Cut {
        columns: n,
        group_rows: m,
        row_step: task_rows(m, n.div_ceil(S::LANES), P::tile_rows::<S>(), pool.threads()),
        column_step: S::LANES,
        layout: finish.layout(),
    };
    for_each_tile(pool, out, cut, |tile| simd.vectorize(Task { product, finish, tile }));
}

/// Rows of a task: few enough for the cache and for every thread to have work, otherwise as many as possible.
fn task_rows(m: usize, panels: usize, tile_rows: usize, threads: usize) -> usize {
    let for_threads = if threads == 1 { 1 } else { (2 * threads).div_ceil(panels) };
    let tasks = m.div_ceil(TASK_ROWS).max(for_threads);
    m.div_ceil(tasks).next_multiple_of(tile_rows)
}

/// One panel of output channels times a block of rows.
struct Task<'a, P: Product, F: Finish<P::Sum>> {
    product: &'a P,
    finish: &'a F,
    tile: Tile<'a, F::Out>,
}

impl<P: Product, F: Finish<P::Sum>> Vectorized for Task<'_, P, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for_lanes!(S, LANES => self.run_lanes::<S, LANES>(simd));
    }
}

impl<P: Product, F: Finish<P::Sum>> Task<'_, P, F> {
    #[inline(always)]
    fn run_lanes<S: Simd, const LANES: usize>(self, simd: S) {
        let Task { product, finish, tile } = self;
        let depth = product.depth();
        let per_row = product.left_len::<S>(depth);
        let rows = tile.rows.next_multiple_of(P::row_step::<S>());
        let packed = &product.left()[tile.first_row * per_row..][..rows * per_row];
        let panel = tile.first_column / LANES;
        let mut right = Buffer::take(Slot::Right);
        let mut sums = Buffer::take(Slot::Sums);
        let sums = sums.get::<P::Sum>(rows * LANES);
        let mut finishing = Finishing::<F, P::Sum, LANES> {
            finish,
            panel: finish.panel(&tile),
            tile,
            next: 0,
            known: 0,
            per_step: 0,
            fetching: Fetching::default(),
        };
        simd.begin_tiles();
        for start in (0..depth).step_by(P::BLOCK) {
            let end = depth.min(start + P::BLOCK);
            let part = Part { panel, block: start..end };
            let following = product.following::<S>(&part);
            let mut fetching = Fetching::new(following, rows * (end - start));
            let left = LeftBlock {
                packed,
                per_row,
                tile_rows: P::tile_rows::<S>(),
                start: product.left_len::<S>(start),
                end: product.left_len::<S>(end),
            };
            if end < depth {
                product.multiply(simd, left, &part, &mut right, sums, &mut fetching);
            } else {
                finishing.fetching = fetching;
                product.multiply(simd, left, &part, &mut right, sums, &mut finishing);
            }
        }
        simd.end_tiles();
        finishing.per_step = finishing.tile.rows;
        finishing.step(simd, sums, 1);
    }
}

/// The epilogue of a panel, row by row as its sums become known.
struct Finishing<'a, F: Finish<Sum>, Sum, const LANES: usize> {
    finish: &'a F,
    panel: F::Panel<LANES>,
    tile: Tile<'a, F::Out>,
    /// The first row that is not finished.
    next: usize,
    /// Rows whose sums are known.
    known: usize,
    /// Rows of which so many are finished at a time.
    per_step: usize,
    fetching: Fetching<'a>,
}

impl<Sum, F: Finish<Sum>, const LANES: usize> Between<Sum> for Finishing<'_, F, Sum, LANES> {
    #[inline(always)]
    fn step<S: Simd>(&mut self, simd: S, finished: &[Sum], left: usize) {
        Between::<Sum>::step(&mut self.fetching, simd, finished, left);
        let (sums, _) = finished.as_chunks::<LANES>();
        let known = sums.len().min(self.tile.rows);
        if known > self.known {
            self.known = known;
            self.per_step = (known - self.next).div_ceil(left);
        }
        let end = known.min(self.next + self.per_step);
        let sums = &sums[self.next..end];
        if !sums.is_empty() {
            self.finish.rows(simd, &self.panel, self.next, sums, &mut self.tile);
            self.next = end;
        }
    }
}

/// The words that will be expanded next, brought nearer little by little: all at once they would take the place of other
/// loads, and later they would be waited for.
#[derive(Default)]
struct Fetching<'a> {
    words: &'a [u32],
    per_step: usize,
}

impl Fetching<'_> {
    /// `products` is rows times input features of the block in which they are fetched.
    #[inline(always)]
    fn new(words: &[u32], products: usize) -> Fetching<'_> {
        /// Rows times input features between two steps.
        const STEP: usize = 32 * 64;
        /// Words of a cache line.
        const LINE: usize = 16;
        let steps = (products / STEP).max(1);
        Fetching { words, per_step: words.len().div_ceil(steps).next_multiple_of(LINE) }
    }
}

impl<Sum> Between<Sum> for Fetching<'_> {
    #[inline(always)]
    fn step<S: Simd>(&mut self, simd: S, _: &[Sum], _: usize) {
        let (now, later) = self.words.split_at(self.per_step.min(self.words.len()));
        simd.fetch(now);
        self.words = later;
    }
}
