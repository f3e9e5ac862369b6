//! How a command fails: a message, a kind and an exit code.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::error::{Error, ErrorKind};
use crate::printable::{Printable, shortened};

/// Exit codes of both programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// The program worked, but a check that it was asked for failed; of `diff`: the files differ.
    CheckFailed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// A model, tensor, image or table file is damaged or does not fit.
    BadInput = 3,
    /// Reading or writing failed, or an existing file would be overwritten.
    Io = 4,
    /// The machine or its device cannot do what was asked.
    Device = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command stopped.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    kind: &'static str,
    message: String,
}

impl Failure {
    /// A failure with its exit code, a short name of its kind and its one-line message.
    pub fn new(exit: Exit, kind: &'static str, message: impl Into<String>) -> Self {
        Self { exit, kind, message: shortened(message.into()) }
    }

    /// Arguments that contradict each other or lie outside their range.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// A check that the user asked for and that did not hold.
    pub fn check(message: impl Into<String>) -> Self {
        Self::new(Exit::CheckFailed, "check-failed", message)
    }

    /// An input file that is damaged or does not fit.
    pub fn bad_input(message: impl Into<String>) -> Self {
        Self::new(Exit::BadInput, "input", message)
    }

    /// Reading or writing `path` failed.
    pub fn io(path: &Path, error: &io::Error) -> Self {
        Self::new(Exit::Io, "io", format!("{}: {error}", path.display()))
    }

    /// The code to end the program with.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// A short, stable name of the kind of failure, such as `io` or `truncated`.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// An exit code that goes with a result, which tells all: nothing more is printed.
    pub(super) fn told(exit: Exit) -> Self {
        Self::new(exit, "told", "")
    }

    /// Standard output was closed by its reader: not a failure, the reader has seen enough.
    pub(super) fn closed_output() -> Self {
        Self::told(Exit::Ok)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match error.kind() {
            ErrorKind::Io => Exit::Io,
            ErrorKind::Unsupported | ErrorKind::Device => Exit::Device,
            _ => Exit::BadInput,
        };
        Self::new(exit, error.kind().name(), error.to_string().replace('\n', " "))
    }
}

/// Turns a command's result into an exit code, after printing a failure.
pub fn finish(result: Result<(), Failure>, json: bool) -> ExitCode {
    let Err(failure) = result else {
        return Exit::Ok.into();
    };
    if !failure.message.is_empty() {
        // A closed standard error leaves the exit code to tell.
        let _ = writeln!(io::stderr(), "error: {}", Printable(&failure));
        if json {
            print_json(&failure);
        }
    }
    failure.exit.into()
}

pub(super) fn print_json(failure: &Failure) {
    let object = serde_json::json!({
        "error": { "kind": failure.kind, "message": failure.message, "exit": failure.exit as u8 }
    });
    let _ = writeln!(io::stdout(), "{}", Printable(object));
}
