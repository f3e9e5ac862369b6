//! Repeated measurements and their input: the median, and the least, which other load disturbs least.

use std::time::Instant;

/// Measurements of one quantity.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples(Vec<f64>);

impl Samples {
    pub(super) fn with_capacity(count: usize) -> Self {
        Self(Vec::with_capacity(count))
    }

    pub(super) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn sum(&self) -> f64 {
        self.0.iter().sum()
    }

    /// The mean; not a number without any.
    pub(super) fn mean(&self) -> f64 {
        self.sum() / self.0.len() as f64
    }

    /// The middle one, or the mean of the two middle ones; not a number without any.
    pub(super) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// What `share` of the measurements are at most, between two of them by proportion; not a number without any.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        let mut values = self.0.clone();
        values.sort_by(f64::total_cmp);
        let Some(last) = values.len().checked_sub(1) else { return f64::NAN };
        let place = share * last as f64;
        let (low, high) = (values[place.floor() as usize], values[place.ceil() as usize]);
        low + (high - low) * place.fract()
    }

    /// The median of the ratios of `baseline` to these measurements, each to the one of the same round.
    pub(super) fn speedup_over(&self, baseline: &Self) -> f64 {
        let pairs = self.0.iter().zip(&baseline.0);
        Self(pairs.map(|(own, baseline)| baseline / own).collect()).median()
    }

    /// The least; not a number without any.
    pub(super) fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::min)
    }

    /// The greatest; not a number without any.
    pub(super) fn greatest(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::max)
    }
}

/// The time that `work` takes, in milliseconds, and what it returns.
pub(super) fn milliseconds<R>(work: impl FnOnce() -> R) -> (f64, R) {
    let start = Instant::now();
    let result = work();
    (start.elapsed().as_secs_f64() * 1e3, result)
}

/// Numbers in -1..1, the same in every run of the program.
pub(super) fn noise() -> impl Iterator<Item = f32> {
    let mut state = 1_u32;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    })
}

#[cfg(test)]
mod tests {
    use super::Samples;

    #[test]
    fn median_least_and_greatest() {
        let odd = Samples(vec![3.0, 1.0, 2.0]);
        assert_eq!((odd.median(), odd.least(), odd.greatest()), (2.0, 1.0, 3.0));
        let even = Samples(vec![4.0, 1.0, 2.0, 3.0]);
        assert_eq!((even.median(), even.mean()), (2.5, 2.5));
        let many = Samples((0..=20).rev().map(f64::from).collect());
        assert_eq!([0.0, 0.5, 0.9, 1.0].map(|share| many.quantile(share)), [0.0, 10.0, 18.0, 20.0]);
        assert_eq!(Samples(vec![1.0, 3.0]).quantile(0.9), 2.8);
        // 8, 1 and 2 times as fast in the three rounds.
        assert_eq!(odd.speedup_over(&Samples(vec![24.0, 1.0, 4.0])), 2.0);
        let none = Samples::default();
        assert!(none.median().is_nan() && none.least().is_nan() && none.greatest().is_nan());
    }
}
