//! Line and scatter charts as SVG.
//!
//! Colours come from the page's style sheet through the classes `s0` to `s7`, so that a chart follows
//! its light or dark scheme; each of the eight styles has a marker and a dash pattern of its own as
//! well, so that no figure needs colour to be read.

use std::fmt::Write;

/// Number of styles before they repeat.
pub const STYLES: usize = 8;

/// Room around the plot area for tick labels, axis labels and guide labels: left, top, right, bottom.
const MARGINS: [f64; 4] = [58.0, 24.0, 18.0, 46.0];
/// Guides that are closer than this to one with a label get none: labels would overlap.
const GUIDE_LABEL_WIDTH: f64 = 26.0;
/// Radius of a marker.
const RADIUS: f64 = 4.2;

/// A chart; build it, then call [`Chart::svg`].
#[derive(Debug, Clone)]
pub struct Chart {
    /// What a screen reader says about it.
    pub title: String,
    /// Width and height of the picture.
    pub size: [f64; 2],
    /// From left to right.
    pub x: Axis,
    /// From bottom to top.
    pub y: Axis,
    /// Vertical lines with a label above, from left to right.
    pub guides: Vec<(f64, String)>,
    /// Horizontal dashed lines with a label.
    pub levels: Vec<(f64, String)>,
    /// Points that no other one beats in both quantities, from left to right: joined by steps.
    pub front: Vec<[f64; 2]>,
    /// What is drawn, first at the bottom.
    pub series: Vec<Series>,
}

/// One axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// Quantity and unit.
    pub label: String,
    /// Values at both ends.
    pub range: [f64; 2],
    /// Whether distances are ratios.
    pub logarithmic: bool,
    /// Values that are marked, with their labels.
    pub ticks: Vec<(f64, String)>,
}

/// Points that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// Marker, dash pattern and colour, modulo [`STYLES`].
    pub style: usize,
    /// Whether a line joins the points.
    pub joined: bool,
    /// Whether markers are hollow.
    pub hollow: bool,
    /// Pixels that the series is moved to the right, so that series with the same positions do not
    /// hide each other.
    pub shift: f64,
    /// From left to right.
    pub points: Vec<Point>,
}

/// One marker.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Position.
    pub at: [f64; 2],
    /// Half the height of its interval of uncertainty.
    pub margin: f64,
    /// Text beside the marker; may be empty.
    pub label: String,
    /// Text shown when pointed at.
    pub tooltip: String,
}

impl Axis {
    /// An axis whose ticks are round numbers and enclose `values`, zero included where `from_zero`.
    pub fn linear(label: &str, values: impl IntoIterator<Item = f64>, from_zero: bool) -> Self {
        let [low, high] = extent(values.into_iter().chain(from_zero.then_some(0.0)));
        // A single value gets room on both sides.
        let span = if high > low { high - low } else { low.abs().max(1.0) };
        let step = round_step(span / 5.0);
        let (first, last) =
            ((low / step).floor(), (high / step).ceil().max((low / step).floor() + 1.0));
        // Steps are few: the span is at least two and at most eight of them.
        let ticks = (0..=(last - first) as usize).map(|index| {
            let value = (first + index as f64) * step;
            (value, number(value, step))
        });
        Self {
            label: label.to_owned(),
            range: [first * step, last * step],
            logarithmic: false,
            ticks: ticks.collect(),
        }
    }

    /// An axis of ratios whose ticks are 1, 2 and 5 times powers of ten and enclose the positive
    /// ones of `values`.
    pub fn logarithmic(label: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let [low, high] = extent(values.into_iter().filter(|&value| value > 0.0));
        let (low, high) = if low > 0.0 { (low, high) } else { (1.0, 10.0) };
        let first = low.log10().floor() as i32;
        let last = high.log10().ceil() as i32;
        let candidates: Vec<f64> = (first..=last)
            .flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10.0_f64.powi(power)))
            .collect();
        let start = candidates.iter().rposition(|&value| value <= low).unwrap_or(0);
        let end =
            candidates.iter().position(|&value| value >= high).unwrap_or(candidates.len() - 1);
        let end = end.max((start + 1).min(candidates.len() - 1));
        let ticks = candidates[start..=end].iter().map(|&value| (value, number(value, value)));
        Self {
            label: label.to_owned(),
            range: [candidates[start], candidates[end]],
            logarithmic: true,
            ticks: ticks.collect(),
        }
    }

    /// An axis with just these ticks, and a little room at both ends.
    pub fn at(label: &str, ticks: Vec<(f64, String)>) -> Self {
        let [low, high] = extent(ticks.iter().map(|(value, _)| *value));
        let room = if high > low { 0.06 * (high - low) } else { 1.0 };
        Self {
            label: label.to_owned(),
            range: [low - room, high + room],
            logarithmic: false,
            ticks,
        }
    }

    /// Where `value` lies, from 0 at the start of the axis to 1 at its end.
    pub fn position(&self, value: f64) -> f64 {
        let [low, high] = self.range;
        if self.logarithmic {
            (value.max(f64::MIN_POSITIVE) / low).ln() / (high / low).ln()
        } else {
            (value - low) / (high - low)
        }
    }
}

