//! The part of the page about single layers: their widths and their errors.

use super::super::charts;
use super::super::entry::Entries;
use super::super::source::{ModelFile, Sources};
use crate::compare::charts::{LayerLine, by_layer};
use crate::compare::page::figure;
use crate::compare::plot::{escape, push};
use crate::vit::BlockLinear;

pub(super) fn section(page: &mut String, sources: &Sources, entries: &Entries) {
    let output = charts::output_errors(entries);
    let objective = charts::objective_errors(sources);
    if sources.models.is_empty() && output.is_empty() && objective.is_empty() {
        return;
    }
    page.push_str("<h2>Layer by layer</h2>\n");
    widths(page, &sources.models);
    for (index, (width, lines)) in output.iter().enumerate() {
        let open = if index == 0 { " open=\"open\"" } else { "" };
        push(
            page,
            format_args!(
                "<details{open}><summary>Errors of the layers' outputs at {width}</summary>\n"
            ),
        );
        errors(page, &format!("||Y - \u{176}|| / ||Y|| of each layer's output at {width}"), lines);
        page.push_str("</details>\n");
    }
    errors(page, "Error of each layer in its method's own objective", &objective);
}

fn errors(page: &mut String, title: &str, lines: &[LayerLine]) {
    let charts = by_layer("Error", "relative error", lines);
    if let Some(first) = charts.first() {
        figure(page, title, &first.series, &charts);
    }
}

/// Widths of all models, and of each mixed one a map of its blocks.
fn widths(page: &mut String, models: &[ModelFile]) {
    if models.is_empty() {
        return;
    }
    page.push_str(
        "<div class=\"card scroll\">\n<h3>Bits of the weights</h3>\n<table>\n<thead><tr><th>file</th><th>MB</th>\
         <th>patch embedding</th><th class=\"left\">layers of the blocks</th><th>head</th></tr></thead>\n<tbody>\n",
    );
    for model in models {
        let of = |prefix: &str| {
            let found = model.bits.iter().find(|(name, _)| name.starts_with(prefix));
            found.map_or_else(|| "\u{2013}".to_owned(), |(_, bits)| bits.to_string())
        };
        push(
            page,
            format_args!(
                "<tr><th>{}</th><td>{:.2}</td><td>{}</td><td class=\"left\">{}</td><td>{}</td></tr>\n",
                escape(&model.name),
                model.bytes as f64 / 1e6,
                of("patch_embed"),
                counted(model),
                of("head")
            ),
        );
    }
    page.push_str("</tbody></table></div>\n");
    for model in models.iter().filter(|model| is_mixed(model)) {
        map(page, model);
    }
}

fn block_bits(model: &ModelFile) -> impl Iterator<Item = (&str, f64)> {
    let blocks = model.bits.iter().filter(|(name, _)| name.starts_with("blocks."));
    blocks.map(|(name, bits)| (name.as_str(), *bits))
}

fn is_mixed(model: &ModelFile) -> bool {
    let mut bits = block_bits(model).map(|(_, bits)| bits);
    let first = bits.next();
    bits.any(|bits| Some(bits) != first)
}

/// How many layers have which width, narrowest first.
fn counted(model: &ModelFile) -> String {
    let mut widths: Vec<(f64, usize)> = Vec::new();
    for (_, bits) in block_bits(model) {
        match widths.iter_mut().find(|(width, _)| *width == bits) {
            Some((_, count)) => *count += 1,
            None => widths.push((bits, 1)),
        }
    }
    widths.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let texts: Vec<String> =
        widths.iter().map(|(bits, count)| format!("{count} at {bits} bit")).collect();
    texts.join(", ")
}

/// Kinds of layers down, blocks across; the wider, the darker.
fn map(page: &mut String, model: &ModelFile) {
    push(
        page,
        format_args!(
            "<div class=\"card scroll gap\">\n<h3>Bits by block: {}</h3>\n<table class=\"map\">\n<thead><tr><th>layer</th>",
            escape(&model.name)
        ),
    );
    let of =
        |kind: BlockLinear| block_bits(model).filter(move |(name, _)| name.ends_with(kind.name()));
    for block in 0..of(BlockLinear::ALL[0]).count() {
        push(page, format_args!("<th>{block}</th>"));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for kind in BlockLinear::ALL {
        push(page, format_args!("<tr><th>{}</th>", kind.name()));
        for (_, bits) in of(kind) {
            // From 1.58 to 4 bit; wider ones are as dark as 4.
            let shade = 12.0 + 20.0 * (bits.min(4.0) - 1.0);
            push(page, format_args!("<td style=\"--shade:{shade:.0}%\">{bits}</td>"));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
}
