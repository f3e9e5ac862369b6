//! No data-aware method leaves a channel worse than round to nearest does, whatever the statistics.

use fresnel_quantizer::algorithm::gptq::RoundingOrder;
use fresnel_quantizer::algorithm::method::{GptqOptions, Layer};
use fresnel_quantizer::algorithm::{
    Method, QuantizedLinear, beacon, beacon_plus, comq, rtn, transpose,
};
use fresnel_quantizer::calibration::{Accumulator, Batch, Statistics};
use fresnel_quantizer::device::Device;
use fresnel_runtime::ErrorKind;
use fresnel_tests::{devices, noise};

const INPUTS: usize = 40;
const CHANNELS: usize = 19;

/// Weights with a zero channel, a constant one and one with a single outlier.
fn weights() -> Vec<f32> {
    let mut weights = noise(INPUTS * CHANNELS, 3);
    for row in weights.chunks_exact_mut(CHANNELS) {
        row[0] = 0.0;
        row[1] = 0.25;
        row[2] *= 0.01;
    }
    weights[5 * CHANNELS + 2] = 4.0;
    weights
}

/// Calibration inputs by name, rows of [`INPUTS`] values.
fn inputs() -> Vec<(&'static str, Vec<f32>)> {
    let plain = noise(200 * INPUTS, 5);
    let mut dead = plain.clone();
    dead.chunks_exact_mut(INPUTS).for_each(|row| row[7..19].fill(0.0));
    let mut low_rank = plain.clone();
    for row in low_rank.chunks_exact_mut(INPUTS) {
        for j in 3..INPUTS {
            row[j] = row[j % 3] * (j as f32 * 0.1 - 2.0);
        }
    }
    let mut outliers = plain.clone();
    outliers.chunks_exact_mut(INPUTS).for_each(|row| row[11] += 300.0);
    vec![
        ("plain", plain.clone()),
        ("a single row", noise(INPUTS, 9)),
        ("fewer rows than inputs", noise(12 * INPUTS, 11)),
        ("inputs that never vary", noise(INPUTS, 13).repeat(50)),
        ("dead inputs", dead),
        ("rank three", low_rank),
        ("an input with a large mean", outliers),
        ("tiny inputs", plain.iter().map(|x| x * 1e-12).collect()),
        ("nothing but zeros", vec![0.0; 30 * INPUTS]),
    ]
}

fn statistics(device: &Device, rows: &[f32], corrected: bool) -> Statistics {
    let count = rows.len() / INPUTS;
    let upload = |values: Vec<f32>| device.matrix(values, count, INPUTS);
    let mut sums = Accumulator::new(INPUTS, corrected);
    let target = corrected.then(|| {
        let drift = noise(rows.len(), 17);
        upload(rows.iter().zip(drift).map(|(x, noise)| x + 0.1 * x.abs() * noise).collect())
    });
    let batch = Batch { inputs: upload(rows.to_vec()), target, weights: None };
    sums.add(&batch.products().expect("statistics"));
    sums.finish()
}

fn methods() -> Vec<Method> {
    let acting = GptqOptions { order: RoundingOrder::DecreasingNorm, ..GptqOptions::default() };
    let symmetric = beacon::Options { symmetric: true, ..beacon::Options::default() };
    let fixed = comq::Options { scale: comq::ScaleRule::Fixed(0.65), ..comq::Options::default() };
    vec![
        Method::Gptq(GptqOptions::default()),
        Method::Gptq(acting),
        Method::GptqStar(GptqOptions::default(), beacon::Options::default()),
        Method::Comq(comq::Options::default()),
        Method::Comq(fixed),
        Method::Beacon(beacon::Options::default()),
        Method::Beacon(symmetric),
        Method::BeaconPlus(beacon_plus::Options::default()),
    ]
}

/// `D'G D + 2 D'(G - M) w` with `D = w^ - w`, per channel: the error but for a constant.
fn errors(statistics: &Statistics, weights: &[f32], linear: &QuantizedLinear) -> Vec<f64> {
    let quantized = linear.dequantize();
    let multiply = |matrix: &[f64], vector: &[f64]| -> Vec<f64> {
        let product = |row: &[f64]| row.iter().zip(vector).map(|(a, b)| a * b).sum();
        matrix.chunks_exact(INPUTS).map(product).collect()
    };
    (0..CHANNELS)
        .map(|channel| {
            let float: Vec<f64> =
                weights.iter().skip(channel).step_by(CHANNELS).map(|&w| f64::from(w)).collect();
            let difference: Vec<f64> = quantized[channel * INPUTS..]
                .iter()
                .zip(&float)
                .map(|(&quantized, float)| f64::from(quantized) - float)
                .collect();
            let curve = multiply(statistics.gram_matrix(), &difference);
            let (gram, cross) = (
                multiply(statistics.gram_matrix(), &float),
                multiply(statistics.cross_matrix(), &float),
            );
            (0..INPUTS).map(|j| difference[j] * (curve[j] + 2.0 * (gram[j] - cross[j]))).sum()
        })
        .collect()
}

