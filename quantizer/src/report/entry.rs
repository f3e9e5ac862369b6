//! Rows of one model in one mode, put together: what `eval` says about its accuracy and `bench` about its speed.

use fresnel_runtime::cli::results::FLOAT;

use super::source::{Row, Sources, file_name};

/// Columns that tell models and modes apart; rows that have the same in all that both have are of one.
const IDENTITY: [&str; 6] = ["model", "method", "bits", "tuned", "compute", "file_bytes"];

/// What accuracy is, in a report: percentages of labels, or of the float model's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quality {
    /// Labels that came first.
    Top1,
    /// First classes that are the float model's: what `compare` measures without labels.
    Agreement,
}

impl Quality {
    /// What the columns are called.
    fn columns(self) -> [&'static str; 2] {
        match self {
            Self::Top1 => ["top1", "top5"],
            Self::Agreement => ["agreement1", "agreement5"],
        }
    }

    /// Name of the quantity.
    pub fn name(self) -> &'static str {
        match self {
            Self::Top1 => "top-1",
            Self::Agreement => "agree-1",
        }
    }
}

/// One model in one mode.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// What distinguishes it from the others.
    pub label: String,
    /// What distinguishes its line from other lines: the label without the width.
    pub line: String,
    /// All that was measured.
    pub row: Row,
}

impl Entry {
    /// Whether the weights are stored in float.
    pub fn is_float(&self) -> bool {
        self.row.text("method") == Some(FLOAT)
    }

    /// Whether the model was tuned after quantization.
    pub fn is_tuned(&self) -> bool {
        self.row.0.get("tuned").and_then(serde_json::Value::as_bool).unwrap_or(false)
    }

    /// Percentage of right first answers.
    pub fn first(&self, quality: Quality) -> Option<f64> {
        self.row.number(quality.columns()[0])
    }

    /// Percentage of pictures with the right class among the first five.
    pub fn fifth(&self, quality: Quality) -> Option<f64> {
        self.row.number(quality.columns()[1])
    }

    /// Size of the file in megabytes.
    pub fn megabytes(&self) -> Option<f64> {
        self.row.number("file_bytes").map(|bytes| bytes / 1e6)
    }

    /// Median time of a batch in milliseconds.
    pub fn milliseconds(&self) -> Option<f64> {
        self.row.number("median_ms").or_else(|| self.row.number("infer_step_time"))
    }
}

/// All entries of a report.
#[derive(Debug, Clone, PartialEq)]
pub struct Entries {
    /// What accuracy is.
    pub quality: Quality,
    /// In the order of the rows.
    pub list: Vec<Entry>,
}

impl Entries {
    /// Puts the rows together.
    pub fn new(sources: &Sources) -> Self {
        let mut rows: Vec<Row> = Vec::new();
        // Accuracy first: its rows set the order, and their columns stand where both have one.
        let (speed, accuracy): (Vec<&Row>, Vec<&Row>) =
            sources.rows.iter().partition(|row| row.is_speed());
        for row in accuracy.into_iter().chain(speed) {
            match rows
                .iter_mut()
                .find(|known| known.is_speed() != row.is_speed() && same(known, row))
            {
                Some(known) => {
                    for (name, value) in &row.0 {
                        known.0.entry(name.clone()).or_insert_with(|| value.clone());
                    }
                }
                None => rows.push(row.clone()),
            }
        }
        let labelled = rows.iter().any(|row| row.number("top1").is_some());
        let list = labels(&rows).into_iter().zip(rows);
        Self {
            quality: if labelled { Quality::Top1 } else { Quality::Agreement },
            list: list.map(|([label, line], row)| Entry { label, line, row }).collect(),
        }
    }

    /// The first entry whose weights are stored in float.
    pub fn float(&self) -> Option<&Entry> {
        self.list.iter().find(|entry| entry.is_float())
    }

    /// The entries that no other beats in accuracy without costing more, nor in `cost` without being less accurate,
    /// from the cheapest on, with both numbers.
    pub fn front(&self, cost: impl Fn(&Entry) -> Option<f64>) -> Vec<(&Entry, [f64; 2])> {
        let mut found: Vec<(&Entry, [f64; 2])> = self
            .list
            .iter()
            .filter_map(|entry| Some((entry, [cost(entry)?, entry.first(self.quality)?])))
            .collect();
        found.sort_by(|(_, a), (_, b)| a[0].total_cmp(&b[0]).then(b[1].total_cmp(&a[1])));
        let mut best = f64::NEG_INFINITY;
        found.retain(|(_, [_, first])| {
            let better = *first > best;
            best = best.max(*first);
            better
        });
        found
    }
}

/// Whether two rows are of the same model in the same mode.
fn same(a: &Row, b: &Row) -> bool {
    let both = |name: &str| Some((a.0.get(name)?, b.0.get(name)?));
    let files = both("file").and_then(|(a, b)| Some((a.as_str()?, b.as_str()?)));
    let alike = |name: &&str| match (a.shown(name), b.shown(name)) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    };
    IDENTITY.iter().all(alike) && files.is_none_or(|(a, b)| file_name(a) == file_name(b))
}

/// For each row, what distinguishes it from the others, with its width and without.
fn labels(rows: &[Row]) -> Vec<[String; 2]> {
    let differs = |name: &str| rows.iter().any(|row| row.shown(name) != rows[0].shown(name));
    let part = |row: &Row, name: &str| row.shown(name).filter(|_| differs(name));
    let line = |row: &Row| {
        let method = row.shown("method").unwrap_or_else(|| "unknown method".to_owned());
        let tuned = row.0.get("tuned").and_then(serde_json::Value::as_bool) == Some(true);
        let parts = [
            part(row, "model"),
            Some(if tuned { format!("{method} + tuning") } else { method }),
            part(row, "compute"),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>()
    };
    let label = |row: &Row| {
        let bits = row.shown("bits").map(|bits| format!("{bits} bit"));
        line(row).into_iter().chain(bits).collect::<Vec<_>>().join(", ")
    };
    let all: Vec<String> = rows.iter().map(label).collect();
    let repeated = |label: &String| all.iter().filter(|other| *other == label).count() > 1;
    rows.iter()
        .zip(&all)
        .map(|(row, label)| match row.text("file").filter(|_| repeated(label)) {
            Some(file) => [format!("{label}, {}", file_name(file)), line(row).join(", ")],
            None => [label.clone(), line(row).join(", ")],
        })
        .collect()
}
