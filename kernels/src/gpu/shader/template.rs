//! A small preprocessor for WGSL.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write};

/// Where a shader finds its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParameterSpace {
    /// `var<immediate>`: sent with the dispatch.
    Immediate,
    /// `var<uniform>` in group 1: written to a buffer before.
    Uniform,
}

/// A shader text with names to replace and parts to choose.
#[derive(Clone, Debug)]
pub struct Template {
    text: String,
    names: BTreeMap<&'static str, String>,
    flags: BTreeSet<&'static str>,
}

impl Template {
    /// Texts, one behind the other. `#include`d parts come first.
    pub fn new(space: ParameterSpace, texts: &[&str]) -> Template {
        let declaration = match space {
            ParameterSpace::Immediate => "var<immediate> parameters: Parameters;",
            ParameterSpace::Uniform => "@group(1) @binding(0) var<uniform> parameters: Parameters;",
        };
        Template { text: texts.join("\n"), names: BTreeMap::new(), flags: BTreeSet::new() }
            .define("PARAMETERS", declaration)
    }

    /// Has `$name` stand for `value`.
    #[must_use]
    pub fn define(mut self, name: &'static str, value: impl Display) -> Template {
        self.names.insert(name, value.to_string());
        self
    }

    /// Sets a flag, or does not.
    #[must_use]
    pub fn flag(mut self, flag: &'static str, set: bool) -> Template {
        if set {
            self.flags.insert(flag);
        } else {
            self.flags.remove(flag);
        }
        self
    }

    /// The text, with everything replaced and chosen.
    ///
    /// # Panics
    /// When a name is not defined or an `#if` is not closed: a mistake in this crate's own templates, which the tests render all.
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(self.text.len());
        // Whether the lines inside each open `#if` stay.
        let mut stays = Vec::new();
        for line in self.text.lines() {
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("#if"), Some(condition)) => {
                    let set = match condition.strip_prefix('!') {
                        Some(flag) => !self.flags.contains(flag),
                        None => self.flags.contains(condition),
                    };
                    stays.push(set);
                }
                (Some("#else"), None) => {
                    let Some(last) = stays.last_mut() else { panic!("#else without #if") };
                    *last = !*last;
                }
                (Some("#endif"), None) => assert!(stays.pop().is_some(), "#endif without #if"),
                _ if stays.iter().all(|stays| *stays) => self.substitute(line, &mut text),
                _ => {}
            }
        }
        assert!(stays.is_empty(), "#if without #endif");
        text
    }

    fn substitute(&self, line: &str, text: &mut String) {
        let mut pieces = line.split('$');
        text.push_str(pieces.next().unwrap_or_default());
        for piece in pieces {
            let end =
                piece.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(piece.len());
            let (name, rest) = piece.split_at(end);
            let Some(value) = self.names.get(name) else { panic!("${name} is not defined") };
            // Writing to a string cannot fail.
            let _ = write!(text, "{value}{rest}");
        }
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::{ParameterSpace, Template};

    const TEXT: &str =
        "a\n#if ONE\n  b$SIZE\n  #if !TWO\nc\n  #else\nd\n  #endif\n#else\ne\n#endif\nf";

    #[test]
    fn parts_are_chosen_and_names_replaced() {
        let render = |one, two| {
            let template = Template::new(ParameterSpace::Uniform, &[TEXT]).define("SIZE", 8);
            template.flag("ONE", one).flag("TWO", two).render()
        };
        assert_eq!(render(true, false), "a\n  b8\nc\nf\n");
        assert_eq!(render(true, true), "a\n  b8\nd\nf\n");
        assert_eq!(render(false, true), "a\ne\nf\n");
    }

    #[test]
    #[should_panic(expected = "$OTHER is not defined")]
    fn a_name_that_is_not_defined_is_a_mistake() {
        let _ = Template::new(ParameterSpace::Immediate, &["$PARAMETERS $OTHER"]).render();
    }

    #[test]
    #[should_panic(expected = "#if without #endif")]
    fn an_open_part_is_a_mistake() {
        let _ = Template::new(ParameterSpace::Immediate, &["#if ONE"]).render();
    }
}