#[test]
fn no_channel_is_worse_than_rounded_to_nearest() {
    let device = Device::cpu();
    let weights = weights();
    for (name, rows) in inputs() {
        for corrected in [false, true] {
            let statistics = statistics(&device, &rows, corrected);
            for method in methods() {
                let is_plus = matches!(method, Method::BeaconPlus(..));
                let measured =
                    if is_plus { statistics.clone().centred() } else { statistics.clone() };
                let energies = statistics.gram_matrix().iter().step_by(INPUTS + 1);
                let energy: f64 = energies.sum::<f64>() / INPUTS as f64;
                let symmetric = matches!(&method, Method::Beacon(options) if options.symmetric);
                for levels in [3, 4, 8, 16, 256] {
                    let place = format!(
                        "{name}, corrected: {corrected}, {} {:?}, {levels} levels",
                        method.name(),
                        method.settings()
                    );
                    let layer = Layer {
                        weights: &weights,
                        statistics: &statistics,
                        stream: None,
                        has_bias: true,
                        levels,
                    };
                    let answer = method
                        .solve(&device, &layer)
                        .unwrap_or_else(|error| panic!("{place}: {error}"));
                    let linear = &answer.linear;
                    let valid = linear.scale.iter().all(|c| c.is_finite() && *c >= 0.0)
                        && linear.offset.iter().all(|d| d.is_finite())
                        && linear.codes.iter().all(|&code| u32::from(code) < levels)
                        && answer.relative_errors.iter().all(|error| error.is_finite());
                    assert!(valid, "{place}: {answer:?}");
                    let change = method
                        .bias_change(&layer, &transpose(&linear.dequantize(), CHANNELS, INPUTS));
                    assert!(change.is_none_or(|change| change.iter().all(|x| x.is_finite())));
                    let nearest = rtn::quantize(&weights, CHANNELS, levels, symmetric);
                    let pairs = errors(&measured, &weights, linear)
                        .into_iter()
                        .zip(errors(&measured, &weights, &nearest));
                    for (channel, (error, allowed)) in pairs.enumerate() {
                        // f32 products of these sizes.
                        let slack = 1e-3 * allowed.abs() + 1e-6 * energy;
                        assert!(
                            error <= allowed + slack,
                            "{place}, channel {channel}: {error} above {allowed}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn channels_do_fall_back_and_are_counted() {
    for device in devices("falling back") {
        let rows = noise(200 * INPUTS, 5);
        let statistics = statistics(&device, &rows, false);
        let weights = weights();
        let layer = Layer {
            weights: &weights,
            statistics: &statistics,
            stream: None,
            has_bias: true,
            levels: 256,
        };
        // A tenth of the min-max scale clips nearly everything.
        let clipping =
            comq::Options { scale: comq::ScaleRule::Fixed(0.1), ..comq::Options::default() };
        let answer = Method::Comq(clipping).solve(&device, &layer).expect("an answer");
        assert!(answer.rounded_channels > CHANNELS / 2, "{}", answer.rounded_channels);
        let nearest = rtn::quantize(&weights, CHANNELS, 256, false);
        assert_eq!(answer.linear.scale[5], nearest.scale[5]);
        assert_eq!(
            answer.linear.codes[5 * INPUTS..6 * INPUTS],
            nearest.codes[5 * INPUTS..][..INPUTS]
        );
        // GPTQ at 2 bit on the same inputs is better than round to nearest nearly everywhere.
        let gptq = Method::Gptq(GptqOptions::default());
        let answer = gptq.solve(&device, &Layer { levels: 4, ..layer }).expect("an answer");
        assert!(answer.rounded_channels < CHANNELS / 2, "{}", answer.rounded_channels);
        let error = *answer.relative_errors.last().expect("an error");
        let energy: f64 =
            statistics.target_energy(&device, &weights).expect("energies").iter().sum();
        let expected: f64 = errors(&statistics, &weights, &answer.linear).iter().sum();
        assert!((error - (expected / energy).sqrt()).abs() < 1e-3 * error, "{error}");
    }
}

#[test]
fn values_that_are_not_finite_are_refused() {
    let device = Device::cpu();
    let mut rows = noise(60 * INPUTS, 5);
    let sound = statistics(&device, &rows, false);
    rows[77] = f32::NAN;
    let broken = statistics(&device, &rows, false);
    let weights = weights();
    let mut broken_weights = weights.clone();
    broken_weights[9] = f32::INFINITY;
    for method in methods() {
        for (statistics, weights, word) in
            [(&broken, &weights, "inputs"), (&sound, &broken_weights, "weights")]
        {
            let layer = Layer { weights, statistics, stream: None, has_bias: false, levels: 4 };
            let error = method.solve(&device, &layer).expect_err("no answer");
            assert_eq!(error.kind(), ErrorKind::Invalid, "{}: {error}", method.name());
            assert!(error.to_string().contains(word), "{}: {error}", method.name());
        }
    }
}
