//! The comparison as one page.

use fresnel_runtime::cli::results::PROGRAM;

use super::charts;
use super::page::{definitions_list, figure, frame, tiles};
use super::plot::{Chart, escape, push};
use super::results::{Comparison, Figures, Metric, Row};
use super::table;
use crate::widths::StoredWidth;

/// The page.
pub fn page(comparison: &Comparison) -> String {
    let mut page = String::new();
    header(&mut page, comparison);
    matrix(&mut page, comparison);
    accuracy_charts(&mut page, comparison);
    width_tabs(&mut page, comparison);
    results(&mut page, comparison);
    settings(&mut page, comparison);
    definitions(&mut page, comparison);
    provenance(&mut page, comparison);
    let title = format!("{}: low-bit comparison", comparison.model.architecture);
    frame(&title, &tab_rules(comparison.widths().len()), &page)
}

/// Shows the panel of the width that is chosen.
fn tab_rules(widths: usize) -> String {
    (0..widths).map(|n| format!("#w{n}:checked ~ .p{n} {{ display: block; }}\n")).collect()
}

fn header(page: &mut String, comparison: &Comparison) {
    let model = &comparison.model;
    let evaluation = &comparison.evaluation;
    let [height, width] = model.image_size;
    push(
        page,
        format_args!(
            "<h1>{}</h1>\n<p class=\"soft\">Quantized methods compared at every width. {}</p>\n",
            escape(&model.architecture),
            escape(&comparison.statement())
        ),
    );
    let (done, planned) = (comparison.rows.len(), comparison.planned);
    if done < planned {
        push(
            page,
            format_args!("<p class=\"warning\">Not finished: {done} of {planned} rows.</p>\n"),
        );
    }
    let mut facts = vec![
        (format!("{:.2} M", model.parameters as f64 / 1e6), "parameters".to_owned()),
        (format!("{height} \u{d7} {width}"), "input pixels".to_owned()),
    ];
    if let Some(float) = comparison.float().and_then(Row::figures) {
        if evaluation.metric == Metric::Accuracy {
            facts.push((format!("{:.2} %", float.accuracy.top1()), "float top-1".to_owned()));
            facts.push((format!("{:.2} %", float.accuracy.top5()), "float top-5".to_owned()));
        }
        facts.push((format!("{:.1} MB", float.file_bytes as f64 / 1e6), "float file".to_owned()));
    }
    let pictures = match evaluation.metric {
        Metric::Accuracy => "evaluation pictures",
        Metric::Agreement => "pictures for agreement",
    };
    facts.push((evaluation.images.to_string(), pictures.to_owned()));
    if let Some(calibration) = &comparison.calibration {
        facts.push((calibration.images.to_string(), "calibration images".to_owned()));
    }
    tiles(page, &facts);
}

