//! The report as one page.

mod changes;
mod layers;

use fresnel_runtime::cli::results::PROGRAM;

use super::charts;
use super::entry::{Entries, Entry, Quality};
use super::source::{Row, Sources};
use crate::compare::page::{definitions_list, figure, frame, tiles};
use crate::compare::plot::{escape, push};

/// A model within this many points of the float model counts as near to it.
const NEAR: f64 = 1.0;

/// The page.
pub fn page(sources: &Sources) -> String {
    let entries = Entries::new(sources);
    let mut page = String::new();
    header(&mut page, sources, &entries);
    accuracy_charts(&mut page, &entries);
    results(&mut page, &entries);
    changes::section(&mut page, sources, &entries);
    layers::section(&mut page, sources, &entries);
    machines(&mut page, sources);
    settings(&mut page, sources, &entries);
    definitions(&mut page, entries.quality);
    frame(&format!("{}: report", title(&entries)), "", &page)
}

/// The architecture, or how many there are.
fn title(entries: &Entries) -> String {
    let mut models: Vec<&str> =
        entries.list.iter().filter_map(|entry| entry.row.text("model")).collect();
    models.dedup();
    match models.as_slice() {
        [model] => (*model).to_owned(),
        models => format!("{} models", models.len()),
    }
}

fn header(page: &mut String, sources: &Sources, entries: &Entries) {
    push(page, format_args!("<h1>{}</h1>\n<p class=\"soft\">", escape(&title(entries))));
    let count = entries.list.len();
    push(page, format_args!("{count} models and modes, accuracy against size and time."));
    for statement in &sources.statements {
        push(page, format_args!(" {}", escape(statement)));
    }
    page.push_str("</p>\n");
    let mut facts: Vec<(String, String)> = Vec::new();
    let mut fact = |value: Option<String>, caption: &str| {
        facts.extend(value.map(|value| (value, caption.to_owned())));
    };
    let shown = |name: &str| entries.list.iter().find_map(|entry| entry.row.shown(name));
    fact(shown("param_count").map(|count| format!("{count} M")), "parameters");
    fact(shown("img_size").or_else(|| shown("infer_img_size")), "pixels a side");
    fact(shown("images"), "pictures");
    let float = entries.float();
    let first = |entry: &Entry| entry.first(entries.quality);
    if let Some(percent) = float.and_then(first).filter(|_| entries.quality == Quality::Top1) {
        fact(Some(format!("{percent:.2} %")), "float top-1");
    }
    if let Some((entry, megabytes)) = smallest_near(entries) {
        let caption = format!("smallest within {NEAR} point of float: {}", entry.label);
        fact(Some(format!("{megabytes:.2} MB")), &caption);
    }
    let speedup = |entry: &&Entry| entry.row.number("speedup");
    let fastest = entries.list.iter().filter(|entry| speedup(entry).is_some());
    if let Some(entry) =
        fastest.max_by(|a, b| speedup(a).unwrap_or(0.0).total_cmp(&speedup(b).unwrap_or(0.0)))
    {
        let value = speedup(&entry).map(|speedup| format!("{speedup:.2}\u{d7}"));
        fact(value, &format!("the speed of the first row: {}", entry.label));
    }
    tiles(page, &facts);
}

/// The smallest quantized file that loses at most [`NEAR`] points.
fn smallest_near(entries: &Entries) -> Option<(&Entry, f64)> {
    let float = entries.float()?.first(entries.quality)?;
    let near = |entry: &&Entry| {
        !entry.is_float() && entry.first(entries.quality).is_some_and(|own| float - own <= NEAR)
    };
    let sized =
        entries.list.iter().filter(near).filter_map(|entry| Some((entry, entry.megabytes()?)));
    sized.min_by(|(_, a), (_, b)| a.total_cmp(b))
}

fn accuracy_charts(page: &mut String, entries: &Entries) {
    let charts = [
        ("Against the size of the file", charts::by_size(entries)),
        ("Against time", charts::by_time(entries)),
    ];
    if charts.iter().all(|(_, chart)| chart.is_none()) {
        return;
    }
    push(
        page,
        format_args!("<h2>Accuracy ({}, %)</h2>\n<div class=\"two\">\n", entries.quality.name()),
    );
    for (title, chart) in charts {
        if let Some(chart) = chart {
            figure(page, title, &chart.series, std::slice::from_ref(&chart));
        }
    }
    page.push_str(
        "</div>\n<p class=\"soft note\"><span class=\"ringed\"></span> on the front: nothing that costs less is as accurate. \
         Whiskers: 95 % interval.</p>\n",
    );
}

