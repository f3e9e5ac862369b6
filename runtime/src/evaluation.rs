//! Accuracy on labelled pictures.
//!
//! Pictures are decoded again for every evaluation: prepared pixels of a usual evaluation set take
//! gigabytes, and decoding costs a fraction of the forward pass.

use std::path::PathBuf;
use std::time::Instant;

use crate::error::{Error, ErrorKind};
use crate::image::{Item, Listing};
use crate::model::Model;
use crate::session::Session;

/// Pictures that are prepared and run together: bounds memory.
const BATCH: usize = 32;

/// Pictures, each with the class that counts as right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledPictures {
    paths: Vec<PathBuf>,
    labels: Vec<usize>,
}

impl LabelledPictures {
    /// The pictures of `listing` for `model`, at most `limit`: the first of a csv, evenly spread ones
    /// of class folders.
    ///
    /// Class folders are matched with the model's classes by name where the model knows all their
    /// names, by number where all are numbers, else in sorted order if there are as many folders as
    /// classes.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] when the folders are not the model's classes, or a picture has no label or
    /// one that the model does not know.
    pub fn new(listing: Listing, model: &Model, limit: Option<usize>) -> Result<Self, Error> {
        let (items, by_class) = with_model_classes(listing, model)?;
        let total = items.len();
        let count = limit.unwrap_or(total).min(total);
        let place = |index: usize| if by_class { index * total / count } else { index };
        let chosen = || (0..count).map(|index| &items[place(index)]);
        let classes = model.config().num_classes;
        Ok(Self {
            labels: chosen().map(|item| label(item, classes)).collect::<Result<_, _>>()?,
            paths: chosen().map(|item| item.path.clone()).collect(),
        })
    }

    /// Pictures labelled with the class that `session` puts first: a later evaluation on them tells how
    /// often another model agrees. `progress` is told of every picture that is done.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn labelled_by(
        session: &mut Session,
        paths: Vec<PathBuf>,
        mut progress: impl FnMut(usize),
    ) -> Result<Self, Error> {
        let classes = session.model().config().output_features() as usize;
        let mut labels = Vec::with_capacity(paths.len());
        for paths in paths.chunks(BATCH) {
            let (logits, _) = logits(session, paths)?;
            labels.extend(logits.chunks_exact(classes).map(|logits| {
                (0..classes).find(|&class| rank(logits, class) == 0).unwrap_or_default()
            }));
            progress(paths.len());
        }
        Ok(Self { paths, labels })
    }

    /// The files.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Runs `session` on all pictures. `progress` is told of every picture that is done.
    ///
    /// # Errors
    /// When a picture can't be read or decoded (the error names it) or does not fit the model, or a
    /// label is none of the model's classes.
    pub fn evaluate(
        &self,
        session: &mut Session,
        mut progress: impl FnMut(usize),
    ) -> Result<Accuracy, Error> {
        let classes = session.model().config().output_features() as usize;
        let mut accuracy = Accuracy { images: self.len(), ..Accuracy::default() };
        for (paths, labels) in self.paths.chunks(BATCH).zip(self.labels.chunks(BATCH)) {
            let (logits, seconds) = logits(session, paths)?;
            accuracy.model_seconds += seconds;
            for (logits, &label) in logits.chunks_exact(classes).zip(labels) {
                if label >= classes {
                    return Err(unknown_label(label, classes as u32));
                }
                let rank = rank(logits, label);
                accuracy.first += usize::from(rank < 1);
                accuracy.fifth += usize::from(rank < 5);
            }
            progress(paths.len());
        }
        Ok(accuracy)
    }
}

/// How many pictures were classified as labelled.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Accuracy {
    /// Pictures evaluated.
    pub images: usize,
    /// Pictures whose label came first.
    pub first: usize,
    /// Pictures whose label was among the first five.
    pub fifth: usize,
    /// Seconds that the model ran, without reading and preparing pictures.
    pub model_seconds: f64,
}

