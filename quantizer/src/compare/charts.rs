//! The figures of a comparison: which numbers go into which chart.

use fresnel_runtime::cli::results::FLOAT;

use super::plot::{Axis, Chart, Point, STYLES, Series};
use super::results::{Comparison, Figures, Row};
use crate::vit::BlockLinear;
use crate::widths::StoredWidth;

/// Width and height of a chart that shares its line with another.
const SIZE: [f64; 2] = [560.0, 360.0];
/// Width and height of one of four small charts.
const SMALL: [f64; 2] = [560.0, 250.0];

/// Top-1 against bits per weight, a line per method.
pub fn accuracy_by_bits(comparison: &Comparison) -> Chart {
    let widths = comparison.widths();
    let mut series = lines(comparison, |row, figures| Point {
        at: [row.bits.bits(), figures.accuracy.top1()],
        margin: figures.accuracy.top1_margin(),
        label: String::new(),
        tooltip: tooltip(comparison, row, figures),
    });
    // Intervals at one width stand side by side.
    let middle = series.len().saturating_sub(1) as f64 / 2.0;
    for (index, series) in series.iter_mut().enumerate() {
        series.shift = 3.0 * (index as f64 - middle);
    }
    Chart {
        title: format!("{} in percent against bits per weight", metric(comparison)),
        size: SIZE,
        x: Axis::at(
            "bits per weight",
            widths.iter().map(|width| (width.bits(), width.to_string())).collect(),
        ),
        y: percentages(comparison),
        guides: Vec::new(),
        levels: float(comparison)
            .map(|figures| (figures.accuracy.top1(), FLOAT.to_owned()))
            .into_iter()
            .collect(),
        front: Vec::new(),
        series,
    }
}

/// Top-1 against the size of the file, the float model included.
pub fn accuracy_by_size(comparison: &Comparison) -> Chart {
    let megabytes = |figures: &Figures| figures.file_bytes as f64 / 1e6;
    let point = |row: &Row, figures: &Figures| Point {
        at: [megabytes(figures), figures.accuracy.top1()],
        margin: figures.accuracy.top1_margin(),
        label: String::new(),
        tooltip: tooltip(comparison, row, figures),
    };
    let mut series = lines(comparison, point);
    if let Some((row, figures)) = comparison.float().and_then(|row| Some((row, row.figures()?))) {
        series.push(Series {
            name: FLOAT.to_owned(),
            style: STYLES - 1,
            joined: false,
            hollow: false,
            shift: 0.0,
            points: vec![point(row, figures)],
        });
    }
    let sizes = comparison.rows.iter().filter_map(Row::figures).map(megabytes);
    // Files of one width differ by next to nothing.
    let guide = |width: StoredWidth| {
        let rows = comparison.quantized().filter(|row| row.bits == width);
        let sizes: Vec<f64> = rows.filter_map(Row::figures).map(megabytes).collect();
        let mean = sizes.iter().sum::<f64>() / sizes.len() as f64;
        (!sizes.is_empty()).then(|| (mean, width.to_string()))
    };
    Chart {
        title: format!("{} in percent against megabytes", metric(comparison)),
        size: SIZE,
        x: Axis::logarithmic("file in MB, logarithmic (above: bits per weight)", sizes),
        y: percentages(comparison),
        guides: comparison.widths().into_iter().filter_map(guide).collect(),
        levels: Vec::new(),
        front: Vec::new(),
        series,
    }
}

/// Error of each layer's output at one width, a chart per kind of layer with the blocks from left to
/// right; empty where it was not measured.
pub fn layer_errors(comparison: &Comparison, width: StoredWidth) -> Vec<Chart> {
    let rows = comparison.quantized().filter(|row| row.bits == width);
    let lines: Vec<LayerLine> = rows
        .map(|row| LayerLine {
            style: style(comparison, row),
            values: (row.figures().into_iter().flat_map(|figures| &figures.layers))
                .filter_map(|layer| Some((layer.name.clone(), layer.output_error?)))
                .collect(),
        })
        .collect();
    by_layer(&format!("Error of the output at {width} bit"), "relative error", &lines)
}

/// A line of charts by layer.
#[derive(Debug, Clone)]
pub struct LayerLine {
    /// Name and style, without points.
    pub style: Series,
    /// A number for each layer, by timm's name of the layer, first block to last.
    pub values: Vec<(String, f64)>,
}

