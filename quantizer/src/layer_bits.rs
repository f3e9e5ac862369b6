//! Widths of single layers by name: `blocks.0.mlp.*=4`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use fresnel_runtime::format::CodeWidth;
use fresnel_runtime::model::config::{Role, VitConfig};
use fresnel_runtime::{Error, ErrorKind};
use serde::Deserialize;

use crate::widths::StoredWidth;

/// A pattern and the width of the layers that it matches.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct LayerBits {
    /// Layer name without `.weight`, in which `*` stands for any characters, also none.
    pub pattern: String,
    /// Width of the codes.
    pub width: CodeWidth,
}

impl FromStr for LayerBits {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (pattern, width) = text
            .split_once('=')
            .filter(|(pattern, _)| !pattern.is_empty())
            .ok_or_else(|| format!("expected PATTERN=BITS, found `{text}`"))?;
        let width = width.parse::<StoredWidth>().ok().and_then(StoredWidth::codes);
        let width = width
            .ok_or_else(|| format!("`{text}`: expected one of 1.58, 2, 3, 4, 8 behind `=`"))?;
        Ok(Self { pattern: pattern.trim_end_matches(".weight").to_owned(), width })
    }
}

impl TryFrom<String> for LayerBits {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for LayerBits {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={}", self.pattern, StoredWidth::Codes(self.width))
    }
}

impl LayerBits {
    /// Whether the pattern matches `name`, a weight's or a layer's.
    pub fn matches(&self, name: &str) -> bool {
        matches(self.pattern.as_bytes(), name.trim_end_matches(".weight").as_bytes())
    }
}

/// The widths that `rules` give to the linear layers of the blocks, by timm's name of the weight;
/// where several match, the last one decides.
///
/// # Errors
/// [`ErrorKind::Input`] for a rule that matches no layer.
pub fn named_widths(
    config: &VitConfig,
    rules: &[LayerBits],
) -> Result<BTreeMap<String, CodeWidth>, Error> {
    let specs = config.tensors();
    let layers = || specs.iter().filter(|spec| spec.role == Role::Linear);
    let mut widths = BTreeMap::new();
    for rule in rules {
        let mut matched = false;
        for spec in layers().filter(|spec| rule.matches(&spec.name)) {
            widths.insert(spec.name.clone(), rule.width);
            matched = true;
        }
        if !matched {
            return Err(Error::new(
                ErrorKind::Input,
                format!(
                    "--layer-bits {rule}: no layer has such a name; names are blocks.0.attn.qkv, \
                     blocks.0.attn.proj, blocks.0.mlp.fc1, blocks.0.mlp.fc2 to blocks.{}.mlp.fc2",
                    config.depth.saturating_sub(1)
                ),
            ));
        }
    }
    Ok(widths)
}

/// Whether `name` is `pattern` with any characters in place of each `*`.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    // Where to go on when what follows the latest `*` does not fit: behind it, one character later.
    let mut retry: Option<(usize, usize)> = None;
    while seen < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                retry = Some((at, seen));
            }
            Some(byte) if *byte == name[seen] => {
                at += 1;
                seen += 1;
            }
            _ => match &mut retry {
                Some((behind, start)) => {
                    *start += 1;
                    (at, seen) = (*behind, *start);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, character by character.
    fn defined(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], name) => name.is_empty(),
            ([b'*', rest @ ..], name) => {
                (0..=name.len()).any(|skipped| defined(rest, &name[skipped..]))
            }
            ([byte, rest @ ..], [first, others @ ..]) => byte == first && defined(rest, others),
            (_, []) => false,
        }
    }

    proptest! {
        #[test]
        fn stars_stand_for_anything(pattern in "[ab*]{0,8}", name in "[ab]{0,8}") {
            prop_assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                defined(pattern.as_bytes(), name.as_bytes())
            );
        }
    }

    #[test]
    fn rules_are_read_and_bad_ones_refused() {
        let rule: LayerBits = "*.attn.proj=3".parse().expect("a rule");
        assert_eq!(rule, LayerBits { pattern: "*.attn.proj".to_owned(), width: CodeWidth::Three });
        assert_eq!(rule.to_string(), "*.attn.proj=3");
        assert!(rule.matches("blocks.11.attn.proj.weight") && !rule.matches("blocks.1.attn.qkv"));
        for text in ["", "a", "=3", "a=5", "a=16", "a="] {
            let error = text.parse::<LayerBits>().expect_err(text);
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }
}
