//! Reproducible numbers for tests.

use crate::Layout;

/// A sequence of pseudo-random numbers (SplitMix64).
pub(crate) struct Samples(u64);

impl Samples {
    pub(crate) fn new(seed: u64) -> Samples {
        Samples(seed)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    /// A number in `0..bound`.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        (self.bits() >> 33) as u32 % bound
    }

    /// A number in `-limit..limit`.
    pub(crate) fn float(&mut self, limit: f32) -> f32 {
        ((self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0) * limit
    }

    pub(crate) fn floats(&mut self, count: usize, limit: f32) -> Vec<f32> {
        (0..count).map(|_| self.float(limit)).collect()
    }

    pub(crate) fn codes(&mut self, count: usize, levels: u32) -> Vec<u8> {
        (0..count).map(|_| self.below(levels) as u8).collect()
    }
}

/// A row-major matrix in blocks.
pub(crate) fn in_blocks<T: Copy>(values: &[T], columns: usize) -> Vec<T> {
    let mut blocks = values.to_vec();
    for (index, row) in values.chunks(columns).enumerate() {
        Layout::Blocks.scatter(&mut blocks, index, row);
    }
    blocks
}
