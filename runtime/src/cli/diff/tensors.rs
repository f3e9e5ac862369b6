//! Differences between the tensors of two files.

use std::collections::BTreeSet;
use std::fmt;

use fresnel_kernels::Width;
use serde_json::{Value, json};

use crate::error::Error;
use crate::format::{Container, Encoding, TensorEntry};
use crate::model::decoded;

/// A tensor in which two files differ.
pub(super) struct TensorDifference {
    name: String,
    /// What each file has; `None` where it lacks the tensor.
    sides: [Option<Side>; 2],
    /// Share of the codes that differ, where both have codes of one width and shape.
    codes: Option<f64>,
    /// Relative difference of the scales, where both have as many.
    scale: Option<f64>,
    /// Relative difference of the values, where the shapes are the same.
    values: Option<f64>,
}

struct Side {
    shape: Vec<u32>,
    bits: &'static str,
    /// Bytes of the tensor with its scales and offsets.
    bytes: u64,
}

impl Side {
    fn of(container: &Container, entry: &TensorEntry) -> Side {
        let companions = [".scale", ".offset"];
        let companions = companions
            .iter()
            .filter_map(|suffix| container.tensor(&format!("{}{suffix}", entry.name)))
            .map(|tensor| tensor.entry.length);
        Side {
            shape: entry.shape.clone(),
            bits: bits(entry.encoding),
            bytes: entry.length + companions.sum::<u64>(),
        }
    }
}

fn bits(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::F32 => "32",
        Encoding::F16 => "16",
        Encoding::Codes(width) => Width::from(width).label(),
    }
}

/// The tensors in which `a` and `b` differ, and how many are the same; scales and offsets belong to their weights.
///
/// # Errors
/// As [`decoded::codes`].
pub(super) fn differences(
    a: &Container,
    b: &Container,
) -> Result<(Vec<TensorDifference>, usize), Error> {
    let specs = [a, b].map(|container| container.manifest().config.tensors());
    let mut seen = BTreeSet::new();
    let mut differences = Vec::new();
    let mut same = 0;
    for spec in specs.into_iter().flatten() {
        if !seen.insert(spec.name.clone()) {
            continue;
        }
        if identical(a, b, &spec.name) {
            same += 1;
        } else {
            differences.push(TensorDifference::between(a, b, spec.name)?);
        }
    }
    Ok((differences, same))
}

/// Whether both files have the tensor and its companions, byte for byte.
fn identical(a: &Container, b: &Container, name: &str) -> bool {
    ["", ".scale", ".offset"].into_iter().all(|suffix| {
        let name = format!("{name}{suffix}");
        match (a.tensor(&name), b.tensor(&name)) {
            (Some(a), Some(b)) => {
                a.entry.shape == b.entry.shape
                    && a.entry.encoding == b.entry.encoding
                    && a.bytes == b.bytes
            }
            (None, None) => true,
            _ => false,
        }
    })
}

impl TensorDifference {
    /// Heads the lines that a [`TensorDifference`] displays as.
    pub(super) const HEADING: &str = "tensor                                     bits              bytes    codes %  scale %  weights %";

    fn between(a: &Container, b: &Container, name: String) -> Result<TensorDifference, Error> {
        let side = |container: &Container| {
            container.tensor(&name).map(|tensor| Side::of(container, tensor.entry))
        };
        let sides = [side(a), side(b)];
        let mut difference =
            TensorDifference { name: name.clone(), sides, codes: None, scale: None, values: None };
        let [Some(left), Some(right)] = &difference.sides else {
            return Ok(difference);
        };
        if left.shape != right.shape {
            return Ok(difference);
        }
        if let (Some(a), Some(b)) = (decoded::codes(a, &name)?, decoded::codes(b, &name)?) {
            if a.width == b.width {
                let pairs = a.codes.iter().zip(&b.codes);
                let differing = pairs.filter(|(a, b)| a != b).count();
                difference.codes = Some(differing as f64 / a.codes.len().max(1) as f64);
            }
            difference.scale = Some(relative_difference(&a.scale, &b.scale));
        }
        let values = (decoded::values(a, &name)?, decoded::values(b, &name)?);
        difference.values = Some(relative_difference(&values.0, &values.1));
        Ok(difference)
    }

    pub(super) fn document(&self) -> Value {
        let side = |side: &Option<Side>| {
            side.as_ref().map(|side| {
                let bits = side.bits.parse::<f64>().unwrap_or(f64::NAN);
                json!({ "shape": side.shape, "bits": bits, "bytes": side.bytes })
            })
        };
        json!({
            "name": self.name,
            "a": side(&self.sides[0]),
            "b": side(&self.sides[1]),
            "codes_differing": self.codes,
            "scale_relative_difference": self.scale,
            "relative_difference": self.values,
        })
    }
}

impl fmt::Display for TensorDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pair = |text: fn(&Side) -> String| {
            let [a, b] = self.sides.each_ref().map(|side| side.as_ref().map_or("-".into(), text));
            if a == b { a } else { format!("{a} -> {b}") }
        };
        let percent = |share: Option<f64>, digits: usize| {
            share.map_or("-".to_owned(), |share| format!("{:.digits$}", share * 100.0))
        };
        write!(
            f,
            "{:<32} {:>14} {:>18} {:>10} {:>8} {:>10}",
            self.name.trim_end_matches(".weight"),
            pair(|side| side.bits.to_owned()),
            pair(|side| side.bytes.to_string()),
            percent(self.codes, 2),
            percent(self.scale, 2),
            percent(self.values, 3)
        )
    }
}

/// Euclidean length of `b - a` over that of `a`; infinite where only `a` is all zero.
fn relative_difference(a: &[f32], b: &[f32]) -> f64 {
    let length = |squares: f64| squares.sqrt();
    let difference =
        length(a.iter().zip(b).map(|(&a, &b)| (f64::from(b) - f64::from(a)).powi(2)).sum());
    if difference == 0.0 {
        return 0.0;
    }
    difference / length(a.iter().map(|&a| f64::from(a).powi(2)).sum())
}

#[cfg(test)]
mod tests {
    use super::relative_difference;

    #[test]
    fn differences_are_relative_to_the_first() {
        assert_eq!(relative_difference(&[3.0, 4.0], &[3.0, 4.0]), 0.0);
        assert_eq!(relative_difference(&[3.0, 4.0], &[6.0, 8.0]), 1.0);
        assert_eq!(relative_difference(&[0.0], &[1.0]), f64::INFINITY);
        assert_eq!(relative_difference(&[], &[]), 0.0);
    }
}
