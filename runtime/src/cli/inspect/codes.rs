//! How the codes of a file are distributed, and how many bits that is worth: the part of `inspect` behind `--codes`.

use serde_json::{Value, json};

use crate::cli::{Failure, Output};
use crate::error::Error;
use crate::format::Container;
use crate::model::decoded::{self, entropy};

/// Histograms of more levels are left to `--json`.
const SHOWN_LEVELS: usize = 16;

/// The codes of one weight.
struct CodedWeight {
    name: String,
    bits: &'static str,
    /// How often each code occurs.
    histogram: Vec<u64>,
    /// Bytes of the codes in the file.
    stored_bytes: u64,
}

impl CodedWeight {
    fn count(&self) -> u64 {
        self.histogram.iter().sum()
    }

    /// Bits per weight that the file takes, without scales and offsets.
    fn stored_bits(&self) -> f64 {
        self.stored_bytes as f64 * 8.0 / self.count().max(1) as f64
    }

    /// Bits per weight that an ideal code of single values would take.
    fn entropy_bits(&self) -> f64 {
        entropy(&self.histogram)
    }

    fn entropy_bytes(&self) -> f64 {
        self.entropy_bits() * self.count() as f64 / 8.0
    }
}

/// The codes of every quantized weight of a file.
pub(super) struct CodeStatistics {
    weights: Vec<CodedWeight>,
    file_bytes: u64,
}

impl CodeStatistics {
    /// Counts the codes of `container`.
    ///
    /// # Errors
    /// As [`decoded::codes`].
    pub(super) fn of(container: &Container) -> Result<CodeStatistics, Error> {
        let mut weights = Vec::new();
        for tensor in container.tensors() {
            let name = &tensor.entry.name;
            if let Some(codes) = decoded::codes(container, name)? {
                weights.push(CodedWeight {
                    name: name.clone(),
                    bits: codes.width.label(),
                    histogram: codes.histogram(),
                    stored_bytes: tensor.entry.length,
                });
            }
        }
        Ok(CodeStatistics { weights, file_bytes: container.file_bytes() })
    }

    fn stored_bytes(&self) -> u64 {
        self.weights.iter().map(|weight| weight.stored_bytes).sum()
    }

    fn entropy_bytes(&self) -> f64 {
        self.weights.iter().map(CodedWeight::entropy_bytes).sum()
    }

    /// The share of the file that codes at their entropy would spare, in percent.
    fn spared(&self) -> f64 {
        (self.stored_bytes() as f64 - self.entropy_bytes()) / self.file_bytes as f64 * 100.0
    }

    pub(super) fn print(&self, output: &Output) -> Result<(), Failure> {
        if self.weights.is_empty() {
            return output.line("no weight is stored as codes");
        }
        output.line(format_args!(
            "{:<28} {:>5} {:>9} {:>9}  share of each code, %",
            "codes of", "bits", "stored", "entropy"
        ))?;
        for weight in &self.weights {
            let total = weight.count().max(1) as f64;
            let shares = match weight.histogram.len() {
                0..=SHOWN_LEVELS => {
                    let share = |&count: &u64| format!("{:.1}", count as f64 / total * 100.0);
                    weight.histogram.iter().map(share).collect::<Vec<_>>().join(" ")
                }
                levels => {
                    let used = weight.histogram.iter().filter(|&&count| count > 0).count();
                    format!("{used} of {levels} codes occur")
                }
            };
            output.line(format_args!(
                "{:<28} {:>5} {:>9.3} {:>9.3}  {shares}",
                weight.name.trim_end_matches(".weight"),
                weight.bits,
                weight.stored_bits(),
                weight.entropy_bits()
            ))?;
        }
        output.line(format_args!(
            "codes take {} bytes, at their entropy {:.0}: {:.1} % of the file",
            self.stored_bytes(),
            self.entropy_bytes(),
            self.spared()
        ))
    }

    pub(super) fn document(&self) -> Value {
        let weights: Vec<Value> = self
            .weights
            .iter()
            .map(|weight| {
                json!({
                    "name": weight.name,
                    "bits": weight.bits.parse::<f64>().unwrap_or(f64::NAN),
                    "histogram": weight.histogram,
                    "stored_bits_per_weight": weight.stored_bits(),
                    "entropy_bits_per_weight": weight.entropy_bits(),
                })
            })
            .collect();
        json!({
            "weights": weights,
            "stored_bytes": self.stored_bytes(),
            "entropy_bytes": self.entropy_bytes(),
            "spared_percent_of_file": self.spared(),
        })
    }
}
