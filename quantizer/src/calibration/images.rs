//! The photographs that calibration sees: listed, sampled with a seed, prepared batch by batch.
//!
//! A folder of photographs is seldom clean. What cannot be read or decoded is found while they are chosen, is passed over for
//! the next one, and counted; a folder without such files gives the same choice as if nobody had looked.

use std::ops::Range;
use std::path::{Path, PathBuf};

use fresnel_runtime::format::Preprocessing;
use fresnel_runtime::image::{Preprocessor, dataset};
use fresnel_runtime::{Error, ErrorKind};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use crate::digest::{self, hexadecimal};

/// Images per batch: bounds the activations held beside the residual streams.
pub const BATCH: usize = 16;

/// The images of a calibration.
#[derive(Debug, Clone)]
pub struct CalibrationImages {
    source: Source,
    unusable: Vec<String>,
}

#[derive(Debug, Clone)]
enum Source {
    Files { paths: Vec<PathBuf>, preprocessor: Box<Preprocessor>, threads: usize },
    Pixels { images: Vec<Vec<f32>> },
}

/// Which images of a folder or list are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection {
    /// Number of images; `None` takes up to [`DEFAULT_COUNT`].
    pub count: Option<usize>,
    /// Seed of the choice and of the order.
    pub seed: u64,
    /// Whether a file of a folder that can't be used is an error. In a csv, which names its files, it always is.
    pub strict: bool,
}

/// Images taken where the user names no number: enough for the widest layers of a small model.
pub const DEFAULT_COUNT: usize = 256;

impl CalibrationImages {
    /// Lists the images of `source` (a folder, or a csv with a `file` column; labels are not used)
    /// and picks some of them, in an order that depends on the seed alone. They are read and
    /// prepared on `threads` threads (0: one per core) when they are needed.
    ///
    /// # Errors
    /// Fails when nothing can be listed, when fewer images than asked for (or none) can be used, and in a strict selection
    /// with the first entry that can't be listed.
    pub fn select(
        source: &Path,
        selection: Selection,
        (preprocessing, channels): (&Preprocessing, u32),
        threads: usize,
    ) -> Result<Self, Error> {
        let mut listing = dataset::list(source)?;
        let strict = selection.strict || !source.is_dir();
        if strict && !listing.unreadable.is_empty() {
            return Err(listing.unreadable.swap_remove(0));
        }
        let mut unusable: Vec<String> = listing.unreadable.iter().map(Error::to_string).collect();
        let mut listed = listing.into_pictures();
        let found = |count: usize, usable: usize, first: Option<&String>| {
            let first = first.map_or_else(String::new, |first| format!("; not usable: {first}"));
            let text = format!("{count} calibration images asked for, {usable} found{first}");
            Error::new(ErrorKind::Input, text).at_path(source)
        };
        let wanted = match selection.count {
            Some(count) if count == 0 || count > listed.len() => {
                return Err(found(count, listed.len(), unusable.first()));
            }
            Some(count) => count,
            None => DEFAULT_COUNT.min(listed.len()),
        };
        listed.shuffle(&mut ChaCha8Rng::seed_from_u64(selection.seed));
        let preprocessor = Box::new(Preprocessor::new(preprocessing, channels)?);
        let mut paths = Vec::new();
        let mut rest = listed.into_iter();
        if strict {
            // The first that can't be used will end the work where it is needed.
            paths.extend(rest.by_ref().take(wanted));
        }
        while paths.len() < wanted {
            let batch: Vec<PathBuf> = rest.by_ref().take(BATCH.min(wanted - paths.len())).collect();
            if batch.is_empty() {
                break;
            }
            let loaded = preprocessor.load_all(&batch, threads);
            for (path, loaded) in batch.into_iter().zip(loaded) {
                match loaded {
                    Ok(_) => paths.push(path),
                    Err(error) => unusable.push(error.to_string()),
                }
            }
        }
        let enough = selection.count.unwrap_or(1);
        if paths.len() < enough {
            return Err(found(enough, paths.len(), unusable.first()));
        }
        Ok(Self { source: Source::Files { paths, preprocessor, threads }, unusable })
    }

    /// Images that are prepared already: C x H x W values each.
    pub fn from_pixels(images: Vec<Vec<f32>>) -> Self {
        Self { source: Source::Pixels { images }, unusable: Vec::new() }
    }

    /// The images of `range`, in their order.
    ///
    /// # Panics
    /// Panics if `range` reaches past the last image.
    pub fn part(&self, range: Range<usize>) -> Self {
        let source = match &self.source {
            Source::Files { paths, preprocessor, threads } => Source::Files {
                paths: paths[range].to_vec(),
                preprocessor: preprocessor.clone(),
                threads: *threads,
            },
            Source::Pixels { images } => Source::Pixels { images: images[range].to_vec() },
        };
        Self { source, unusable: Vec::new() }
    }

    /// The files of the images; none for images that are prepared already.
    pub fn files(&self) -> &[PathBuf] {
        match &self.source {
            Source::Files { paths, .. } => paths,
            Source::Pixels { .. } => &[],
        }
    }

    /// Why files that were looked at are not among the images, one line each.
    pub fn unusable(&self) -> &[String] {
        &self.unusable
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        match &self.source {
            Source::Files { paths, .. } => paths.len(),
            Source::Pixels { images } => images.len(),
        }
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The images in batches of at most [`BATCH`]: pixels, C x H x W each, and their number.
    ///
    /// # Errors
    /// Each batch fails with the path of the first image that can't be used.
    pub fn batches(&self) -> impl Iterator<Item = Result<(Vec<f32>, usize), Error>> {
        (0..self.len()).step_by(BATCH).map(|start| {
            let range = start..(start + BATCH).min(self.len());
            let count = range.len();
            let pixels = match &self.source {
                Source::Files { paths, preprocessor, threads } => {
                    let loaded = preprocessor.load_all(&paths[range], *threads);
                    loaded.into_iter().collect::<Result<Vec<_>, Error>>()?.concat()
                }
                Source::Pixels { images } => images[range].concat(),
            };
            Ok((pixels, count))
        })
    }

    /// The pixels, C x H x W, of the images at these places.
    ///
    /// # Errors
    /// Fails with the path of the first image that can't be used.
    ///
    /// # Panics
    /// Panics if a place is not below [`CalibrationImages::len`].
    pub fn load(&self, places: &[usize]) -> Result<Vec<Vec<f32>>, Error> {
        match &self.source {
            Source::Files { paths, preprocessor, threads } => {
                let paths: Vec<&PathBuf> = places.iter().map(|&place| &paths[place]).collect();
                preprocessor.load_all(&paths, *threads).into_iter().collect()
            }
            Source::Pixels { images } => {
                Ok(places.iter().map(|&place| images[place].clone()).collect())
            }
        }
    }

    /// SHA-256 over the images' contents in order, as hexadecimal digits: the provenance of a
    /// calibration without the paths of the machine that made it.
    ///
    /// # Errors
    /// Fails with the path of an image that can't be read.
    pub fn sha256(&self) -> Result<String, Error> {
        match &self.source {
            Source::Files { paths, .. } => digest::of_files(paths, "can't read the image"),
            Source::Pixels { images } => {
                let mut hash = Sha256::new();
                for value in images.iter().flatten() {
                    hash.update(value.to_le_bytes());
                }
                Ok(hexadecimal(&hash.finalize()))
            }
        }
    }
}
