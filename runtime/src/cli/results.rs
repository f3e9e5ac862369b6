//! Results of measurements as rows that scripts and eyes can take.
//!
//! `eval`, `bench` and `fresnel compare` fill the same kind of row. Its columns begin with those of timm's own tables, with
//! their names, order, units and decimals, so that scripts made for these work on; our own follow. Csv and
//! JSON show every column of a row, tables for the eye some of them, all from the same rounded values, so
//! that they can't disagree.

mod facts;
mod table;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::{Failure, Output, ReportArgs};
use crate::csv::push_record;

pub use facts::{FLOAT, ModelFacts, PROGRAM, Stored, run_columns};
pub(crate) use table::Column;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns, the most telling ones
    #[default]
    Table,
    /// The same as a Markdown table
    Markdown,
    /// Comma-separated values with timm's columns first
    Csv,
    /// One JSON object per row, in a line
    Json,
}

/// The choice of a format: a flag of the commands that print rows of results.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct FormatArgs {
    /// How to print the results; --json is short for `--format json`
    #[arg(long, value_enum, conflicts_with = "json")]
    format: Option<Format>,
}

impl FormatArgs {
    /// The format that was asked for, here or by `--json`.
    pub fn format(self, report: ReportArgs) -> Format {
        if report.json { Format::Json } else { self.format.unwrap_or_default() }
    }
}

/// One row: columns in their order, and what only JSON has room for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    columns: Vec<(&'static str, Value)>,
    details: Vec<(&'static str, Value)>,
}

impl Record {
    /// Appends a column; null where there is nothing to say.
    pub fn push(&mut self, name: &'static str, value: impl Into<Value>) {
        self.columns.push((name, value.into()));
    }

    /// Appends a number, rounded to `decimals` places; null where there is none, and for one that is not finite.
    pub fn push_number(&mut self, name: &'static str, value: Option<f64>, decimals: i32) {
        let unit = 10.0_f64.powi(decimals);
        self.push(name, json!(value.map(|value| (value * unit).round() / unit)));
    }

    /// Appends what only JSON shows; it takes the place of a column of the same name there.
    pub fn push_detail(&mut self, name: &'static str, value: impl Into<Value>) {
        self.details.push((name, value.into()));
    }

    /// The value of a column; null where there is none.
    pub fn get(&self, name: &str) -> &Value {
        self.columns
            .iter()
            .find(|(found, _)| *found == name)
            .map_or(&Value::Null, |(_, value)| value)
    }

    /// The row as a JSON object.
    pub fn object(&self) -> Value {
        let all = self.columns.iter().chain(&self.details);
        let object: Map<String, Value> =
            all.map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        object.into()
    }
}

/// Rows as comma-separated values with a header, which is that of the first row.
pub fn csv(records: &[Record]) -> String {
    let mut text = String::new();
    for (index, record) in records.iter().enumerate() {
        if index == 0 {
            push_record(&mut text, record.columns.iter().map(|(name, _)| name));
        }
        push_record(&mut text, record.columns.iter().map(|(_, value)| plain(value)));
    }
    text
}

/// Prints rows in `format`; a table has the columns `shown`.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn print(
    output: &Output,
    format: Format,
    records: &[Record],
    shown: &[Column],
) -> Result<(), Failure> {
    match format {
        Format::Table | Format::Markdown => output.line(table::table(format, records, shown)),
        Format::Csv => output.line(csv(records).trim_end()),
        Format::Json => records.iter().try_for_each(|record| output.line(record.object())),
    }
}

/// A value as csv has it: text without quotes, nothing for null.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
