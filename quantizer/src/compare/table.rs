//! The comparison in a terminal.

use comfy_table::{CellAlignment, Table, presets};

use super::results::{Comparison, Metric, Row};

/// Number of columns.
const COLUMNS: usize = 9;

/// What the columns are called, here and on the page.
pub(super) fn headings(metric: Metric) -> [String; COLUMNS] {
    [
        "method".to_owned(),
        "bits".to_owned(),
        format!("{} %", metric.first()),
        "95 %".to_owned(),
        format!("{} %", metric.fifth()),
        "drop".to_owned(),
        "layer error".to_owned(),
        "seconds".to_owned(),
        "MB".to_owned(),
    ]
}

/// A row per method and width, and below it what the percentages are and what failed.
pub fn table(comparison: &Comparison) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(headings(comparison.evaluation.metric));
    for row in &comparison.rows {
        table.add_row(cells(comparison, row));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = format!("{table}\n\n{}", comparison.statement());
    for (row, reason) in comparison.failures() {
        text.push_str(&format!("\n{} at {} bit failed: {reason}", row.label(), row.bits));
    }
    text
}

/// One finished row in a line.
pub fn line(comparison: &Comparison, row: &Row) -> String {
    let figures = match &row.outcome {
        Ok(figures) => figures,
        Err(reason) => return format!("{} at {} bit failed: {reason}", row.label(), row.bits),
    };
    let seconds = figures.seconds.map_or_else(String::new, |seconds| format!("  {seconds:6.1} s"));
    format!(
        "{:<12} {:>4} bit  {} {:5.1} %  {:7.2} MB{seconds}",
        row.label(),
        row.bits,
        comparison.evaluation.metric.first(),
        figures.accuracy.top1(),
        figures.file_bytes as f64 / 1e6,
    )
}

/// The cells of a row; a dash where there is nothing to say.
fn cells(comparison: &Comparison, row: &Row) -> Vec<String> {
    let mut cells = vec![row.label(), row.bits.to_string()];
    let Some(figures) = row.figures() else {
        cells.push("failed".to_owned());
        cells.resize(COLUMNS, "-".to_owned());
        return cells;
    };
    let drop = comparison.drop(row).filter(|_| !row.is_float());
    let number = |value: Option<f64>, decimals: usize| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
    };
    cells.extend([
        number(Some(figures.accuracy.top1()), 2),
        format!("+-{:.1}", figures.accuracy.top1_margin()),
        number(Some(figures.accuracy.top5()), 2),
        number(drop, 2),
        number(figures.mean_layer_error(), 4),
        number(figures.seconds, 1),
        number(Some(figures.file_bytes as f64 / 1e6), 2),
    ]);
    cells
}
