//! The figures of a report: which numbers go into which chart.

use super::entry::{Entries, Entry};
use super::source::Sources;
use crate::compare::charts::LayerLine;
use crate::compare::plot::{Axis, Chart, Point, STYLES, Series};

/// Width and height of a chart.
const SIZE: [f64; 2] = [560.0, 380.0];
/// Markers have their width beside them when there are no more than this, else labels would overlap.
const MAX_LABELS: usize = 24;

/// Accuracy against the size of the file; nothing with fewer than two sizes.
pub(super) fn by_size(entries: &Entries) -> Option<Chart> {
    by_cost(entries, "file in MB, logarithmic", Entry::megabytes)
}

/// Accuracy against the time of a batch; nothing with fewer than two times.
pub(super) fn by_time(entries: &Entries) -> Option<Chart> {
    by_cost(entries, "median time in ms, logarithmic", Entry::milliseconds)
}

fn by_cost(entries: &Entries, name: &str, cost: fn(&Entry) -> Option<f64>) -> Option<Chart> {
    let quality = entries.quality;
    let place = |entry: &Entry| Some([cost(entry)?, entry.first(quality)?]);
    let margin = |entry: &Entry| entry.row.number("margin95").unwrap_or_default();
    let places: Vec<[f64; 2]> = entries.list.iter().filter_map(place).collect();
    if places.len() < 2 {
        return None;
    }
    let ends = entries.list.iter().filter(|entry| place(entry).is_some()).flat_map(|entry| {
        let (first, margin) = (entry.first(quality).unwrap_or_default(), margin(entry));
        [(first - margin).max(0.0), (first + margin).min(100.0)]
    });
    let low = places.iter().map(|[_, first]| *first).fold(f64::INFINITY, f64::min);
    let label = format!("{} in %", quality.name());
    let x = Axis::logarithmic(name, places.iter().map(|[cost, _]| *cost));
    let y = Axis::linear(&label, ends, low < 50.0);
    // Of markers close to each other only the first has its width beside it.
    let mut labelled: Vec<[f64; 2]> = Vec::new();
    let mut room = |[cost, first]: [f64; 2]| {
        let at = [x.position(cost), y.position(first)];
        let close =
            |other: &[f64; 2]| (at[0] - other[0]).abs() < 0.09 && (at[1] - other[1]).abs() < 0.045;
        let free = places.len() <= MAX_LABELS && !labelled.iter().any(close);
        labelled.extend(free.then_some(at));
        free
    };
    let mut point = |entry: &Entry| {
        let at = place(entry)?;
        let bits = entry.row.shown("bits").filter(|_| room(at));
        Some(Point {
            at,
            margin: margin(entry),
            label: bits.map_or_else(String::new, |bits| format!("{bits} bit")),
            tooltip: tooltip(entry, entries),
        })
    };
    let mut series = lines(entries);
    for series in &mut series {
        let mut of_line: Vec<&Entry> =
            entries.list.iter().filter(|entry| entry.line == series.name).collect();
        let bits = |entry: &Entry| entry.row.number("bits").unwrap_or_default();
        of_line.sort_by(|a, b| bits(a).total_cmp(&bits(b)));
        series.points = of_line.into_iter().filter_map(&mut point).collect();
    }
    series.retain(|series| !series.points.is_empty());
    Some(Chart {
        title: format!("{label} against {name}"),
        size: SIZE,
        x,
        y,
        guides: Vec::new(),
        levels: Vec::new(),
        front: entries.front(cost).into_iter().map(|(_, at)| at).collect(),
        series,
    })
}

/// A series without points for each line; the last style is that of float models.
fn lines(entries: &Entries) -> Vec<Series> {
    let mut lines: Vec<Series> = Vec::new();
    let mut styles = (0..STYLES - 1).cycle();
    for entry in &entries.list {
        if lines.iter().all(|line| line.name != entry.line) {
            let style = if entry.is_float() { STYLES - 1 } else { styles.next().unwrap_or(0) };
            lines.push(line(&entry.line, style, entry.is_tuned()));
        }
    }
    lines
}

fn line(name: &str, style: usize, hollow: bool) -> Series {
    Series { name: name.to_owned(), style, joined: true, hollow, shift: 0.0, points: Vec::new() }
}

fn tooltip(entry: &Entry, entries: &Entries) -> String {
    let mut parts = Vec::new();
    if let Some(first) = entry.first(entries.quality) {
        parts.push(format!("{} {first:.2} %", entries.quality.name()));
    }
    if let Some(megabytes) = entry.megabytes() {
        parts.push(format!("{megabytes:.2} MB"));
    }
    if let Some(milliseconds) = entry.milliseconds() {
        parts.push(format!("{milliseconds:.2} ms"));
    }
    format!("{}: {}", entry.label, parts.join(", "))
}

/// Errors of the layers' outputs that `compare` measured, by width, narrowest first.
pub(super) fn output_errors(entries: &Entries) -> Vec<(String, Vec<LayerLine>)> {
    let lines = lines(entries);
    let mut widths: Vec<(f64, Vec<LayerLine>)> = Vec::new();
    for entry in &entries.list {
        let (values, Some(bits)) = (entry.row.layers("output_error"), entry.row.number("bits"))
        else {
            continue;
        };
        let style = lines.iter().find(|line| line.name == entry.line);
        let (false, Some(style)) = (values.is_empty(), style) else { continue };
        let line = LayerLine { style: style.clone(), values };
        match widths.iter_mut().find(|(width, _)| *width == bits) {
            Some((_, lines)) => lines.push(line),
            None => widths.push((bits, vec![line])),
        }
    }
    widths.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    widths.into_iter().map(|(bits, lines)| (format!("{bits} bit"), lines)).collect()
}

/// Errors of the methods' own objectives that `quantize` reported, a line per file.
pub(super) fn objective_errors(sources: &Sources) -> Vec<LayerLine> {
    let quantized = sources.quantized.iter().enumerate();
    quantized
        .filter_map(|(index, row)| {
            let values = row.layers("relative_error");
            let name = super::source::file_name(row.text("file")?);
            (!values.is_empty())
                .then(|| LayerLine { style: line(name, index % (STYLES - 1), false), values })
        })
        .collect()
}
