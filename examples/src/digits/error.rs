//! What can go wrong while a digits model is trained and written.

use std::io;
use std::path::{Path, PathBuf};

/// An error of the digits programs. Its text names the file or option at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file that was asked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be created, written or moved into place.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file that was to be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file was read but does not hold what it should.
    #[error("{}: {reason}", path.display())]
    Content {
        /// The file at fault.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// Options that contradict each other or the data.
    #[error("{0}")]
    Options(String),
    /// The loss stopped being a finite number.
    #[error("training diverged at step {step}: the loss is {loss}; try a lower --learning-rate")]
    Diverged {
        /// The optimizer step, counted from 0.
        step: usize,
        /// The loss of that step.
        loss: f32,
    },
}

impl Error {
    /// The exit code of a program that ends with this error: 2 usage, 3 bad input file, 4 reading or
    /// writing failed, 1 anything else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Options(_) => 2,
            Self::Content { .. } => 3,
            Self::Read { .. } | Self::Write { .. } => 4,
            Self::Diverged { .. } => 1,
        }
    }

    /// A [`Error::Content`] about `path`.
    pub(crate) fn content(path: &Path, reason: impl Into<String>) -> Self {
        Self::Content { path: path.to_owned(), reason: reason.into() }
    }
}
