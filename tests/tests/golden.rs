//! Beacon against exact expected codes, on every device.
//!
//! The cases under `fixtures/golden` were made by an independent NumPy implementation in f64 and
//! kept only where every code of every stage is the same under small noise on the inputs, so a
//! careful f32 implementation has to match them exactly.

use std::fs;

use fresnel_quantizer::algorithm::alphabet::Alphabet;
use fresnel_quantizer::algorithm::beacon::{ColumnOrder, Options, Solution, solve};
use fresnel_quantizer::algorithm::rtn;
use fresnel_quantizer::calibration::{Accumulator, Statistics};
use fresnel_quantizer::device::Device;
use fresnel_tests::{devices, fixture};
use serde_json::Value;

/// Largest relative difference of scales and of cosines computed in f32.
const F32_TOLERANCE: f64 = 1e-4;

struct Case {
    name: String,
    fields: Value,
}

fn cases(prefix: &str) -> Vec<Case> {
    let mut paths: Vec<_> = fs::read_dir(fixture("golden"))
        .expect("golden cases")
        .map(|entry| entry.expect("a directory entry").path())
        .filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix)))
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| Case {
            name: path.file_stem().expect("a file name").to_string_lossy().into_owned(),
            fields: serde_json::from_slice(&fs::read(&path).expect("a case")).expect("JSON"),
        })
        .collect()
}

impl Case {
    fn numbers(&self, field: &str) -> Vec<f64> {
        flatten(&self.fields[field])
    }

    fn codes(&self, field: &str) -> Vec<u8> {
        codes(&self.fields[field])
    }

    fn weights(&self) -> Vec<f32> {
        self.numbers("W").into_iter().map(|x| x as f32).collect()
    }

    fn size(&self, field: &str) -> usize {
        self.fields[field].as_u64().expect("a size") as usize
    }

    fn levels(&self) -> u32 {
        self.size("levels") as u32
    }

    fn symmetric(&self) -> bool {
        self.fields["symmetric"].as_bool().expect("a flag")
    }

    fn options(&self) -> Options {
        Options {
            sweeps: self.size("K") as u32,
            symmetric: self.symmetric(),
            order: match self.fields["order"].as_str() {
                Some("norm") => ColumnOrder::Norm,
                Some("natural") => ColumnOrder::Natural,
                other => panic!("{}: order {other:?}", self.name),
            },
            reference_factor: self.fields["ref_factor"].as_f64(),
        }
    }

    fn statistics(&self, device: &Device) -> Statistics {
        let (rows, inputs) = (self.size("m"), self.size("N"));
        let upload = |field: &str| {
            device.matrix(self.numbers(field).into_iter().map(|x| x as f32).collect(), rows, inputs)
        };
        let correction = !self.fields["Xt"].is_null();
        let mut sums = Accumulator::new(inputs, correction);
        let added = if correction {
            sums.add(upload("Xt"), Some(upload("X")))
        } else {
            sums.add(upload("X"), None)
        };
        added.expect("statistics");
        sums.finish()
    }

    fn solve(&self, device: &Device) -> Solution {
        let statistics = self.statistics(device);
        solve(device, &statistics, &self.weights(), self.levels(), &self.options())
            .unwrap_or_else(|error| panic!("{} on {device}: {error}", self.name))
    }
}

fn flatten(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(flatten).collect(),
        number => vec![number.as_f64().expect("a number")],
    }
}

fn codes(value: &Value) -> Vec<u8> {
    flatten(value).into_iter().map(|code| code as u8).collect()
}

fn assert_close(what: &str, found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= F32_TOLERANCE * expected.abs().max(1e-6),
            "{what}[{index}]: {found} instead of {expected}"
        );
    }
}

fn check(case: &Case, device: &Device) {
    let solution = case.solve(device);
    let place = |what: &str| format!("{} on {device}: {what}", case.name);
    assert_eq!(solution.phases[0].codes, case.codes("codes_init"), "{}", place("initialization"));
    assert_eq!(solution.codes(), case.codes("codes"), "{}", place("codes"));
    assert_close(&place("scale"), &solution.scale, &case.numbers("scale"));
    let expected = case.fields["cosine_per_sweep"].as_array().expect("cosines");
    for (phase, (found, expected)) in solution.phases.iter().zip(expected).enumerate() {
        assert_close(
            &place(&format!("cosine of phase {phase}")),
            &found.cosine,
            &flatten(expected),
        );
    }
    if let Some(sweeps) = case.fields["codes_per_sweep"].as_array() {
        assert_eq!(solution.phases.len(), sweeps.len() + 1, "{}", place("number of sweeps"));
        for (sweep, expected) in sweeps.iter().enumerate() {
            let found = &solution.phases[sweep + 1].codes;
            assert_eq!(found, &codes(expected), "{}", place(&format!("sweep {sweep}")));
        }
        let error = solution.relative_errors().pop().expect("a phase");
        let expected = case.fields["rel_err"].as_f64().expect("an error");
        assert_close(&place("relative error"), &[error], &[expected]);
    }
}

#[test]
fn beacon_gives_the_expected_codes_at_every_stage() {
    let cases = cases("b");
    assert_eq!(cases.len(), 13, "golden cases found");
    for device in devices("golden cases") {
        for case in &cases {
            check(case, &device);
        }
    }
}

#[test]
fn beacon_handles_zero_one_sided_and_constant_channels_and_dead_inputs() {
    let cases = cases("edge");
    assert_eq!(cases.len(), 3, "edge cases found");
    for device in devices("edge cases") {
        for case in &cases {
            check(case, &device);
        }
    }
}

#[test]
fn min_max_grid_and_round_to_nearest() {
    for case in cases("b") {
        let channels = case.size("C");
        let alphabet = Alphabet::new(&case.weights(), channels, case.levels(), case.symmetric());
        assert_eq!(alphabet.zero, case.numbers("zero"), "{}: zero point", case.name);
        let asymmetric = Alphabet::asymmetric(&case.weights(), channels, case.levels());
        for (found, expected) in asymmetric.scale.iter().zip(case.numbers("minmax_scale")) {
            let tolerance = 1e-9 * expected.abs();
            assert!(
                case.symmetric() || (found - expected).abs() <= tolerance,
                "{}: scale {found} instead of {expected}",
                case.name
            );
        }
        let codes = rtn::codes(&case.weights(), &asymmetric);
        assert_eq!(codes, case.codes("rtn_codes"), "{}: codes", case.name);
    }
}

#[test]
fn sweeps_never_lower_the_cosine() {
    for case in cases("b") {
        let solution = case.solve(&Device::cpu());
        for pair in solution.phases.windows(2) {
            for (before, after) in pair[0].cosine.iter().zip(&pair[1].cosine) {
                assert!(after >= &(before - 1e-6), "{}: {after} after {before}", case.name);
            }
        }
    }
}
