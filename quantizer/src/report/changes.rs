//! Answers that differ from the baseline's: how many, for better or worse, and of which classes.

use std::collections::BTreeMap;

use super::source::Predictions;

/// How one model's answers differ from the baseline's, in pictures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// The same answer, right.
    pub both_right: usize,
    /// The same answer, wrong.
    pub same_wrong: usize,
    /// Wrong, and otherwise wrong.
    pub other_wrong: usize,
    /// Right in the baseline only.
    pub lost: usize,
    /// Right in this model only.
    pub gained: usize,
}

impl Counts {
    /// Pictures with an answer other than the baseline's.
    pub fn changed(&self) -> usize {
        self.lost + self.gained + self.other_wrong
    }

    /// All pictures.
    pub fn pictures(&self) -> usize {
        self.changed() + self.both_right + self.same_wrong
    }
}

/// A class whose pictures got other answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassChanges {
    /// The label.
    pub class: usize,
    /// Its pictures.
    pub pictures: usize,
    /// Changed answers of each model, the baseline left out.
    pub changed: Vec<usize>,
    /// The answer that most often took the baseline's place, and how often, over all models.
    pub usual: Option<(usize, usize)>,
}

/// How each model but the baseline differs from it.
pub fn counts(predictions: &Predictions) -> Vec<Counts> {
    let mut counts = vec![Counts::default(); predictions.names.len().saturating_sub(1)];
    for (&label, classes) in predictions.labels.iter().zip(&predictions.classes) {
        let [baseline, others @ ..] = classes.as_slice() else { continue };
        for (class, counts) in others.iter().zip(&mut counts) {
            *match (class == baseline, *baseline == label, *class == label) {
                (true, true, _) => &mut counts.both_right,
                (true, false, _) => &mut counts.same_wrong,
                (false, true, _) => &mut counts.lost,
                (false, false, true) => &mut counts.gained,
                (false, false, false) => &mut counts.other_wrong,
            } += 1;
        }
    }
    counts
}

/// The classes with the largest number of changed answers over all models, at most `count`; none without changes.
pub fn classes(predictions: &Predictions, count: usize) -> Vec<ClassChanges> {
    let models = predictions.names.len().saturating_sub(1);
    let mut found: BTreeMap<usize, (ClassChanges, BTreeMap<usize, usize>)> = BTreeMap::new();
    for (&label, classes) in predictions.labels.iter().zip(&predictions.classes) {
        let [baseline, others @ ..] = classes.as_slice() else { continue };
        let (changes, answers) = found.entry(label).or_insert_with(|| {
            let none =
                ClassChanges { class: label, pictures: 0, changed: vec![0; models], usual: None };
            (none, BTreeMap::new())
        });
        changes.pictures += 1;
        for (class, changed) in others.iter().zip(&mut changes.changed) {
            if class != baseline {
                *changed += 1;
                *answers.entry(*class).or_default() += 1;
            }
        }
    }
    let mut list: Vec<ClassChanges> = found
        .into_values()
        .map(|(changes, answers)| {
            // The most frequent, of equals the first class.
            let usual = answers.into_iter().rev().max_by_key(|&(_, count)| count);
            ClassChanges { usual, ..changes }
        })
        .filter(|changes| changes.usual.is_some())
        .collect();
    list.sort_by_key(|changes| std::cmp::Reverse(changes.changed.iter().sum::<usize>()));
    list.truncate(count);
    list
}
