//! Standard output and messages: a closed pipe ends a command quietly instead of a panic, and names from files don't steer
//! the terminal.

use std::fmt;
use std::io::{self, Write};

use super::{Exit, Failure, ReportArgs};
use crate::printable::Printable;

/// `text` in one line: line breaks in names and values are written as escapes.
pub(super) fn one_line(text: impl fmt::Display) -> String {
    text.to_string().replace('\n', "\\n")
}

/// Where a command writes.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    report: ReportArgs,
}

impl Output {
    /// Output as the user asked for it.
    pub fn new(report: ReportArgs) -> Self {
        Self { report }
    }

    /// Whether the result is wanted as JSON.
    pub fn json(&self) -> bool {
        self.report.json
    }

    /// Writes a line of the result.
    ///
    /// # Errors
    /// When standard output cannot be written; a closed pipe is an error of [`Exit::Ok`], so that
    /// the command stops without a message.
    pub fn line(&self, line: impl fmt::Display) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{}", Printable(line)).and_then(|()| stdout.flush()).map_err(|error| {
            if error.kind() == io::ErrorKind::BrokenPipe {
                Failure::closed_output()
            } else {
                Failure::new(Exit::Io, "io", format!("standard output: {error}"))
            }
        })
    }

    /// Writes a message to standard error unless `--quiet` was given.
    pub fn message(&self, message: impl fmt::Display) {
        if !self.report.quiet {
            // A closed standard error must not stop the work.
            let _ = writeln!(io::stderr(), "{}", Printable(message));
        }
    }
}
