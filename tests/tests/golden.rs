//! Beacon against exact expected codes, on every device.
//!
//! The cases under `fixtures/golden` were made by an independent NumPy implementation in f64 and
//! kept only where every code of every stage is the same under small noise on the inputs, so a
//! careful f32 implementation has to match them exactly.

use std::fs;

use burn::tensor::Tensor;
use fresnel_quantizer::algorithm::alphabet::Alphabet;
use fresnel_quantizer::algorithm::beacon::{ColumnOrder, Options, Solution, solve};
use fresnel_quantizer::algorithm::gptq::{RoundingOrder, Solver};
use fresnel_quantizer::algorithm::method::Layer;
use fresnel_quantizer::algorithm::rtn;
use fresnel_quantizer::algorithm::{Method, beacon_plus};
use fresnel_quantizer::calibration::fisher::Information;
use fresnel_quantizer::calibration::{
    Accumulator, Batch, DifferenceProducts, Statistics, StreamDifference, WeightTable,
};
use fresnel_quantizer::device::Device;
use fresnel_quantizer::vit::BlockLinear;
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
        let correction = !self.fields["Xt"].is_null();
        let inputs = self.upload(device, if correction { "Xt" } else { "X" }, "N");
        let target = correction.then(|| self.upload(device, "X", "N"));
        let mut sums = Accumulator::new(self.size("N"), correction);
        let batch = Batch { inputs, target, weights: None };
        sums.add(&batch.products().expect("statistics"));
        sums.finish()
    }

    /// A matrix of the case whose rows hold as many values as `width` says.
    fn upload(&self, device: &Device, field: &str, width: &str) -> Tensor<2> {
        let values: Vec<f32> = self.numbers(field).into_iter().map(|x| x as f32).collect();
        let (length, columns) = (values.len(), self.size(width));
        device.matrix(values, length / columns, columns)
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

/// Compares values whose errors are those of the largest among them: sums of f32 products.
fn assert_close_as_a_whole(what: &str, found: &[f64], expected: &[f64]) {
    let largest = expected.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    let scaled =
        |values: &[f64]| -> Vec<f64> { values.iter().map(|value| 1.0 + value / largest).collect() };
    assert_close(what, &scaled(found), &scaled(expected));
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

#[test]
fn gptq_in_both_orders() {
    for device in devices("GPTQ") {
        for case in cases("b") {
            let statistics = case.statistics(&device);
            let alphabet = Alphabet::asymmetric(&case.weights(), case.size("C"), case.levels());
            for (order, field) in [
                (RoundingOrder::Natural, "gptq_codes"),
                (RoundingOrder::DecreasingNorm, "gptq_actorder_codes"),
            ] {
                let solver = Solver::new(&device, &statistics, order, 0.01).expect("a solver");
                let codes = solver.codes(&case.weights(), &alphabet).expect("codes");
                assert_eq!(codes, case.codes(field), "{} on {device}: {field}", case.name);
            }
        }
    }
}

/// Codes, scale, offset and bias of a Beacon+ case.
fn check_plus(case: &Case, device: &Device, layer: &Layer, place: &dyn Fn(&str) -> String) {
    let method = Method::BeaconPlus(beacon_plus::Options::default());
    let linear = method.solve(device, layer).expect("an answer").linear;
    let (inputs, channels) = (linear.inputs, linear.outputs);
    let transposed = |values: &[f32]| -> Vec<f32> {
        (0..inputs)
            .flat_map(|row| (0..channels).map(move |channel| values[channel * inputs + row]))
            .collect()
    };
    let codes: Vec<f32> = linear.codes.iter().map(|&code| f32::from(code)).collect();
    let codes: Vec<u8> = transposed(&codes).iter().map(|&code| code as u8).collect();
    assert_eq!(codes, case.codes("codes"), "{}", place("codes"));
    let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
    assert_close(&place("scale"), &wide(&linear.scale), &case.numbers("scale"));
    assert_close(&place("offset"), &wide(&linear.offset), &case.numbers("offset"));
    if let Some(change) = method.bias_change(layer, &transposed(&linear.dequantize())) {
        for (found, expected) in change.iter().zip(case.numbers("bias_delta")) {
            assert!(
                (f64::from(*found) - expected).abs() < 1e-4,
                "{}: {found}, {expected}",
                place("bias")
            );
        }
    }
}

#[test]
fn beacon_plus_gives_the_expected_codes_scales_offsets_and_biases() {
    let cases = cases("plus");
    assert_eq!(cases.len(), 5, "Beacon+ cases found");
    for device in devices("Beacon+ cases") {
        for case in &cases {
            let statistics = case.statistics(&device);
            let layer = Layer {
                weights: &case.weights(),
                statistics: &statistics,
                stream: None,
                has_bias: case.fields["bias"].as_bool().expect("a flag"),
                levels: case.levels(),
            };
            check_plus(case, &device, &layer, &|what| format!("{} on {device}: {what}", case.name));
        }
    }
}

#[test]
fn token_weights_partial_error_correction_and_stream_correction() {
    let cases = cases("stats");
    assert_eq!(cases.len(), 2, "cases of layer statistics found");
    for device in devices("layer statistics") {
        for case in &cases {
            let place = |what: &str| format!("{} on {device}: {what}", case.name);
            let inputs = case.upload(&device, "Xt", "N");
            let float = case.upload(&device, "X", "N");
            let strength = case.fields["a"].as_f64().expect("a strength");
            let target = inputs.clone() + (float - inputs.clone()) * strength;
            let rows = case.size("images") * case.size("tokens");
            let weights = device.matrix(
                case.numbers("weights").into_iter().map(|x| x as f32).collect(),
                rows,
                1,
            );
            let mut sums = Accumulator::new(case.size("N"), true);
            let batch = Batch {
                inputs: inputs.clone(),
                target: Some(target),
                weights: Some(weights.clone()),
            };
            sums.add(&batch.products().expect("statistics"));
            let statistics = sums.finish();
            let stream = (!case.fields["r"].is_null()).then(|| {
                let difference = case.upload(&device, "r", "C") - case.upload(&device, "rq", "C");
                let mut sums = StreamDifference::new(case.size("N"), case.size("C"));
                let products = DifferenceProducts::new(inputs, difference, Some(weights));
                sums.add(&products.expect("statistics"));
                sums
            });
            let centred = statistics.clone().centred();
            assert_close_as_a_whole(&place("G"), centred.gram_matrix(), &case.numbers("G"));
            assert_close_as_a_whole(&place("M"), centred.cross_matrix(), &case.numbers("M"));
            let correction = case.fields["b"].as_f64().expect("a strength");
            if let Some(stream) = &stream {
                let found = stream
                    .target_weights(&statistics, &centred, &case.weights(), correction)
                    .expect("target weights");
                assert_close_as_a_whole(&place("W1"), &found, &case.numbers("W1"));
            }
            let layer = Layer {
                weights: &case.weights(),
                statistics: &statistics,
                stream: stream.as_ref().map(|stream| (stream, correction)),
                has_bias: true,
                levels: 4,
            };
            check_plus(case, &device, &layer, &place);
        }
    }
}

#[test]
fn the_class_token_counts_as_often_as_asked() {
    let case = cases("stats_class").remove(0);
    let (images, tokens) = (case.size("images"), case.size("tokens"));
    let config = serde_json::json!({
        "architecture": "vit_tiny_patch16_224",
        "model_args": {"img_size": [16, 16 * (tokens - 1)], "patch_size": 16}
    });
    let config = fresnel_quantizer::import::HubConfig::parse(config.to_string().as_bytes())
        .and_then(|hub| hub.vit_config())
        .expect("a configuration");
    let factor = case.fields["class_factor"].as_f64().expect("a factor");
    let device = Device::cpu();
    let found = |table: WeightTable| {
        let rows = table.layer(0, BlockLinear::Qkv).rows(&device, 0, images * tokens)?;
        let values = fresnel_quantizer::device::read(rows).expect("values");
        Some(values.into_iter().map(f64::from).collect::<Vec<f64>>())
    };
    let weights = found(WeightTable::class_token(&config, factor)).expect("weights");
    assert_close("class token weights", &weights, &case.numbers("weights"));
    assert!(found(WeightTable::Uniform).is_none());
}

#[test]
fn fisher_weights_are_those_of_the_reference() {
    let case = cases("stats_fisher").remove(0);
    let information: Vec<f32> =
        case.numbers("grad_sq").into_iter().map(|value| value as f32).collect();
    let device = Device::cpu();
    let rows = information.len();
    let table = WeightTable::fisher(&Information { layers: vec![information] });
    let weights = table.layer(0, BlockLinear::Qkv).rows(&device, 0, rows).expect("weights");
    let found = fresnel_quantizer::device::read(weights).expect("values");
    let found: Vec<f64> = found.into_iter().map(f64::from).collect();
    assert_close("Fisher weights", &found, &case.numbers("weights"));
}
