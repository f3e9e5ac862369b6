//! A recipe as TOML: what a file keeps, and what [`super::Settings`] reads back.

use std::fmt::Write;

use super::Recipe;
use crate::device::DeviceKind;

/// How a calibration went, beside its recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calibrated {
    /// Number of images.
    pub images: usize,
    /// Where codes were chosen: the last bits of sums differ between devices.
    pub device: DeviceKind,
}

impl Calibrated {
    /// The device's name on the command line.
    pub fn device_name(self) -> &'static str {
        match self.device {
            DeviceKind::Cpu => "cpu",
            DeviceKind::Gpu => "gpu",
        }
    }
}

impl Recipe {
    /// The recipe as TOML. The same recipe gives the same text, and reading the text gives the same
    /// recipe.
    pub fn to_toml(&self, calibrated: Calibrated) -> String {
        let mut text = String::new();
        let mut widths = vec![("bits", self.bits.to_string())];
        widths.push(("edge_bits", self.edge_bits.to_string()));
        table(&mut text, "widths", &widths);
        if !self.layers.is_empty() {
            text.push_str("layers = [\n");
            for layer in &self.layers {
                // Writing to a string can't fail.
                let _ = writeln!(text, "  {},", string(&layer.to_string()));
            }
            text.push_str("]\n");
        }
        if self.bits.codes().is_none() {
            return text;
        }
        let mut method = vec![("name", self.method.name().to_owned())];
        method.extend(self.method.settings());
        table(&mut text, "method", &method);
        if self.method.needs_calibration() {
            table(&mut text, "statistics", &self.statistics.settings());
        }
        if let Some(tuning) = &self.tuning {
            let tuning = [
                ("tune", tuning.tuned.to_string()),
                ("labels", tuning.labels.is_some().to_string()),
                ("epochs", tuning.epochs.to_string()),
                ("streams", tuning.stream_weight.to_string()),
                ("held_back", tuning.held_back.to_string()),
            ];
            table(&mut text, "tuning", &tuning);
        }
        if self.needs_calibration() {
            let calibration = [
                ("images", calibrated.images.to_string()),
                ("seed", self.seed.to_string()),
                ("device", calibrated.device_name().to_owned()),
            ];
            table(&mut text, "calibration", &calibration);
        }
        text
    }
}

/// Writes a table of settings, whose values are spelled as on the command line.
fn table(text: &mut String, name: &str, settings: &[(&str, String)]) {
    if !text.is_empty() {
        text.push('\n');
    }
    let _ = writeln!(text, "[{name}]");
    for (key, value) in settings {
        let is_number = value.parse::<f64>().is_ok_and(f64::is_finite);
        let bare = is_number || matches!(value.as_str(), "true" | "false");
        let value = if bare { value.clone() } else { string(value) };
        let _ = writeln!(text, "{key} = {value}");
    }
}

/// A TOML string.
fn string(value: &str) -> String {
    toml::Value::String(value.to_owned()).to_string()
}
