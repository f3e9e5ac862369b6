//! Comma-separated values after RFC 4180: fields may be quoted, quoted fields may hold commas, line
//! breaks and doubled quotes; lines end in LF or CRLF. Empty lines and a byte-order mark are skipped.
//!
//! Lists of pictures are read with it, tables of results are written and read back.

use std::fmt::Write;

use crate::error::{Error, ErrorKind};

/// One record.
#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    /// The line on which it starts, counted from 1.
    pub line: usize,
    /// Its fields, unquoted.
    pub fields: Vec<String>,
}

/// Iterator over the records of a text; ends after the first error.
#[derive(Debug)]
pub struct Records<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Records<'a> {
    /// The records of `text`.
    pub fn new(text: &'a str) -> Self {
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

/// Adds a line with `fields`; those with commas, quotes or line breaks are quoted.
pub fn push_record(text: &mut String, fields: impl IntoIterator<Item = impl AsRef<str>>) {
    for (index, field) in fields.into_iter().enumerate() {
        let (comma, field) = (if index == 0 { "" } else { "," }, field.as_ref());
        let written = if field.contains([',', '"', '\n', '\r']) {
            write!(text, "{comma}\"{}\"", field.replace('"', "\"\""))
        } else {
            write!(text, "{comma}{field}")
        };
        debug_assert!(written.is_ok(), "a string takes everything");
    }
    text.push('\n');
}

/// A mistake in a line.
pub(crate) fn at_line(line: usize, message: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Input, format!("line {line}: {message}"))
}

#[cfg(test)]
mod tests {
    use super::{Records, push_record};

    #[test]
    fn what_is_written_is_read_back() {
        let records = [vec!["plain", "", "a,b"], vec!["say \"x\"", "two\nlines", "cr\r"]];
        let mut text = String::new();
        for fields in &records {
            push_record(&mut text, fields);
        }
        let read: Vec<Vec<String>> =
            Records::new(&text).map(|record| record.unwrap().fields).collect();
        assert_eq!(read, records);
    }
}