/// A column of the table of results: its heading and its cell, nothing where there is nothing to say.
type Column<'a> = (&'a str, Box<dyn Fn(&Entry) -> Option<String> + 'a>);

fn columns(entries: &Entries) -> Vec<Column<'_>> {
    let quality = entries.quality;
    let number = |name: &'static str, decimals: usize| {
        Box::new(move |entry: &Entry| {
            entry.row.number(name).map(|value| format!("{value:.decimals$}"))
        })
    };
    let float = entries.float().and_then(Entry::megabytes);
    vec![
        (
            "top-1 %",
            Box::new(move |entry| {
                let first = entry.first(quality)?;
                Some(match entry.row.number("margin95") {
                    Some(margin) => format!("{first:.2} <small>\u{b1}{margin:.1}</small>"),
                    None => format!("{first:.2}"),
                })
            }),
        ),
        ("top-5 %", Box::new(move |entry| entry.fifth(quality).map(|fifth| format!("{fifth:.2}")))),
        (
            "drop",
            Box::new(|entry| {
                let drop = entry.row.number("drop")?;
                Some(match entry.row.number("drop_margin95").filter(|margin| *margin > 0.0) {
                    Some(margin) => format!("{drop:.2} <small>\u{b1}{margin:.1}</small>"),
                    None => format!("{drop:.2}"),
                })
            }),
        ),
        ("agree %", number("agreement", 2)),
        ("MB", Box::new(|entry| entry.megabytes().map(|megabytes| format!("{megabytes:.2}")))),
        (
            "smaller",
            Box::new(move |entry| {
                let ratio = float? / entry.megabytes()?;
                (!entry.is_float()).then(|| format!("{ratio:.1}\u{d7}"))
            }),
        ),
        ("median ms", Box::new(|entry| entry.milliseconds().map(|time| format!("{time:.2}")))),
        ("p90 ms", number("p90_ms", 2)),
        ("images/s", number("infer_samples_per_sec", 1)),
        (
            "speed-up",
            Box::new(|entry| {
                entry.row.number("speedup").map(|speedup| format!("{speedup:.2}\u{d7}"))
            }),
        ),
        ("first ms", number("first_logits_ms", 1)),
        (
            "memory MB",
            Box::new(|entry| {
                entry.row.number("resident_bytes").map(|bytes| format!("{:.2}", bytes / 1e6))
            }),
        ),
        ("error", Box::new(|entry| entry.row.text("error").map(escape))),
    ]
}

fn results(page: &mut String, entries: &Entries) {
    let mut columns = columns(entries);
    columns.retain(|(_, cell)| entries.list.iter().any(|entry| cell(entry).is_some()));
    let front = |cost: fn(&Entry) -> Option<f64>| -> Vec<&str> {
        entries.front(cost).into_iter().map(|(entry, _)| entry.label.as_str()).collect()
    };
    let fronts = [("size", front(Entry::megabytes)), ("time", front(Entry::milliseconds))];
    page.push_str("<h2>All results</h2>\n<div class=\"card scroll\"><table class=\"dense\">\n<thead><tr><th>model and mode</th>");
    for (heading, _) in &columns {
        let heading = heading.replace("top-1", entries.quality.name());
        push(page, format_args!("<th>{heading}</th>"));
    }
    page.push_str("<th class=\"left\">front</th></tr></thead>\n<tbody>\n");
    for entry in &entries.list {
        push(page, format_args!("<tr><th>{}</th>", escape(&entry.label)));
        for (_, cell) in &columns {
            let cell = cell(entry).unwrap_or_else(|| "\u{2013}".to_owned());
            push(page, format_args!("<td>{cell}</td>"));
        }
        let on = fronts.iter().filter(|(_, labels)| labels.contains(&entry.label.as_str()));
        let on: Vec<&str> = on.map(|(name, _)| *name).collect();
        push(page, format_args!("<td class=\"left\">{}</td></tr>\n", on.join(", ")));
    }
    page.push_str("</tbody></table></div>\n");
}

