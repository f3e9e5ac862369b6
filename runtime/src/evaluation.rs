//! Accuracy on labelled pictures.
//!
//! Sessions are evaluated together, a few pictures at a time: those whose models prepare pictures alike share
//! the prepared pixels, and no evaluation set has to fit into memory.

mod answers;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::error::{Error, ErrorKind};
use crate::image::{Item, Listing, Preprocessor};
use crate::model::Model;
use crate::session::Session;

pub use answers::{Accuracy, Answers, Change};

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
    pub fn new(listing: &Listing, model: &Model, limit: Option<usize>) -> Result<Self, Error> {
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
        progress: impl FnMut(usize),
    ) -> Result<Self, Error> {
        let unlabelled = Self { labels: vec![0; paths.len()], paths };
        let answers = unlabelled.evaluate(session, progress)?;
        Ok(Self { paths: unlabelled.paths, labels: answers.first })
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

    /// The class that counts as right of each picture.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// Runs `session` on all pictures. `progress` is told of every picture that is done.
    ///
    /// # Errors
    /// When a picture can't be read or decoded (the error names it) or does not fit the model, or a
    /// label is none of the model's classes.
    pub fn evaluate(
        &self,
        session: &mut Session,
        progress: impl FnMut(usize),
    ) -> Result<Answers, Error> {
        let answers = self.evaluate_all(std::slice::from_mut(session), progress)?;
        Ok(answers.into_iter().next().unwrap_or_default())
    }

    /// Runs all `sessions` on all pictures and returns the answers in their order. Each picture is read once
    /// for all sessions whose models prepare it alike. `progress` is told of every picture that a session has
    /// done.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn evaluate_all(
        &self,
        sessions: &mut [Session],
        mut progress: impl FnMut(usize),
    ) -> Result<Vec<Answers>, Error> {
        let mut answers = vec![Answers::default(); sessions.len()];
        let groups = Group::of(sessions)?;
        for (paths, labels) in self.paths.chunks(BATCH).zip(self.labels.chunks(BATCH)) {
            for group in &groups {
                let pixels = group.pixels(paths)?;
                for &index in &group.sessions {
                    let (session, answers) = (&mut sessions[index], &mut answers[index]);
                    let begin = Instant::now();
                    let logits = session.run(&pixels, paths.len())?;
                    answers.model_seconds += begin.elapsed().as_secs_f64();
                    answers.add(&logits, labels, session.model().config().output_features())?;
                    progress(paths.len());
                }
            }
        }
        Ok(answers)
    }
}

/// Sessions whose models prepare pictures alike.
struct Group {
    model: Arc<Model>,
    preprocessor: Preprocessor,
    threads: usize,
    /// Their places.
    sessions: Vec<usize>,
}

impl Group {
    fn of(sessions: &[Session]) -> Result<Vec<Self>, Error> {
        let mut groups: Vec<Self> = Vec::new();
        for (index, session) in sessions.iter().enumerate() {
            let model = session.model();
            let channels = model.config().in_channels;
            let alike = |group: &&mut Self| {
                group.model.preprocessing() == model.preprocessing()
                    && group.model.config().in_channels == channels
            };
            match groups.iter_mut().find(alike) {
                Some(group) => group.sessions.push(index),
                None => groups.push(Self {
                    model: Arc::clone(model),
                    preprocessor: model.preprocessor()?,
                    threads: session.threads(),
                    sessions: vec![index],
                }),
            }
        }
        Ok(groups)
    }

    /// The prepared pixels of some pictures, one after the other.
    fn pixels(&self, paths: &[PathBuf]) -> Result<Vec<f32>, Error> {
        let mut pixels = Vec::with_capacity(paths.len() * self.preprocessor.output_len());
        for picture in self.preprocessor.load_all(paths, self.threads) {
            pixels.extend(picture?);
        }
        Ok(pixels)
    }
}

/// The items with the model's class indices, and whether they come from class folders.
fn with_model_classes(listing: &Listing, model: &Model) -> Result<(Vec<Item>, bool), Error> {
    let (mut items, folders) = (listing.items.clone(), &listing.classes);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::synthetic::{file, plain_config};
    use crate::format::{CodeWidth, Encoding};
    use crate::session::SessionOptions;

    #[test]
    fn together_sessions_answer_as_alone_and_share_pictures_prepared_alike() {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = (0..BATCH as u32 + 3)
            .map(|index| {
                let path = folder.path().join(format!("{index}.png"));
                let color = |x, y| image::Rgb([x * 7, y * 11 + index, index * 5].map(|c| c as u8));
                image::RgbImage::from_fn(40, 30, color).save(&path).unwrap();
                path
            })
            .collect();
        let labels = (0..paths.len()).map(|index| index % 3).collect();
        let pictures = LabelledPictures { paths, labels };
        let grey = crate::model::config::VitConfig { in_channels: 1, ..plain_config() };
        let mut sessions: Vec<Session> = [
            (plain_config(), Encoding::Codes(CodeWidth::Two)),
            (grey, Encoding::Codes(CodeWidth::Four)),
            (plain_config(), Encoding::F32),
        ]
        .map(|(config, encoding)| {
            let model = Model::from_bytes(file(&config, encoding, Encoding::F16, &[])).unwrap();
            Session::new(&model, SessionOptions { threads: 1, ..Default::default() }).unwrap()
        })
        .into();
        let groups = Group::of(&sessions).unwrap();
        let groups: Vec<&[usize]> = groups.iter().map(|group| group.sessions.as_slice()).collect();
        assert_eq!(groups, [&[0, 2][..], &[1]]);
        let mut done = 0;
        let together = pictures.evaluate_all(&mut sessions, |count| done += count).unwrap();
        assert_eq!(done, 3 * pictures.len());
        for (session, together) in sessions.iter_mut().zip(&together) {
            let alone = pictures.evaluate(session, |_| {}).unwrap();
            assert_eq!((&alone.first, &alone.ranks), (&together.first, &together.ranks));
            assert_eq!(alone.first.len(), pictures.len());
        }
        assert_ne!(together[0].first, together[2].first, "other weights");
    }
}
