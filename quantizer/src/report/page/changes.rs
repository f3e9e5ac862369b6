//! The part of the page about answers that changed.

use super::super::changes::{ClassChanges, Counts, classes, counts};
use super::super::entry::Entries;
use super::super::source::{Predictions, Sources, file_name};
use crate::compare::plot::{escape, push};

/// Classes that are shown one by one.
const CLASSES: usize = 12;

pub(super) fn section(page: &mut String, sources: &Sources, entries: &Entries) {
    for predictions in sources.predictions.iter().filter(|predictions| predictions.names.len() > 1)
    {
        let names: Vec<String> =
            predictions.names.iter().map(|name| label(name, entries)).collect();
        let [baseline, others @ ..] = names.as_slice() else { continue };
        push(
            page,
            format_args!(
                "<h2>Answers that changed</h2>\n<p class=\"soft\">Against {}.</p>\n",
                escape(baseline)
            ),
        );
        bars(page, others, &counts(predictions));
        most_changed(page, sources, others, predictions);
    }
}

/// The label of the entry that a heading of predictions stands for, or the heading.
fn label(heading: &str, entries: &Entries) -> String {
    let found = heading.rsplit_once(' ').and_then(|(file, compute)| {
        let is = |row: &super::Row| {
            row.text("compute") == Some(compute)
                && row.text("file").is_some_and(|own| file_name(own) == file_name(file))
        };
        entries.list.iter().find(|entry| is(&entry.row))
    });
    found.map_or_else(|| heading.to_owned(), |entry| entry.label.clone())
}

/// A bar and a line of numbers for each model.
fn bars(page: &mut String, names: &[String], counts: &[Counts]) {
    const PARTS: [(&str, &str); 5] = [
        ("right", "both right"),
        ("same", "same wrong"),
        ("other", "other wrong"),
        ("gained", "wrong \u{2192} right"),
        ("lost", "right \u{2192} wrong"),
    ];
    page.push_str("<div class=\"card\">\n<div class=\"legend\">\n");
    for (class, name) in PARTS {
        push(
            page,
            format_args!(
                "<span class=\"entry\"><span class=\"patch {class}\"></span>{name}</span>\n"
            ),
        );
    }
    page.push_str("</div>\n<div class=\"scroll\"><table class=\"dense\">\n<thead><tr><th>model and mode</th><th class=\"left wide\">pictures</th><th>changed %</th>");
    for (_, name) in PARTS {
        push(page, format_args!("<th>{name}</th>"));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for (name, counts) in names.iter().zip(counts) {
        let parts =
            [counts.both_right, counts.same_wrong, counts.other_wrong, counts.gained, counts.lost];
        let percent = |count: usize| 100.0 * count as f64 / counts.pictures().max(1) as f64;
        push(
            page,
            format_args!("<tr><th>{}</th><td class=\"wide\"><div class=\"bar\">", escape(name)),
        );
        for ((class, _), count) in PARTS.iter().zip(parts) {
            let width = percent(count);
            push(page, format_args!("<span class=\"{class}\" style=\"width:{width:.2}%\"></span>"));
        }
        push(page, format_args!("</div></td><td>{:.2}</td>", percent(counts.changed())));
        for count in parts {
            push(page, format_args!("<td>{count}</td>"));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n</div>\n");
}

fn most_changed(page: &mut String, sources: &Sources, names: &[String], predictions: &Predictions) {
    let list = classes(predictions, CLASSES);
    if list.is_empty() {
        page.push_str("<p class=\"soft note\">No answer changed.</p>\n");
        return;
    }
    let mut class_names = sources.models.iter().map(|model| &model.class_names);
    let class_names = class_names.find(|names| !names.is_empty());
    let name = |class: usize| match class_names.and_then(|names| names.get(class)) {
        Some(name) => escape(name),
        None => format!("class {class}"),
    };
    page.push_str(
        "<h3 class=\"above\">Most changed classes</h3>\n<div class=\"card scroll\"><table class=\"narrow\">\n<thead><tr><th>label</th><th>pictures</th>",
    );
    for name in names {
        push(page, format_args!("<th>{}</th>", escape(name)));
    }
    page.push_str("<th class=\"left\">most often to</th></tr></thead>\n<tbody>\n");
    for ClassChanges { class, pictures, changed, usual } in list {
        push(page, format_args!("<tr><th>{}</th><td>{pictures}</td>", name(class)));
        for count in changed {
            push(page, format_args!("<td>{count}</td>"));
        }
        let usual = usual.map_or_else(String::new, |(class, count)| {
            format!("{} <small>{count}\u{d7}</small>", name(class))
        });
        push(page, format_args!("<td class=\"left\">{usual}</td></tr>\n"));
    }
    page.push_str("</tbody></table></div>\n");
}
