//! The one error type of this crate.
//!
//! An [`Error`] is opaque: callers branch on its [`kind`](Error::kind) and show its text. The text names
//! the place (file, tensor, byte offset) as far as it is known, what was expected and what was found.

use std::error::Error as StdError;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::printable::{Printable, shortened};

/// What went wrong, as far as a caller can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused to read or write.
    Io,
    /// The bytes do not begin like a `.fresnel` file.
    NotAFresnelFile,
    /// The file has a version or a must-understand flag that this reader does not know.
    UnsupportedVersion,
    /// The file ends before the length that its header states.
    Truncated,
    /// The bytes contradict their checksums or the layout rules: the file is damaged.
    Corrupt,
    /// A number in the file or in a request exceeds a stated limit.
    Limit,
    /// The content is well formed but wrong: a configuration, a tensor set, a value.
    Invalid,
    /// An image cannot be decoded or has an unusable form.
    Image,
    /// An argument of a call, or a file given as input, does not fit the model.
    Input,
    /// The request is understood but not available in this build or on this machine.
    Unsupported,
    /// An accelerator is missing, lost or out of memory.
    Device,
    /// The run was stopped by its [`CancelFlag`](crate::CancelFlag).
    Cancelled,
}

impl ErrorKind {
    /// A stable lower-case name, for machine-readable output.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::Io => "io",
            ErrorKind::NotAFresnelFile => "not_a_fresnel_file",
            ErrorKind::UnsupportedVersion => "unsupported_version",
            ErrorKind::Truncated => "truncated",
            ErrorKind::Corrupt => "corrupt",
            ErrorKind::Limit => "limit",
            ErrorKind::Invalid => "invalid",
            ErrorKind::Image => "image",
            ErrorKind::Input => "input",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::Device => "device",
            ErrorKind::Cancelled => "cancelled",
        }
    }
}

/// An error of this crate: its kind, a message, where it happened, and its cause.
pub struct Error {
    // Boxed, so that a `Result<T, Error>` stays one word wide beside `T`.
    inner: Box<Inner>,
}

struct Inner {
    kind: ErrorKind,
    message: String,
    path: Option<PathBuf>,
    tensor: Option<String>,
    offset: Option<u64>,
    source: Option<Box<dyn StdError + Send + Sync + 'static>>,
}

impl Error {
    /// An error of `kind`; `message` is lower-case and says what was expected, what was found and, where
    /// that is not plain, what to do. Of a message of many kilobytes the middle is left out.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error {
            inner: Box::new(Inner {
                kind,
                message: shortened(message.into()),
                path: None,
                tensor: None,
                offset: None,
                source: None,
            }),
        }
    }

    /// The operating system's error `source`, met while doing `what` (such as "cannot read").
    pub fn io(what: impl Into<String>, source: std::io::Error) -> Error {
        Error::new(ErrorKind::Io, what).with_source(source)
    }

    /// Names the file concerned.
    #[must_use]
    pub fn at_path(mut self, path: impl AsRef<Path>) -> Error {
        self.inner.path = Some(path.as_ref().to_path_buf());
        self
    }

    /// Names the tensor concerned.
    #[must_use]
    pub fn at_tensor(mut self, name: impl Into<String>) -> Error {
        self.inner.tensor = Some(shortened(name.into()));
        self
    }

    /// Names the byte of the file, counted from its start, at which the error was noticed.
    #[must_use]
    pub fn at_offset(mut self, offset: u64) -> Error {
        self.inner.offset = Some(offset);
        self
    }

    /// Attaches the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Error {
        self.inner.source = Some(Box::new(source));
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// The message without place and cause.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// The file concerned, where one is.
    pub fn path(&self) -> Option<&Path> {
        self.inner.path.as_deref()
    }

    /// The tensor concerned, where one is.
    pub fn tensor(&self) -> Option<&str> {
        self.inner.tensor.as_deref()
    }

    /// The byte offset in the file, where one is known.
    pub fn offset(&self) -> Option<u64> {
        self.inner.offset
    }
}

/// `path: tensor "name": message (at byte offset): cause`, each part where it is known.
///
/// The causes are part of the text, so that a single line tells everything; they stay reachable through
/// [`std::error::Error::source`] too. Control characters of names are written as escapes: a terminal may show the text.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.inner.path {
            write!(f, "{}: ", Printable(path.display()))?;
        }
        if let Some(tensor) = &self.inner.tensor {
            write!(f, "tensor \"{}\": ", Printable(tensor))?;
        }
        write!(f, "{}", Printable(&self.inner.message))?;
        if let Some(offset) = self.inner.offset {
            write!(f, " (at byte {offset})")?;
        }
        if let Some(source) = &self.inner.source {
            write!(f, ": {}", Printable(source))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.inner.kind)
            .field("message", &self.inner.message)
            .field("path", &self.inner.path)
            .field("tensor", &self.inner.tensor)
            .field("offset", &self.inner.offset)
            .field("source", &self.inner.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_place_and_cause() {
        let cause = std::io::Error::other("disk on fire");
        let error = Error::io("cannot read", cause)
            .at_path("model.fresnel")
            .at_tensor("head.weight")
            .at_offset(64);
        assert_eq!(
            error.to_string(),
            "model.fresnel: tensor \"head.weight\": cannot read (at byte 64): disk on fire"
        );
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(error.kind().name(), "io");
        assert_eq!(error.path(), Some(Path::new("model.fresnel")));
        assert_eq!(error.tensor(), Some("head.weight"));
        assert_eq!(error.offset(), Some(64));
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("disk on fire"));
        assert_eq!(Error::new(ErrorKind::Limit, "too large").to_string(), "too large");
    }

    #[test]
    fn is_send_and_sync_and_small() {
        fn check<T: Send + Sync + 'static>() {}
        check::<Error>();
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }
}
