//! Names that stand twice in the header of a safetensors file, which the format forbids: readers differ in which of the two
//! tensors they take, so that a file would be one model here and another one elsewhere.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};

/// Checks the header, the JSON object that `file` begins with behind its length.
///
/// # Errors
/// The name that stands twice, or what is wrong with the JSON.
pub(super) fn check(file: &[u8]) -> Result<(), serde_json::Error> {
    let header = file.get(8..).unwrap_or_default();
    serde_json::Deserializer::from_slice(header).deserialize_map(Names)
}

struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of tensors")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let mut seen = BTreeSet::new();
        while let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
            if let Some(name) = seen.replace(name) {
                return Err(M::Error::custom(format_args!("the name `{name}` stands twice")));
            }
        }
        Ok(())
    }
}
