//! COMQ against exact expected codes, and as a property: its error is not above round to nearest's.

use std::fs;

use fresnel_quantizer::algorithm::comq::{Options, ScaleRule, solve};
use fresnel_quantizer::algorithm::method::Layer;
use fresnel_quantizer::algorithm::{Method, QuantizedLinear, rtn};
use fresnel_quantizer::calibration::{Accumulator, Batch, Statistics};
use fresnel_quantizer::device::Device;
use fresnel_tests::{devices, fixture};
use serde_json::Value;

fn json(path: &str) -> Value {
    serde_json::from_slice(&fs::read(fixture(path)).expect("a fixture")).expect("JSON")
}

fn flatten(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(items) => items.iter().flat_map(flatten).collect(),
        number => vec![number.as_f64().expect("a number") as f32],
    }
}

fn statistics(device: &Device, golden: &Value) -> Statistics {
    let inputs = golden["N"].as_u64().expect("a size") as usize;
    let upload = |field: &str| {
        let values = flatten(&golden[field]);
        let rows = values.len() / inputs;
        device.matrix(values, rows, inputs)
    };
    let corrected = !golden["Xt"].is_null();
    let mut sums = Accumulator::new(inputs, corrected);
    let batch = Batch {
        inputs: upload(if corrected { "Xt" } else { "X" }),
        target: corrected.then(|| upload("X")),
        weights: None,
    };
    sums.add(&batch.products().expect("statistics"));
    sums.finish()
}

#[test]
fn comq_gives_the_expected_codes_and_scales() {
    let cases = json("comq/codes.json");
    let cases = cases.as_array().expect("cases");
    assert!(cases.len() >= 8, "{} cases found", cases.len());
    for device in devices("COMQ's golden cases") {
        for case in cases {
            let name = case["golden"].as_str().expect("a name");
            let rule = case["scale"].as_str().expect("a rule");
            let place = format!("{name}, scale {rule}, on {device}");
            let golden = json(&format!("golden/{name}.json"));
            let options = Options {
                iterations: case["iterations"].as_u64().expect("a count") as u32,
                scale: rule.parse().expect("a scale rule"),
            };
            let levels = golden["levels"].as_u64().expect("a count") as u32;
            let statistics = statistics(&device, &golden);
            let weights = flatten(&golden["W"]);
            let solution = solve(&device, &statistics, &weights, levels, &options).expect("codes");
            let expected: Vec<u8> =
                flatten(&case["codes"]).into_iter().map(|code| code as u8).collect();
            assert_eq!(solution.codes, expected, "{place}: codes");
            let zero: Vec<f32> = solution.alphabet.zero.iter().map(|&zero| zero as f32).collect();
            assert_eq!(zero, flatten(&case["zero"]), "{place}: zero points");
            for (found, expected) in solution.alphabet.scale.iter().zip(flatten(&case["scales"])) {
                let expected = f64::from(expected);
                assert!(
                    (found - expected).abs() <= 1e-4 * expected,
                    "{place}: {found}, {expected}"
                );
            }
        }
    }
}

/// `tr (W - W^)' G (W - W^)` in f64.
fn squared_error(statistics: &Statistics, weights: &[f32], linear: &QuantizedLinear) -> f64 {
    let (inputs, channels) = (linear.inputs, linear.outputs);
    let quantized = linear.dequantize();
    let gram = statistics.gram_matrix();
    (0..channels)
        .map(|channel| {
            let difference: Vec<f64> = (0..inputs)
                .map(|row| {
                    f64::from(weights[row * channels + channel])
                        - f64::from(quantized[channel * inputs + row])
                })
                .collect();
            gram.chunks_exact(inputs)
                .zip(&difference)
                .map(|(row, left)| {
                    left * row.iter().zip(&difference).map(|(g, right)| g * right).sum::<f64>()
                })
                .sum::<f64>()
        })
        .sum()
}

#[test]
fn the_error_is_not_above_that_of_round_to_nearest() {
    let device = Device::cpu();
    for name in ["b158_asym", "b2_asym", "b3_asym", "b4_asym", "b2_rankdef_m_lt_N"] {
        let golden = json(&format!("golden/{name}.json"));
        let statistics = statistics(&device, &golden);
        let weights = flatten(&golden["W"]);
        let channels = weights.len() / statistics.inputs();
        for levels in [3, 4, 8, 16, 256] {
            let nearest = rtn::quantize(&weights, channels, levels, false);
            let allowed = squared_error(&statistics, &weights, &nearest) * (1.0 + 1e-6);
            for scale in [ScaleRule::Updated, ScaleRule::Fixed(1.0)] {
                let method = Method::Comq(Options { scale, ..Options::default() });
                let layer = Layer {
                    weights: &weights,
                    statistics: &statistics,
                    stream: None,
                    has_bias: true,
                    levels,
                };
                let linear = method.solve(&device, &layer).expect("an answer").linear;
                let error = squared_error(&statistics, &weights, &linear);
                assert!(error <= allowed, "{name}, {levels} levels, {scale}: {error}, {allowed}");
            }
        }
    }
}