/// Where and with what the rows were measured, each combination once.
fn machines(page: &mut String, sources: &Sources) {
    const COLUMNS: [(&str, &str); 7] = [
        ("processor", "processor"),
        ("instruction set", "isa"),
        ("device", "device"),
        ("threads", "threads"),
        ("batch", "infer_batch_size"),
        ("pictures", "images"),
        ("program", "program"),
    ];
    let measured = |row: &Row| if row.is_speed() { "time" } else { "accuracy" };
    let cells = |row: &Row| -> Vec<String> {
        let cells = COLUMNS.iter().map(|(_, name)| row.shown(name));
        let cells = cells.map(|cell| cell.unwrap_or_else(|| "\u{2013}".to_owned()));
        std::iter::once(measured(row).to_owned()).chain(cells).collect()
    };
    let mut kinds: Vec<(Vec<String>, usize)> = Vec::new();
    for row in &sources.rows {
        let cells = cells(row);
        match kinds.iter_mut().find(|(known, _)| *known == cells) {
            Some((_, count)) => *count += 1,
            None => kinds.push((cells, 1)),
        }
    }
    page.push_str("<h2>Machine and settings</h2>\n<div class=\"card scroll\"><table>\n<thead><tr><th>measured</th>");
    for (heading, _) in COLUMNS {
        push(page, format_args!("<th>{heading}</th>"));
    }
    page.push_str("<th>rows</th></tr></thead>\n<tbody>\n");
    for (cells, count) in kinds {
        page.push_str("<tr>");
        for cell in cells {
            push(page, format_args!("<td>{}</td>", escape(&cell)));
        }
        push(page, format_args!("<td>{count}</td></tr>\n"));
    }
    page.push_str("</tbody></table></div>\n");
}

/// How the models were quantized, as far as files and comparisons say it.
fn settings(page: &mut String, sources: &Sources, entries: &Entries) {
    let of_files = sources.models.iter().map(|model| (model.name.clone(), model.settings.clone()));
    let of_rows = entries.list.iter().filter_map(|entry| {
        let settings = entry.row.0.get("settings")?.as_object()?;
        let pairs = settings.iter();
        let pairs =
            pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        Some((entry.label.clone(), pairs.collect()))
    });
    let recipes: Vec<(String, Vec<(String, String)>)> = of_files.chain(of_rows).collect();
    if recipes.is_empty() {
        return;
    }
    page.push_str("<h2>Recipes</h2>\n<div class=\"card scroll\"><table>\n<tbody>\n");
    for (name, pairs) in recipes {
        push(page, format_args!("<tr><th>{}</th><td class=\"pairs\">", escape(&name)));
        for (key, value) in pairs {
            push(page, format_args!("<code>{}={}</code> ", escape(&key), escape(&value)));
        }
        page.push_str("</td></tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
}

fn definitions(page: &mut String, quality: Quality) {
    let (first, fifth) = match quality {
        Quality::Top1 => (
            "Percentage of pictures whose label the model puts first, and half its 95 % interval: 1.96 \u{221a}(p(1\u{2212}p)/n), what the choice of the pictures leaves open.",
            "Percentage of pictures whose label is among the model's first five classes.",
        ),
        Quality::Agreement => (
            "Percentage of calibration images on which the model's first class is the float model's. This is not accuracy.",
            "Percentage of calibration images on which the float model's first class is among the model's first five.",
        ),
    };
    let list = [
        (quality.name(), first),
        ("top-5", fifth),
        (
            "drop",
            "Top-1 of the first row of the evaluation less this one, in points, and half the 95 % interval of that difference. All rows see the same pictures, so differences are known better than the percentages themselves.",
        ),
        (
            "agree",
            "Percentage of pictures on which the first class is that of the first row, right or wrong.",
        ),
        ("median, p90", "Time of one batch: half, and nine tenths, of the runs took no longer."),
        (
            "speed-up",
            "How many times as fast as the first row of the measurement: the median of the ratios over rounds in which all models ran in turns.",
        ),
        ("first ms", "From opening the file to the first logits."),
        ("memory", "The weights as they lie in memory, in 10\u{2076} bytes."),
        ("MB", "Size of the whole file in 10\u{2076} bytes."),
        (
            "front",
            "What can't be beaten in accuracy by anything of at most the same size, or the same time.",
        ),
        ("made by", PROGRAM),
    ];
    definitions_list(page, "Definitions", &list);
}