/// The smallest and the largest of the finite values; 0 to 0 of none.
fn extent(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let finite = values.filter(|value| value.is_finite());
    let [low, high] = finite.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], value| {
        [low.min(value), high.max(value)]
    });
    if low <= high { [low, high] } else { [0.0, 0.0] }
}

/// The smallest of 1, 2, 2.5, 5 times a power of ten that is at least `step`.
fn round_step(step: f64) -> f64 {
    let unit = 10.0_f64.powf(step.log10().floor());
    [1.0, 2.0, 2.5, 5.0]
        .map(|digit| digit * unit)
        .into_iter()
        .find(|&s| s >= step * 0.999)
        .unwrap_or(10.0 * unit)
}

/// `value` with the decimals that multiples of `step` need.
fn number(value: f64, step: f64) -> String {
    let decimals = (0..9).find(|&decimals| {
        let scaled = step * 10.0_f64.powi(decimals);
        (scaled - scaled.round()).abs() < 1e-6 * scaled
    });
    format!("{value:.*}", decimals.unwrap_or(9) as usize)
}

impl Chart {
    /// The chart as an `svg` element.
    pub fn svg(&self) -> String {
        let [width, height] = self.size;
        let mut svg = format!(
            "<svg class=\"chart\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">\n",
            escape(&self.title)
        );
        self.draw_axes(&mut svg);
        self.draw_front(&mut svg);
        for series in &self.series {
            self.draw_series(&mut svg, series);
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// Left, top, right and bottom of the plot area.
    fn area(&self) -> [f64; 4] {
        let [left, top, right, bottom] = MARGINS;
        [left, top, self.size[0] - right, self.size[1] - bottom]
    }

    /// A position in the picture.
    fn place(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let [left, top, right, bottom] = self.area();
        [left + self.x.position(x) * (right - left), bottom - self.y.position(y) * (bottom - top)]
    }

    fn draw_axes(&self, svg: &mut String) {
        let [left, top, right, bottom] = self.area();
        for (value, label) in &self.y.ticks {
            let y = self.place([self.x.range[0], *value])[1];
            push_line(svg, "grid", [left, y, right, y]);
            push_text(svg, "tick end", [left - 8.0, y + 4.0], label);
        }
        for (value, label) in &self.x.ticks {
            let x = self.place([*value, self.y.range[0]])[0];
            push_line(svg, "axis", [x, bottom, x, bottom + 4.0]);
            push_text(svg, "tick middle", [x, bottom + 18.0], label);
        }
        let mut last = f64::NEG_INFINITY;
        for (value, label) in &self.guides {
            let x = self.place([*value, self.y.range[0]])[0];
            push_line(svg, "guide", [x, top, x, bottom]);
            if x - last >= GUIDE_LABEL_WIDTH {
                push_text(svg, "tick middle", [x, top - 8.0], label);
                last = x;
            }
        }
        push_line(svg, "axis", [left, bottom, right, bottom]);
        push_text(svg, "name middle", [(left + right) / 2.0, bottom + 38.0], &self.x.label);
        let middle = (top + bottom) / 2.0;
        push(
            svg,
            format_args!(
                "<text class=\"name middle\" transform=\"translate(14 {middle:.1}) rotate(-90)\">{}</text>\n",
                escape(&self.y.label)
            ),
        );
        for (value, label) in &self.levels {
            let y = self.place([self.x.range[0], *value])[1];
            push_line(svg, "level", [left, y, right, y]);
            push_text(svg, "tick", [left + 6.0, y - 6.0], label);
        }
    }

    /// The steps of the front, and a ring around each of its points.
    fn draw_front(&self, svg: &mut String) {
        let places: Vec<[f64; 2]> = self.front.iter().map(|&at| self.place(at)).collect();
        let Some([x, _]) = places.first() else { return };
        let [_, _, right, bottom] = self.area();
        let mut path = format!("M{x:.1} {bottom:.1}");
        for [x, y] in &places {
            push(&mut path, format_args!("H{x:.1}V{y:.1}"));
        }
        push(svg, format_args!("<path class=\"front\" d=\"{path}H{right:.1}\"/>\n"));
        for [x, y] in &places {
            let radius = RADIUS + 4.5;
            push(
                svg,
                format_args!(
                    "<circle class=\"ring\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"/>\n"
                ),
            );
        }
    }

    fn draw_series(&self, svg: &mut String, series: &Series) {
        let style = series.style % STYLES;
        let hollow = if series.hollow { " hollow" } else { "" };
        let place = |at: [f64; 2]| {
            let [x, y] = self.place(at);
            [x + series.shift, y]
        };
        push(svg, format_args!("<g class=\"s{style}{hollow}\">\n"));
        if series.joined && series.points.len() > 1 {
            let corner = |point: &Point| {
                let [x, y] = place(point.at);
                format!("{x:.1},{y:.1}")
            };
            let corners: Vec<String> = series.points.iter().map(corner).collect();
            let corners = corners.join(" ");
            push(svg, format_args!("<polyline class=\"line\" points=\"{corners}\"/>\n"));
        }
        for point in &series.points {
            let [x, y] = place(point.at);
            push(svg, format_args!("<g><title>{}</title>", escape(&point.tooltip)));
            if point.margin > 0.0 {
                let end = |value: f64| {
                    let value = value.clamp(self.y.range[0], self.y.range[1]);
                    place([point.at[0], value])[1]
                };
                let [low, high] = [point.at[1] - point.margin, point.at[1] + point.margin].map(end);
                push_line(svg, "whisker", [x, low, x, high]);
            }
            svg.push_str(&marker(style, [x, y], RADIUS));
            if !point.label.is_empty() {
                push_text(svg, "tick", [x + 10.0, y + 16.0], &point.label);
            }
            svg.push_str("</g>\n");
        }
        svg.push_str("</g>\n");
    }
}

/// A legend entry: a piece of the line with its marker, and the name.
pub fn legend_entry(series: &Series) -> String {
    let style = series.style % STYLES;
    let hollow = if series.hollow { " hollow" } else { "" };
    let line = if series.joined { "<polyline class=\"line\" points=\"0,8 32,8\"/>" } else { "" };
    format!(
        "<span class=\"entry\"><svg class=\"key s{style}{hollow}\" viewBox=\"0 0 32 16\" aria-hidden=\"true\">{line}{}</svg>{}</span>\n",
        marker(style, [16.0, 8.0], RADIUS + 0.4),
        escape(&series.name)
    )
}

/// The marker of a style: circle, square, triangle, diamond, lowered triangle, cross, bar, star.
fn marker(style: usize, [x, y]: [f64; 2], radius: f64) -> String {
    if style == 0 {
        return format!("<circle class=\"marker\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"/>");
    }
    // Corners around the centre, in radii.
    const SQUARE: &[[f64; 2]] = &[[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]];
    const TRIANGLE: &[[f64; 2]] = &[[0.0, -1.25], [1.15, 0.85], [-1.15, 0.85]];
    const DIAMOND: &[[f64; 2]] = &[[0.0, -1.4], [1.2, 0.0], [0.0, 1.4], [-1.2, 0.0]];
    const LOWERED: &[[f64; 2]] = &[[0.0, 1.25], [1.15, -0.85], [-1.15, -0.85]];
    const CROSS: &[[f64; 2]] = &[
        [-0.4, -1.2],
        [0.4, -1.2],
        [0.4, -0.4],
        [1.2, -0.4],
        [1.2, 0.4],
        [0.4, 0.4],
        [0.4, 1.2],
        [-0.4, 1.2],
        [-0.4, 0.4],
        [-1.2, 0.4],
        [-1.2, -0.4],
        [-0.4, -0.4],
    ];
    const BAR: &[[f64; 2]] = &[[-1.3, -0.55], [1.3, -0.55], [1.3, 0.55], [-1.3, 0.55]];
    const STAR: &[[f64; 2]] = &[
        [0.0, -1.6],
        [0.4, -0.5],
        [1.52, -0.5],
        [0.64, 0.19],
        [0.94, 1.3],
        [0.0, 0.65],
        [-0.94, 1.3],
        [-0.64, 0.19],
        [-1.52, -0.5],
        [-0.4, -0.5],
    ];
    let corners = [SQUARE, TRIANGLE, DIAMOND, LOWERED, CROSS, BAR, STAR][(style - 1) % 7];
    let points: Vec<String> = corners
        .iter()
        .map(|[dx, dy]| format!("{:.1},{:.1}", x + dx * radius, y + dy * radius))
        .collect();
    format!("<polygon class=\"marker\" points=\"{}\"/>", points.join(" "))
}

fn push_line(svg: &mut String, class: &str, [x1, y1, x2, y2]: [f64; 4]) {
    push(
        svg,
        format_args!(
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>\n"
        ),
    );
}

fn push_text(svg: &mut String, class: &str, [x, y]: [f64; 2], text: &str) {
    push(
        svg,
        format_args!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>\n", escape(text)),
    );
}

/// Appends formatted text.
pub(crate) fn push(text: &mut String, formatted: std::fmt::Arguments<'_>) {
    let written = text.write_fmt(formatted);
    debug_assert!(written.is_ok(), "a string takes everything");
}

/// `text` as it may stand in an element or a quoted attribute.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Not allowed in XML at all.
            c if c.is_control() && !matches!(c, '\n' | '\t') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
