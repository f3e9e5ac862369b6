//! What pages are built of: no scripts, no external resources, light and dark.
//!
//! Pages are written as XML as well (every element closed, every attribute quoted), so that they can
//! be checked and taken apart by any XML tool.

use super::plot::{Chart, Series, escape, legend_entry, push};

const STYLE: &str = include_str!("style.css");

/// A page with `body`, which is markup; `style` is added to the style sheet of all pages.
pub fn frame(title: &str, style: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <title>{}</title>\n<style>\n{STYLE}{style}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n",
        escape(title)
    )
}

/// The facts to see first: values with their captions.
pub fn tiles(page: &mut String, facts: &[(String, String)]) {
    page.push_str("<div class=\"tiles\">\n");
    for (value, caption) in facts {
        let (value, caption) = (escape(value), escape(caption));
        push(
            page,
            format_args!("<div class=\"tile\"><b>{value}</b><span>{caption}</span></div>\n"),
        );
    }
    page.push_str("</div>\n");
}

/// A card with a title, a legend and charts.
pub fn figure(page: &mut String, title: &str, series: &[Series], charts: &[Chart]) {
    push(page, format_args!("<div class=\"card\">\n<h3>{title}</h3>\n<div class=\"legend\">\n"));
    for series in series {
        page.push_str(&legend_entry(series));
    }
    let class = if charts.len() > 1 { "two" } else { "one" };
    push(page, format_args!("</div>\n<div class=\"{class}\">\n"));
    for chart in charts {
        page.push_str(&chart.svg());
    }
    page.push_str("</div>\n</div>\n");
}

/// A section of terms and what they mean.
pub fn definitions_list(page: &mut String, heading: &str, list: &[(&str, &str)]) {
    push(page, format_args!("<h2>{heading}</h2>\n<div class=\"card\"><dl>\n"));
    for (term, definition) in list {
        let (term, definition) = (escape(term), escape(definition));
        push(page, format_args!("<dt>{term}</dt><dd>{definition}</dd>\n"));
    }
    page.push_str("</dl></div>\n");
}