/// Methods down, widths across: the table of a paper.
fn matrix(page: &mut String, comparison: &Comparison) {
    let widths = comparison.widths();
    let first = comparison.evaluation.metric.first();
    push(
        page,
        format_args!(
            "<h2>{} ({first}, %) by method and width</h2>\n<div class=\"card scroll\"><table>\n<thead><tr><th>method</th>",
            quantity(comparison)
        ),
    );
    for width in &widths {
        push(page, format_args!("<th>{width} bit</th>"));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    let find = |label: &str, width: StoredWidth| {
        comparison.quantized().find(|row| row.bits == width && row.label() == label)
    };
    let top1 = |row: &Row| row.figures().map(|figures| figures.accuracy.top1());
    for label in comparison.labels() {
        push(page, format_args!("<tr><th>{}</th>", escape(&label)));
        for &width in &widths {
            let best = comparison.quantized().filter(|row| row.bits == width).filter_map(top1);
            let best = best.fold(f64::NEG_INFINITY, f64::max);
            match find(&label, width).map(|row| row.figures()) {
                None => page.push_str("<td>\u{2013}</td>"),
                Some(None) => page.push_str("<td class=\"failed\">failed</td>"),
                Some(Some(figures)) => {
                    let value = figures.accuracy.top1();
                    let class = if value >= best { " class=\"best\"" } else { "" };
                    let margin = figures.accuracy.top1_margin();
                    push(
                        page,
                        format_args!("<td{class}>{value:.1} <small>\u{b1}{margin:.1}</small></td>"),
                    );
                }
            }
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
}

/// The percentages in a heading.
fn quantity(comparison: &Comparison) -> &'static str {
    match comparison.evaluation.metric {
        Metric::Accuracy => "Accuracy",
        Metric::Agreement => "Agreement with the float model",
    }
}

fn accuracy_charts(page: &mut String, comparison: &Comparison) {
    if comparison.quantized().all(|row| row.figures().is_none()) {
        return;
    }
    let quantity = quantity(comparison);
    push(
        page,
        format_args!("<h2>{quantity} against bits and against size</h2>\n<div class=\"two\">\n"),
    );
    for (title, chart) in [
        ("Bits per weight", charts::accuracy_by_bits(comparison)),
        ("Size of the file", charts::accuracy_by_size(comparison)),
    ] {
        figure(page, title, &chart.series, std::slice::from_ref(&chart));
    }
    page.push_str("</div>\n");
}

/// Layer errors and convergence, one width at a time.
fn width_tabs(page: &mut String, comparison: &Comparison) {
    let figures: Vec<(StoredWidth, Vec<Chart>, Option<Chart>)> = comparison
        .widths()
        .into_iter()
        .map(|width| {
            let errors = charts::layer_errors(comparison, width);
            (width, errors, charts::convergence(comparison, width))
        })
        .filter(|(_, errors, convergence)| !errors.is_empty() || convergence.is_some())
        .collect();
    if figures.is_empty() {
        return;
    }
    let shown = figures.iter().position(|(width, ..)| width.name() == "2").unwrap_or(0);
    page.push_str("<h2>Layer by layer</h2>\n<div class=\"tabs\">\n");
    for (index, (width, ..)) in figures.iter().enumerate() {
        let checked = if index == shown { " checked=\"checked\"" } else { "" };
        push(
            page,
            format_args!(
                "<input type=\"radio\" name=\"width\" id=\"w{index}\"{checked}/><label for=\"w{index}\">{width} bit</label>\n"
            ),
        );
    }
    for (index, (_, errors, convergence)) in figures.iter().enumerate() {
        push(page, format_args!("<div class=\"panel p{index}\">\n"));
        if let Some(first) = errors.first() {
            figure(page, "Error of each layer's output", &first.series, errors);
        }
        if let Some(chart) = convergence {
            page.push_str("<div class=\"two\">\n");
            let title = "Convergence of each method's own objective";
            figure(page, title, &chart.series, std::slice::from_ref(chart));
            sweeps(page, chart);
            page.push_str("</div>\n");
        }
        page.push_str("</div>\n");
    }
    page.push_str("</div>\n");
}

/// What the sweeps of a convergence chart gain, in numbers.
fn sweeps(page: &mut String, chart: &Chart) {
    page.push_str(
        "<div class=\"card\">\n<h3>What the sweeps gain</h3>\n<table>\n<thead><tr><th>method</th><th>sweeps</th>\
         <th>error at the start</th><th>at the end</th><th>less by</th></tr></thead>\n<tbody>\n",
    );
    for series in &chart.series {
        let [Some(first), Some(last)] = [series.points.first(), series.points.last()] else {
            continue;
        };
        let (start, end) = (first.at[1], last.at[1]);
        push(
            page,
            format_args!(
                "<tr><th>{}</th><td>{}</td><td>{start:.4}</td><td>{end:.4}</td><td>{:.1} %</td></tr>\n",
                escape(&series.name),
                series.points.len() - 1,
                100.0 * (1.0 - end / start.max(f64::MIN_POSITIVE))
            ),
        );
    }
    page.push_str(
        "</tbody></table>\n<p class=\"soft note\">Objectives differ between methods (centred, weighted or corrected), \
         so compare shapes, not heights. Methods without sweeps are not shown.</p>\n</div>\n",
    );
}

fn results(page: &mut String, comparison: &Comparison) {
    page.push_str("<h2>All results</h2>\n<div class=\"card scroll\"><table>\n<thead><tr>");
    let headings = table::headings(comparison.evaluation.metric);
    for heading in headings.into_iter().chain(["smaller".to_owned()]) {
        push(page, format_args!("<th>{heading}</th>"));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    let mut previous = None;
    for row in &comparison.rows {
        let class = if previous == Some(row.bits) { "" } else { " class=\"first\"" };
        previous = Some(row.bits);
        push(
            page,
            format_args!("<tr{class}><th>{}</th><td>{}</td>", escape(&row.label()), row.bits),
        );
        match &row.outcome {
            Ok(figures) => result_cells(page, comparison, row, figures),
            Err(reason) => push(
                page,
                format_args!("<td class=\"failed\" colspan=\"8\">failed: {}</td>", escape(reason)),
            ),
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
}

fn result_cells(page: &mut String, comparison: &Comparison, row: &Row, figures: &Figures) {
    let number = |value: Option<f64>, decimals: usize| {
        value.map_or_else(|| "\u{2013}".to_owned(), |value| format!("{value:.decimals$}"))
    };
    let float = comparison.float().and_then(Row::figures).filter(|_| !row.is_float());
    let ratio = float.map(|float| float.file_bytes as f64 / figures.file_bytes.max(1) as f64);
    for cell in [
        number(Some(figures.accuracy.top1()), 2),
        format!("\u{b1}{:.1}", figures.accuracy.top1_margin()),
        number(Some(figures.accuracy.top5()), 2),
        number(comparison.drop(row).filter(|_| !row.is_float()), 2),
        number(figures.mean_layer_error(), 4),
        number(figures.seconds, 1),
        number(Some(figures.file_bytes as f64 / 1e6), 2),
        ratio.map_or_else(|| "\u{2013}".to_owned(), |ratio| format!("{ratio:.1}\u{d7}")),
    ] {
        push(page, format_args!("<td>{cell}</td>"));
    }
}

fn settings(page: &mut String, comparison: &Comparison) {
    page.push_str(
        "<h2>Settings</h2>\n<div class=\"card scroll\"><table>\n<thead><tr><th>method</th><th>bits</th>\
         <th class=\"left\">as recorded in the file</th></tr></thead>\n<tbody>\n",
    );
    for row in &comparison.rows {
        push(
            page,
            format_args!(
                "<tr><th>{}</th><td>{}</td><td class=\"pairs\">",
                escape(&row.label()),
                row.bits
            ),
        );
        for (key, value) in row.settings.iter().filter(|(key, _)| key != "method" && key != "bits")
        {
            push(page, format_args!("<code>{}={}</code> ", escape(key), escape(value)));
        }
        page.push_str("</td></tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
}

fn definitions(page: &mut String, comparison: &Comparison) {
    let (first, fifth) = match comparison.evaluation.metric {
        Metric::Accuracy => (
            "Percentage of evaluation pictures whose label the model puts first.",
            "Percentage of evaluation pictures whose label is among the model's first five classes.",
        ),
        Metric::Agreement => (
            "Percentage of calibration images on which the model's first class is the float model's. This is not accuracy.",
            "Percentage of calibration images on which the float model's first class is among the model's first five.",
        ),
    };
    let metric = comparison.evaluation.metric;
    let margin = format!(
        "Half the 95 % interval of {} by sampling alone: 1.96 \u{221a}(p(1\u{2212}p)/n), in points; a normal approximation, without meaning near 0 and 100 %; rows share their pictures, so differences between rows are less uncertain than that.",
        metric.first()
    );
    let layers = format!(
        "\u{2016}Y\u{2212}\u{176}\u{2016}/\u{2016}Y\u{2016} of a linear layer's output in the float (Y) and the quantized (\u{176}) model, both from the pixels on, over the tokens of at most {} calibration images; in the tables, the mean of all layers in the blocks.",
        super::layer_error::IMAGES
    );
    let list = [
        (metric.first(), first),
        (metric.fifth(), fifth),
        ("95 %", margin.as_str()),
        ("drop", "The float model's percentage less this one, in points."),
        ("layer error", layers.as_str()),
        (
            "convergence",
            "The relative error that a method reports of its own objective after its start and after each sweep, mean of the layers; objectives differ between methods, so compare shapes, not heights.",
        ),
        (
            "seconds",
            "Time of quantization on the machine that made this page: forward passes, statistics and the choice of codes.",
        ),
        ("MB", "Size of the whole file in 10\u{2076} bytes."),
    ];
    definitions_list(page, "Definitions", &list);
}

fn provenance(page: &mut String, comparison: &Comparison) {
    let model = &comparison.model;
    let evaluation = &comparison.evaluation;
    let mut list = vec![
        ("model", model.architecture.clone()),
        ("checkpoint SHA-256", comparison.source_sha256.clone()),
        (
            "preprocessing",
            format!("crop {} of the resized image, {}", model.crop_pct, model.interpolation),
        ),
        ("pictures", format!("{} for {}", evaluation.images, evaluation.metric.name())),
        ("pictures SHA-256", evaluation.sha256.clone()),
    ];
    match &comparison.calibration {
        Some(calibration) => list.extend([
            ("calibration", format!("{} images", calibration.images)),
            ("calibration SHA-256", calibration.sha256.clone()),
        ]),
        None => list.push(("calibration", "none".to_owned())),
    }
    list.push(("activations", evaluation.compute.to_owned()));
    list.push(("made by", format!("{PROGRAM} compare")));
    page.push_str("<h2>Provenance</h2>\n<div class=\"card\"><dl>\n");
    for (term, value) in list {
        push(page, format_args!("<dt>{term}</dt><dd><code>{}</code></dd>\n", escape(&value)));
    }
    page.push_str("</dl></div>\n");
}

#[cfg(test)]
pub(crate) mod tests;
