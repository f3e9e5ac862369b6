//! Text from files, on a terminal.

use std::fmt::{self, Display, Write};

/// Writes a text with escapes in the place of what would steer a terminal, such as `\u001b`, or show the text in another order
/// than it is in. Line breaks and tabs stay.
///
/// The escapes are JSON's, so that JSON stays what it is.
pub(crate) struct Printable<T>(pub(crate) T);

impl<T: Display> Display for Printable<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(formatter), "{}", self.0)
    }
}

struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, found)) = rest.char_indices().find(|(_, found)| steers(*found)) {
            self.0.write_str(&rest[..at])?;
            write!(self.0, "\\u{:04x}", u32::from(found))?;
            rest = &rest[at + found.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

/// Control characters, separators of lines and paragraphs, embeddings, overrides and isolates of the direction of writing.
fn steers(found: char) -> bool {
    match found {
        '\n' | '\t' => false,
        '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        _ => found.is_control(),
    }
}

/// Longest message.
const MOST_BYTES: usize = 2048;
/// How much of a longer one stays at its end, which says what to do.
const END_BYTES: usize = 512;

/// A message without its middle where it is too long to be read: names and values from files may take megabytes.
pub(crate) fn shortened(text: String) -> String {
    if text.len() <= MOST_BYTES {
        return text;
    }
    let start = text.floor_char_boundary(MOST_BYTES - END_BYTES);
    let end = text.ceil_char_boundary(text.len() - END_BYTES);
    format!("{} [{} bytes left out] {}", &text[..start], end - start, &text[end..])
}

#[cfg(test)]
mod tests {
    use super::{MOST_BYTES, Printable, shortened};

    #[test]
    fn what_steers_a_terminal_is_escaped() {
        let shown = |text: &str| Printable(text).to_string();
        assert_eq!(shown("\u{1b}[31mred\u{7f}\u{9b}0m\r"), "\\u001b[31mred\\u007f\\u009b0m\\u000d");
        assert_eq!(shown("gnp.\u{202e}exe\u{2066}\u{2028}"), "gnp.\\u202eexe\\u2066\\u2028");
        let kept = "two\nlines,\ta tab, été, 日本, שלום, \\u001b";
        assert_eq!(shown(kept), kept);
    }

    #[test]
    fn json_stays_json() {
        let text = serde_json::json!({ "name": "\u{9b}31m\u{202e}" });
        let shown = Printable(&text).to_string();
        assert!(shown.is_ascii());
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), text);
    }

    #[test]
    fn long_messages_lose_their_middle() {
        let short = "é".repeat(MOST_BYTES / 2);
        assert_eq!(shortened(short.clone()), short);
        let text = shortened(format!("a{}: do this", "é".repeat(1 << 20)));
        assert!(text.len() < MOST_BYTES + 40);
        assert!(
            text.starts_with("aéé") && text.ends_with("é: do this") && text.contains("left out")
        );
    }
}
