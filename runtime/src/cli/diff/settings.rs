//! Differences in what two files say: configuration, preprocessing, names, recipe, provenance.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use crate::format::Manifest;

/// Values longer than this are cut in text.
const SHOWN_CHARACTERS: usize = 70;
/// Longer lists are counted in text.
const SHOWN_ITEMS: usize = 4;

/// A setting that differs; absent on one side is `Null`.
pub(super) struct SettingDifference {
    /// `section.field`.
    name: String,
    values: [Value; 2],
}

impl SettingDifference {
    pub(super) fn document(&self) -> Value {
        let [a, b] = &self.values;
        json!({ "name": self.name, "a": a, "b": b })
    }
}

impl fmt::Display for SettingDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b] = self.values.each_ref().map(shown);
        write!(f, "{}: {a} -> {b}", self.name)
    }
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => return "nothing".to_owned(),
        Value::Array(items) if items.len() > SHOWN_ITEMS => {
            return format!("{} entries", items.len());
        }
        Value::String(text) if text.contains('\n') => {
            return format!("{} lines", text.lines().count());
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// Every setting in which `a` and `b` differ, section by section.
pub(super) fn differences(a: &Manifest, b: &Manifest) -> Vec<SettingDifference> {
    let (a, b) = (settings(a), settings(b));
    let names: Vec<&String> =
        a.keys().chain(b.keys().filter(|name| !a.contains_key(*name))).collect();
    let value = |of: &BTreeMap<String, Value>, name| of.get(name).cloned().unwrap_or_default();
    names
        .into_iter()
        .map(|name| SettingDifference {
            name: name.clone(),
            values: [value(&a, name), value(&b, name)],
        })
        .filter(|difference| difference.values[0] != difference.values[1])
        .collect()
}

/// Everything that a file says but its tensor table, as `section.field`.
fn settings(manifest: &Manifest) -> BTreeMap<String, Value> {
    let mut settings = BTreeMap::new();
    let mut add = |section: &str, key: &str, value: Value| {
        settings.insert(format!("{section}.{key}"), value);
    };
    for (section, value) in
        [("config", json!(manifest.config)), ("preprocessing", json!(manifest.preprocessing))]
    {
        for (key, value) in value.as_object().into_iter().flatten() {
            add(section, key, value.clone());
        }
    }
    for (section, pairs) in [
        ("recipe", &manifest.recipe),
        ("provenance", &manifest.provenance),
        ("metadata", &manifest.metadata),
    ] {
        for (key, value) in pairs {
            add(section, key, json!(value));
        }
    }
    for (key, value) in &manifest.measured {
        add("measured", key, json!(value));
    }
    if !manifest.class_names.is_empty() {
        settings.insert("class_names".to_owned(), json!(manifest.class_names));
    }
    settings
}
