//! The block kernels on the GPU choose what the host's cores choose.

use fresnel_quantizer::algorithm::block::BLOCK;
use fresnel_quantizer::algorithm::gptq::RoundingOrder;
use fresnel_quantizer::algorithm::method::{Answer, GptqOptions, Layer};
use fresnel_quantizer::algorithm::{Method, beacon, beacon_plus, comq};
use fresnel_quantizer::calibration::images::Selection;
use fresnel_quantizer::calibration::streams::{Gathering, Walk, gather};
use fresnel_quantizer::calibration::{
    Accumulator, Batch, CalibrationImages, LayerWeights, Statistics,
};
use fresnel_quantizer::device::{Device, DeviceKind, read};
use fresnel_quantizer::import::{self, Source};
use fresnel_quantizer::vit::{Block, BlockLinear, Embedding};
use fresnel_tests::{devices, noise, real_data};

fn gpu(test: &str) -> Option<Device> {
    devices(test).into_iter().find(|device| device.kind() == DeviceKind::Gpu)
}

/// Correlated inputs with strong and weak features, and heavy-tailed weights.
fn layer(inputs: usize, channels: usize, corrected: bool) -> (Statistics, Vec<f32>) {
    let device = Device::cpu();
    let rows = 4 * inputs;
    let rank = 12;
    let (causes, mixing) = (noise(rows * rank, 1), noise(rank * inputs, 2));
    let mut values = noise(rows * inputs, 3);
    for (row, causes) in values.chunks_exact_mut(inputs).zip(causes.chunks_exact(rank)) {
        for (j, value) in row.iter_mut().enumerate() {
            let mixed: f32 = (0..rank).map(|r| causes[r] * mixing[r * inputs + j]).sum();
            *value = (*value + mixed) * (1.0 + (j % 11) as f32 * 0.3);
        }
    }
    let upload = |values: Vec<f32>| device.matrix(values, rows, inputs);
    let target = corrected.then(|| {
        let drift = noise(rows * inputs, 4);
        upload(values.iter().zip(drift).map(|(x, noise)| x + 0.2 * noise).collect())
    });
    let mut sums = Accumulator::new(inputs, corrected);
    let batch = Batch { inputs: upload(values), target, weights: None };
    sums.add(&batch.products().expect("statistics"));
    let weights = noise(inputs * channels, 5).into_iter().map(|w| 0.1 * w / (1.2 - w.abs()));
    (sums.finish(), weights.collect())
}

fn methods() -> Vec<Method> {
    let acting = GptqOptions { order: RoundingOrder::DecreasingNorm, ..GptqOptions::default() };
    vec![
        Method::Gptq(acting),
        Method::Comq(comq::Options::default()),
        Method::Beacon(beacon::Options::default()),
        Method::BeaconPlus(beacon_plus::Options::default()),
    ]
}

/// Codes may differ where rounding decides between levels that are equally good; 256 levels lie so
/// close together that it often does, and only their error is compared.
fn assert_same_choices((method, place): (&str, &str), on_cpu: &Answer, on_gpu: &Answer) {
    let codes = on_cpu.linear.codes.iter().zip(&on_gpu.linear.codes);
    let different = codes.filter(|(cpu, gpu)| cpu != gpu).count();
    let share = different as f64 / on_cpu.linear.codes.len() as f64;
    // Beacon+ picks each channel's start from many; two that are equally good lead to other codes.
    let one_channel = 1.0 / on_cpu.linear.outputs as f64;
    let most = if method == "beacon-plus" { one_channel.max(1e-3) } else { 1e-3 };
    let fine = on_cpu.linear.codes.iter().any(|&code| code > 15);
    let (share_allowed, error_allowed) = if fine { (1.0, 1e-2) } else { (most, 1e-3) };
    assert!(share <= share_allowed, "{place}: {different} codes differ, {share}");
    let error = |answer: &Answer| *answer.relative_errors.last().expect("an error");
    let (cpu, gpu) = (error(on_cpu), error(on_gpu));
    assert!((cpu - gpu).abs() <= error_allowed * cpu, "{place}: error {gpu} instead of {cpu}");
}

#[test]
fn the_gpu_chooses_the_same_codes_on_larger_layers() {
    let Some(gpu) = gpu("larger layers") else { return };
    for corrected in [false, true] {
        // The last block is short, and so is the last group of channels.
        let (statistics, weights) = layer(5 * BLOCK + 7, 83, corrected);
        for method in methods() {
            for levels in [3, 4, 8, 16, 256] {
                let place = format!("{}, {levels} levels, corrected: {corrected}", method.name());
                let layer = Layer {
                    weights: &weights,
                    statistics: &statistics,
                    stream: None,
                    has_bias: true,
                    levels,
                };
                let answer = |device| method.solve(device, &layer).expect("an answer");
                assert_same_choices(
                    (method.name(), &place),
                    &answer(&Device::cpu()),
                    &answer(&gpu),
                );
            }
        }
    }
}

#[test]
fn the_gpu_chooses_the_same_codes_on_real_layers() {
    let Some(shared) = real_data("the GPU on real layers") else { return };
    let Some(gpu) = gpu("real layers") else { return };
    let cpu = Device::cpu();
    let source = Source::locate(&shared.join("models/deit_tiny_patch16_224"), None);
    let model = import::load(&source.expect("a checkpoint")).expect("a model");
    let images = CalibrationImages::select(
        &shared.join("images/imagenet_compat/calibration.csv"),
        Selection { count: Some(16), seed: 0, strict: true },
        (&model.preprocessing, model.config.in_channels),
        0,
    );
    let embedding = Embedding::load(&cpu, &model.weights, &model.config);
    let block = Block::load(&cpu, &model.weights, &model.config, 0);
    let [mut walk] =
        Walk::begin(&cpu, [&embedding], &images.expect("images"), |_| {}).expect("streams");
    let gathering = Gathering {
        error_correction: 0.0,
        token_weights: LayerWeights::default(),
        stream_difference: false,
    };
    for linear in [BlockLinear::Qkv, BlockLinear::Projection] {
        let (statistics, _) =
            gather((&cpu, &model.config), (&walk, &block), None, linear, gathering)
                .expect("statistics");
        let weights = read(block.linear(linear).weight.clone()).expect("weights");
        for method in methods() {
            let place = format!("{} of {}", method.name(), linear.name());
            let layer = Layer {
                weights: &weights,
                statistics: &statistics,
                stream: None,
                has_bias: true,
                levels: 4,
            };
            let answer = |device| method.solve(device, &layer).expect("an answer");
            assert_same_choices((method.name(), &place), &answer(&cpu), &answer(&gpu));
        }
        walk.pass(&cpu, &block, linear);
    }
}