/// A chart per kind of linear layer with the blocks from left to right, all with the same heights; empty
/// without values. `quantity` stands in their titles, `unit` at their heights.
pub fn by_layer(quantity: &str, unit: &str, lines: &[LayerLine]) -> Vec<Chart> {
    let all = lines.iter().flat_map(|line| line.values.iter().map(|(_, value)| *value));
    let y = Axis::linear(unit, all, true);
    let chart = |kind: BlockLinear| {
        let points = |line: &LayerLine| -> Vec<Point> {
            let of_kind = line.values.iter().filter(|(name, _)| name.ends_with(kind.name()));
            let point = |((name, value), block): (&(String, f64), u32)| Point {
                at: [f64::from(block), *value],
                margin: 0.0,
                label: String::new(),
                tooltip: format!("{}, {name}: {value:.4}", line.style.name),
            };
            of_kind.zip(0..).map(point).collect()
        };
        let series: Vec<Series> = lines
            .iter()
            .map(|line| Series { points: points(line), ..line.style.clone() })
            .filter(|series| !series.points.is_empty())
            .collect();
        let blocks = series.iter().map(|series| series.points.len()).max()?;
        let every = blocks.div_ceil(16);
        let ticks = (0..blocks).step_by(every).map(|block| (block as f64, block.to_string()));
        Some(Chart {
            title: format!("{quantity}, {}", kind.name()),
            size: SMALL,
            x: Axis::at(&format!("{} of block", kind.name()), ticks.collect()),
            y: y.clone(),
            guides: Vec::new(),
            levels: Vec::new(),
            front: Vec::new(),
            series,
        })
    };
    BlockLinear::ALL.into_iter().filter_map(chart).collect()
}

/// Each method's own error after every sweep at one width, for the methods that have sweeps.
pub fn convergence(comparison: &Comparison, width: StoredWidth) -> Option<Chart> {
    let series: Vec<Series> = comparison
        .quantized()
        .filter(|row| row.bits == width)
        .filter_map(|row| {
            let errors = row.figures()?.convergence();
            let point = |(sweep, error): (u32, f64)| {
                let phase = if sweep == 0 { "start".to_owned() } else { format!("sweep {sweep}") };
                let tooltip = format!("{}, {phase}: {error:.5}", row.label());
                Point { at: [f64::from(sweep), error], margin: 0.0, label: String::new(), tooltip }
            };
            (errors.len() > 1).then(|| Series {
                points: (0..).zip(errors).map(point).collect(),
                ..style(comparison, row)
            })
        })
        .collect();
    let sweeps = series.iter().map(|series| series.points.len()).max()?;
    let ticks = (0..sweeps).map(|sweep| {
        (sweep as f64, if sweep == 0 { "start".to_owned() } else { sweep.to_string() })
    });
    let errors = series.iter().flat_map(|series| &series.points).map(|point| point.at[1]);
    Some(Chart {
        title: format!("The methods' own errors after each sweep at {width} bit"),
        size: SIZE,
        x: Axis::at("sweep", ticks.collect()),
        y: Axis::linear("relative error, mean of the layers", errors, false),
        guides: Vec::new(),
        levels: Vec::new(),
        front: Vec::new(),
        series,
    })
}

/// A line per method, its points from the narrowest width to the widest.
fn lines(comparison: &Comparison, point: impl Fn(&Row, &Figures) -> Point) -> Vec<Series> {
    let mut series: Vec<Series> = Vec::new();
    for label in comparison.labels() {
        let mut rows: Vec<&Row> =
            comparison.quantized().filter(|row| row.label() == label).collect();
        rows.sort_by(|a, b| a.bits.bits().total_cmp(&b.bits.bits()));
        let points: Vec<Point> =
            rows.iter().filter_map(|row| Some(point(row, row.figures()?))).collect();
        if let (Some(row), false) = (rows.first(), points.is_empty()) {
            series.push(Series { points, ..style(comparison, row) });
        }
    }
    series
}

/// A series without points in the style of the row's method; tuned models have hollow markers.
fn style(comparison: &Comparison, row: &Row) -> Series {
    let mut methods: Vec<&str> = Vec::new();
    for row in comparison.quantized() {
        if !methods.contains(&row.method.as_str()) {
            methods.push(&row.method);
        }
    }
    // The last style is the float model's.
    let style = methods.iter().position(|method| *method == row.method).unwrap_or_default();
    Series {
        name: row.label(),
        style: style % (STYLES - 1),
        joined: true,
        hollow: row.tuned,
        shift: 0.0,
        points: Vec::new(),
    }
}

fn float(comparison: &Comparison) -> Option<&Figures> {
    comparison.float()?.figures()
}

fn metric(comparison: &Comparison) -> &'static str {
    comparison.evaluation.metric.first()
}

/// From zero, unless all rows are close to the float model.
fn percentages(comparison: &Comparison) -> Axis {
    let figures = || comparison.rows.iter().filter_map(Row::figures);
    let ends = figures().flat_map(|figures| {
        let (top1, margin) = (figures.accuracy.top1(), figures.accuracy.top1_margin());
        [(top1 - margin).max(0.0), (top1 + margin).min(100.0)]
    });
    let low = figures().map(|figures| figures.accuracy.top1()).fold(f64::INFINITY, f64::min);
    Axis::linear(&format!("{} in %", metric(comparison)), ends, low < 60.0)
}

fn tooltip(comparison: &Comparison, row: &Row, figures: &Figures) -> String {
    format!(
        "{}, {} bit: {} {:.2} % (\u{b1}{:.1}), {:.2} MB",
        row.label(),
        row.bits,
        metric(comparison),
        figures.accuracy.top1(),
        figures.accuracy.top1_margin(),
        figures.file_bytes as f64 / 1e6
    )
}
