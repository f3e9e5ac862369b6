//! Comma-separated values after RFC 4180: fields may be quoted, quoted fields may hold commas, line
//! breaks and doubled quotes; lines end in LF or CRLF. Empty lines and a byte-order mark are skipped.

use super::at_line;
use crate::error::Error;

/// One record, with the line (from 1) on which it starts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) line: usize,
    pub(super) fields: Vec<String>,
}

/// Iterator over the records of a text; ends after the first error.
pub(super) struct Records<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Records<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1 }
    }

    /// Takes a line break off the front.
    fn line_break(&mut self) -> bool {
        let behind = self.rest.strip_prefix("\r\n").or_else(|| self.rest.strip_prefix('\n'));
        let Some(behind) = behind else { return false };
        self.rest = behind;
        self.line += 1;
        true
    }

    /// Takes one field off the front, up to the comma or line end behind it.
    fn field(&mut self) -> Result<String, Error> {
        let Some(quoted) = self.rest.strip_prefix('"') else {
            let end = self.rest.find([',', '\n']).unwrap_or(self.rest.len());
            let (field, behind) = self.rest.split_at(end);
            self.rest = behind;
            // The CR of a CRLF belongs to the line break.
            let field = if behind.starts_with(',') { field } else { field.trim_end_matches('\r') };
            return Ok(field.to_owned());
        };
        let start = self.line;
        let mut field = String::new();
        self.rest = quoted;
        loop {
            let Some((part, behind)) = self.rest.split_once('"') else {
                return Err(at_line(start, "a quoted field is not closed"));
            };
            field.push_str(part);
            self.line += part.matches('\n').count();
            self.rest = behind;
            match behind.strip_prefix('"') {
                Some(behind) => {
                    field.push('"');
                    self.rest = behind;
                }
                None => break,
            }
        }
        let ended = self.rest.is_empty()
            || [",", "\n", "\r\n"].iter().any(|end| self.rest.starts_with(end));
        if !ended {
            return Err(at_line(
                self.line,
                "expected a comma or the end of the line behind a quoted field",
            ));
        }
        Ok(field)
    }

    fn record(&mut self) -> Result<Record, Error> {
        let line = self.line;
        let mut fields = vec![self.field()?];
        while let Some(behind) = self.rest.strip_prefix(',') {
            self.rest = behind;
            fields.push(self.field()?);
        }
        self.line_break();
        Ok(Record { line, fields })
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.line_break() {}
        if self.rest.is_empty() {
            return None;
        }
        let record = self.record();
        if record.is_err() {
            self.rest = "";
        }
        Some(record)
    }
}
