//! Rows as a table for the eye.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

use super::{Format, Record, plain};
use crate::cli::output::one_line;

/// What a table shows of a row's column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// Name of the quantity, and its unit.
    pub(crate) heading: &'static str,
    /// Name of the row's column.
    pub(crate) name: &'static str,
    /// Numbers are multiplied by this, such as 1e-6 for megabytes.
    pub(crate) scale: f64,
    /// Decimals of numbers; `None` for text and for numbers as they are.
    pub(crate) decimals: Option<usize>,
}

impl Column {
    /// A column of text, or of numbers as they are.
    pub(crate) const fn plain(heading: &'static str, name: &'static str) -> Self {
        Self { heading, name, scale: 1.0, decimals: None }
    }

    /// A column of numbers.
    pub(crate) const fn number(heading: &'static str, name: &'static str, decimals: usize) -> Self {
        Self { heading, name, scale: 1.0, decimals: Some(decimals) }
    }

    /// A column of bytes, shown in megabytes (10^6 bytes).
    pub(crate) const fn megabytes(heading: &'static str, name: &'static str) -> Self {
        Self { heading, name, scale: 1e-6, decimals: Some(2) }
    }

    fn cell(&self, value: &Value) -> String {
        match (self.decimals, value.as_f64()) {
            (_, None) if value.is_null() => "-".to_owned(),
            (Some(decimals), Some(number)) => format!("{:.decimals$}", number * self.scale),
            _ => one_line(plain(value)),
        }
    }
}

/// The columns `shown` of the rows; columns that no row has anything to say about are left out.
pub(super) fn table(format: Format, records: &[Record], shown: &[Column]) -> String {
    let said = |column: &&Column| records.iter().any(|record| !record.get(column.name).is_null());
    let shown: Vec<&Column> = shown.iter().filter(said).collect();
    let mut table = Table::new();
    table.load_style(match format {
        Format::Markdown => presets::ASCII_MARKDOWN,
        _ => presets::NOTHING,
    });
    table.set_header(shown.iter().map(|column| column.heading));
    for record in records {
        table.add_row(shown.iter().map(|column| {
            let cell = column.cell(record.get(column.name));
            // A bar would end the cell.
            if format == Format::Markdown { cell.replace('|', "\\|") } else { cell }
        }));
    }
    for (column, shown) in table.column_iter_mut().zip(&shown) {
        if records.iter().any(|record| record.get(shown.name).is_number()) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    // Cells are padded on both sides, and the last ones to the right.
    let text = table.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}
