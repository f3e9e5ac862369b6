//! What the instruction sets with vectors of 256 bits do alike: all but integer products.

/// The methods of [`Simd`](crate::arch::Simd) for them.
///
/// SAFETY of every call in it: the tokens of both exist only where avx2, fma and f16c were found.
macro_rules! operations_of_256_bits {
    () => {
        const FUSED: bool = true;
        const LANES: usize = super::avx2::LANES;
        const F32_ROWS: usize = 6;
        const INT8_ROWS: usize = 6;

        #[inline(always)]
        fn fetch(self, words: &[u32]) {
            super::fetch::fetch(words);
        }

        #[inline(always)]
        fn gelu_coarse(self, values: &mut [f32]) {
            // SAFETY: as said above.
            unsafe { super::gelu::gelu_coarse_256::<Self>(values) }
        }

        #[inline(always)]
        fn narrow(self, values: &[f32], out: &mut [half::f16]) {
            // SAFETY: as said above.
            unsafe { super::avx2::narrow(values, out) }
        }

        #[inline(always)]
        fn widen(self, values: &[half::f16], out: &mut [f32]) {
            // SAFETY: as said above.
            unsafe { super::avx2::widen(values, out) }
        }

        #[inline(always)]
        fn sum_lanes(
            self,
            chunks: &[[f32; crate::ops::SUM_LANES]],
        ) -> [f32; crate::ops::SUM_LANES] {
            // SAFETY: as said above.
            unsafe { super::rows::sum_lanes_256(chunks) }
        }

        #[inline(always)]
        fn square_lanes(
            self,
            chunks: &[[f32; crate::ops::SUM_LANES]],
            middle: f32,
        ) -> [f32; crate::ops::SUM_LANES] {
            // SAFETY: as said above.
            unsafe { super::rows::square_lanes_256(chunks, middle) }
        }

        #[inline(always)]
        fn add_lanes(self, lanes: &[f32; crate::ops::SUM_LANES]) -> f32 {
            // SAFETY: as said above.
            unsafe { super::rows::add_lanes_256(lanes) }
        }

        #[inline(always)]
        fn extremes(self, row: &[f32]) -> crate::ops::Extremes {
            // SAFETY: as said above.
            unsafe { super::rows::extremes_256(row) }
        }

        #[inline(always)]
        fn round_codes(self, values: &[f32], inverse: f32, zero: i32, codes: &mut [i8]) -> i32 {
            // SAFETY: as said above.
            unsafe { super::rows::round_codes_256(values, inverse, zero, codes) }
        }

        #[inline(always)]
        fn round_products(self, values: &[half::f16], factors: &[f32], codes: &mut [i8]) {
            // SAFETY: as said above.
            unsafe { super::rounding::round_products_256(values, factors, codes) }
        }

        #[inline(always)]
        fn round_to_grid(self, values: &[half::f16], factors: &[f32], codes: &mut [i8]) -> f32 {
            // SAFETY: as said above.
            unsafe { super::rounding::round_to_grid_256(values, factors, codes) }
        }

        #[inline(always)]
        fn exponentials(
            self,
            row: &crate::ops::exponentials::ScoreRow<'_>,
            codes: &mut [i8],
        ) -> i32 {
            // SAFETY: as said above.
            unsafe { super::exponentials::exponentials_256::<Self>(row, codes) }
        }

        fn expand_f32(self, width: crate::Width, words: &[u32], out: &mut [f32]) {
            // SAFETY: as said above.
            unsafe { super::avx2::expand_f32(width, words, out) }
        }

        fn f32_tile(self, rows: usize, left: &[f32], right: &[f32], sums: &mut [f32], start: bool) {
            // SAFETY: as said above.
            unsafe { super::avx2::f32_rows(rows, left, right, sums, start) }
        }
    };
}
pub(super) use operations_of_256_bits;