impl Accuracy {
    /// Percentage of pictures whose label came first.
    pub fn top1(&self) -> f64 {
        self.percent(self.first)
    }

    /// Percentage of pictures whose label was among the first five.
    pub fn top5(&self) -> f64 {
        self.percent(self.fifth)
    }

    fn percent(&self, count: usize) -> f64 {
        count as f64 * 100.0 / self.images.max(1) as f64
    }
}

/// Logits of a batch of pictures, and the seconds that the model ran.
fn logits(session: &mut Session, paths: &[PathBuf]) -> Result<(Vec<f32>, f64), Error> {
    let model = session.model();
    let preprocessor = model.preprocessor()?;
    let mut pixels = Vec::with_capacity(paths.len() * preprocessor.output_len());
    for picture in preprocessor.load_all(paths, session.threads()) {
        pixels.extend(picture?);
    }
    let begin = Instant::now();
    let logits = session.run(&pixels, paths.len())?;
    Ok((logits, begin.elapsed().as_secs_f64()))
}

/// The items with the model's class indices, and whether they come from class folders.
fn with_model_classes(listing: Listing, model: &Model) -> Result<(Vec<Item>, bool), Error> {
    let Listing { mut items, classes: folders, .. } = listing;
    if folders.is_empty() {
        return Ok((items, false));
    }
    let classes = model.config().num_classes as usize;
    let by_name = |folder: &String| model.class_names().iter().position(|name| name == folder);
    let by_number = |folder: &String| folder.parse().ok().filter(|&class: &usize| class < classes);
    let indices: Option<Vec<usize>> = folders
        .iter()
        .map(by_name)
        .collect::<Option<_>>()
        .or_else(|| folders.iter().map(by_number).collect())
        .or_else(|| (folders.len() == classes).then(|| (0..classes).collect()));
    let Some(indices) = indices else {
        return Err(Error::new(
            ErrorKind::Input,
            format!(
                "{} class folders for a model of {classes} classes: name them by the model's class \
                 names or by their indices, have a folder for each class, or give a csv with file,label",
                folders.len()
            ),
        ));
    };
    for item in &mut items {
        let index = item.label.and_then(|label| indices.get(label as usize));
        item.label = index.and_then(|&index| u32::try_from(index).ok());
    }
    Ok((items, true))
}

/// The label of a picture, checked.
fn label(item: &Item, classes: u32) -> Result<usize, Error> {
    match item.label {
        None => Err(Error::new(
            ErrorKind::Input,
            "has no label: accuracy needs a csv with a column `label`, or one folder per class",
        )
        .at_path(&item.path)),
        Some(label) if label >= classes => {
            Err(unknown_label(label as usize, classes).at_path(&item.path))
        }
        Some(label) => Ok(label as usize),
    }
}

fn unknown_label(label: usize, classes: u32) -> Error {
    let last = classes.saturating_sub(1);
    Error::new(
        ErrorKind::Input,
        format!("label {label} is none of the model's {classes} classes (0 to {last})"),
    )
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
    use super::{Accuracy, rank};

    #[test]
    fn rank_counts_better_classes() {
        let logits = [0.5, 2.0, 0.5, -1.0, f32::NAN];
        assert_eq!(rank(&logits, 1), 0);
        assert_eq!(rank(&logits, 0), 1);
        assert_eq!(rank(&logits, 2), 2);
        assert_eq!(rank(&logits, 3), 3);
        assert_eq!(rank(&logits, 4), 5);
    }

    #[test]
    fn percentages_are_of_all_pictures() {
        let accuracy = Accuracy { images: 8, first: 3, fifth: 6, model_seconds: 0.0 };
        assert_eq!((accuracy.top1(), accuracy.top5()), (37.5, 75.0));
        assert_eq!(Accuracy::default().top1(), 0.0);
    }
}
