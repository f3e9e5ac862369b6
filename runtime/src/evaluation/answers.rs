//! What a model answered on labelled pictures, and what follows: accuracy, its uncertainty, and how the answers differ
//! from another model's.

use super::unknown_label;
use crate::error::Error;

/// Quantile of the normal distribution that leaves 2.5 % on each side, in percent.
const NORMAL_95: f64 = 196.0;

/// A model's answers, picture by picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers {
    /// The class that came first.
    pub first: Vec<usize>,
    /// How many classes came before the label.
    pub ranks: Vec<usize>,
    /// Seconds that the model ran, without reading and preparing pictures.
    pub model_seconds: f64,
}

impl Answers {
    /// Adds the answers on a batch.
    pub(super) fn add(
        &mut self,
        logits: &[f32],
        labels: &[usize],
        classes: u32,
    ) -> Result<(), Error> {
        for (logits, &label) in logits.chunks_exact(classes as usize).zip(labels) {
            if label >= logits.len() {
                return Err(unknown_label(label, classes));
            }
            self.first.push(first(logits));
            self.ranks.push(rank(logits, label));
        }
        Ok(())
    }

    /// How many pictures were classified as labelled.
    pub fn accuracy(&self) -> Accuracy {
        let below = |limit: usize| self.ranks.iter().filter(|&&rank| rank < limit).count();
        Accuracy { images: self.ranks.len(), first: below(1), fifth: below(5) }
    }

    /// How these answers differ from those of `baseline` to the same pictures.
    pub fn change(&self, baseline: &Self) -> Change {
        let pairs = || self.ranks.iter().zip(&baseline.ranks);
        Change {
            images: self.ranks.len(),
            same: self
                .first
                .iter()
                .zip(&baseline.first)
                .filter(|(own, other)| own == other)
                .count(),
            lost: pairs().filter(|&(&own, &other)| own > 0 && other == 0).count(),
            gained: pairs().filter(|&(&own, &other)| own == 0 && other > 0).count(),
        }
    }
}

/// How many pictures were classified as labelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accuracy {
    /// Pictures evaluated.
    pub images: usize,
    /// Pictures whose label came first.
    pub first: usize,
    /// Pictures whose label was among the first five.
    pub fifth: usize,
}

impl Accuracy {
    /// Percentage of pictures whose label came first.
    pub fn top1(&self) -> f64 {
        percent(self.first, self.images)
    }

    /// Percentage of pictures whose label was among the first five.
    pub fn top5(&self) -> f64 {
        percent(self.fifth, self.images)
    }

    /// Half the width of the 95 % interval of [`top1`](Self::top1) in points, by the normal approximation: what
    /// another choice of as many pictures may change.
    pub fn top1_margin(&self) -> f64 {
        let share = self.top1() / 100.0;
        NORMAL_95 * (share * (1.0 - share) / self.images.max(1) as f64).sqrt()
    }
}

/// How one model's answers differ from another's to the same pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Pictures evaluated.
    pub images: usize,
    /// Pictures to which both gave the same class.
    pub same: usize,
    /// Pictures that the other classified as labelled and this one did not.
    pub lost: usize,
    /// Pictures that this one classified as labelled and the other did not.
    pub gained: usize,
}

impl Change {
    /// Percentage of pictures to which both gave the same class.
    pub fn agreement(&self) -> f64 {
        percent(self.same, self.images)
    }

    /// By how many points top-1 fell.
    pub fn drop(&self) -> f64 {
        percent(self.lost, self.images) - percent(self.gained, self.images)
    }

    /// Half the width of the 95 % interval of [`drop`](Self::drop) in points, by the normal approximation for
    /// pairs: most of what makes top-1 uncertain is the choice of pictures, which both models share.
    pub fn drop_margin(&self) -> f64 {
        let [images, lost, gained] = [self.images.max(1), self.lost, self.gained].map(|n| n as f64);
        let variance = lost + gained - (lost - gained).powi(2) / images;
        NORMAL_95 * variance.max(0.0).sqrt() / images
    }
}

fn percent(count: usize, of: usize) -> f64 {
    count as f64 * 100.0 / of.max(1) as f64
}

/// The class that ranks first; the first class where none is a number.
fn first(logits: &[f32]) -> usize {
    let mut best = 0;
    for (class, &logit) in logits.iter().enumerate() {
        if logit > logits[best] || logits[best].is_nan() && !logit.is_nan() {
            best = class;
        }
    }
    best
}

/// How many classes rank before `label`; equal logits rank by their index, NaN ranks last.
fn rank(logits: &[f32], label: usize) -> usize {
    let own = logits[label];
    if own.is_nan() {
        return logits.len();
    }
    let before = |&(class, &logit): &(usize, &f32)| logit > own || (logit == own && class < label);
    logits.iter().enumerate().filter(before).count()
}

#[cfg(test)]
mod tests {
    use super::{Accuracy, Answers, Change, first, rank};

    #[test]
    fn rank_counts_better_classes() {
        let logits = [0.5, 2.0, 0.5, -1.0, f32::NAN];
        assert_eq!([0, 1, 2, 3, 4].map(|class| rank(&logits, class)), [1, 0, 2, 3, 5]);
    }

    #[test]
    fn the_first_class_is_the_one_of_rank_nothing() {
        for logits in [[0.5, 2.0, 2.0], [f32::NAN, -1.0, f32::NAN], [-3.0, f32::NAN, -2.0]] {
            assert_eq!(rank(&logits, first(&logits)), 0, "{logits:?}");
        }
        assert_eq!(first(&[f32::NAN; 3]), 0);
    }

    #[test]
    fn percentages_are_of_all_pictures() {
        let accuracy = Accuracy { images: 8, first: 3, fifth: 6 };
        assert_eq!((accuracy.top1(), accuracy.top5()), (37.5, 75.0));
        assert_eq!(Accuracy::default().top1(), 0.0);
        let accuracy = Accuracy { images: 800, first: 256, fifth: 0 };
        assert!((accuracy.top1_margin() - 3.2325).abs() < 1e-4, "196 sqrt(0.32 * 0.68 / 800)");
    }

    #[test]
    fn changes_are_counted_in_pairs() {
        let answers = |first: &[usize], ranks: &[usize]| Answers {
            first: first.to_vec(),
            ranks: ranks.to_vec(),
            model_seconds: 0.0,
        };
        let baseline = answers(&[0, 1, 2, 3], &[0, 0, 2, 1]);
        let other = answers(&[0, 4, 2, 5], &[0, 3, 2, 0]);
        let change = other.change(&baseline);
        assert_eq!(change, Change { images: 4, same: 2, lost: 1, gained: 1 });
        assert_eq!((change.agreement(), change.drop()), (50.0, 0.0));
        // 196 sqrt(2) / 4
        assert!((change.drop_margin() - 69.296).abs() < 1e-3);
        assert_eq!(baseline.change(&baseline).drop_margin(), 0.0);
        assert_eq!(baseline.accuracy(), Accuracy { images: 4, first: 2, fifth: 4 });
    }
}
