//! What calibration makes beside the statistics of `golden.rs`: Fisher information, the search of
//! constants, the cache.

use std::time::Duration;

use fresnel_quantizer::algorithm::{CalibrateOn, Method, StatisticsOptions, beacon, beacon_plus};
use fresnel_quantizer::calibration::fisher::information;
use fresnel_quantizer::calibration::{
    Cache, Calibration, CalibrationImages, TokenWeights, WeightTable,
};
use fresnel_quantizer::device::Device;
use fresnel_quantizer::import::{self, FloatModel, Source};
use fresnel_quantizer::pipeline::quantize;
use fresnel_quantizer::search::{self, Subject};
use fresnel_quantizer::widths::{LayerWidths, StoredWidth};
use fresnel_runtime::format::CodeWidth;
use fresnel_runtime::model::config::Pooling;
use fresnel_tests::{devices, fixture};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn model(name: &str) -> FloatModel {
    let folder = fixture("tiny_variants").join(name);
    import::load(&Source::locate(&folder, None).expect("a checkpoint")).expect("a model")
}

/// Images of random pixels, prepared already.
fn images(model: &FloatModel, count: usize) -> CalibrationImages {
    let [height, width] = model.config.image_size;
    let values = (model.config.in_channels * height * width) as usize;
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let image = |_| (0..values).map(|_| random.random::<f32>() * 4.0 - 2.0).collect();
    CalibrationImages::from_pixels((0..count).map(image).collect())
}

#[test]
fn tokens_that_no_answer_reads_have_no_information() {
    let model = model("deit3_like");
    assert_eq!(model.config.pooling, Pooling::Token);
    let images = images(&model, 3);
    let tokens = model.config.tokens() as usize;
    let mut on_cpu = None;
    for device in devices("Fisher information") {
        let mut done = 0;
        let found = information(&model, &images, &device, |count| done += count).expect("works");
        assert_eq!(done, 3, "images told of on {device}");
        assert_eq!(found.layers.len(), 4 * model.config.depth as usize);
        for layer in &found.layers {
            assert_eq!(layer.len(), 3 * tokens, "on {device}");
            assert!(layer.iter().all(|f| f.is_finite() && *f >= 0.0), "on {device}");
            // Every layer's class token reaches the answer.
            assert!(layer.chunks(tokens).all(|image| image[0] > 0.0), "on {device}");
        }
        // After the last attention only the class token is read.
        for layer in &found.layers[found.layers.len() - 3..] {
            let patches = layer.chunks(tokens).flat_map(|image| &image[1..]);
            assert!(patches.into_iter().all(|&f| f == 0.0), "on {device}");
        }
        let first = &found.layers[0];
        assert!(first.iter().all(|&f| f > 0.0), "every token is attended to on {device}");
        let cpu = on_cpu.get_or_insert_with(|| found.clone());
        for (a, b) in cpu.layers.iter().flatten().zip(found.layers.iter().flatten()) {
            assert!((a - b).abs() <= 1e-3 * a.abs().max(1e-9), "{a} and {b} on {device}");
        }
    }
}

#[test]
fn information_of_pooled_and_headless_models_covers_all_tokens() {
    for name in ["average_pool", "grey_features"] {
        let model = model(name);
        let found = information(&model, &images(&model, 2), &Device::cpu(), |_| {}).expect(name);
        let last = found.layers.last().expect("layers");
        let expected = if model.config.pooling == Pooling::Token { 2 } else { last.len() };
        let seen = last.iter().filter(|f| **f > 0.0).count();
        assert!(seen >= expected, "{name}: {seen} tokens with information, expected {expected}");
        let weights = WeightTable::fisher(&found);
        let WeightTable::Layers(layers) = weights else { panic!("{name}: one weight per token") };
        for layer in layers {
            let mean = layer.iter().map(|&w| f64::from(w)).sum::<f64>() / layer.len() as f64;
            assert!((mean - 1.0).abs() < 1e-5, "{name}: weights of mean {mean}");
        }
    }
}

#[test]
fn the_search_keeps_what_is_closest_to_the_float_model() {
    let model = model("deit3_like");
    let images = images(&model, 12);
    let device = Device::cpu();
    let information = information(&model, &images, &device, |_| {}).expect("information");
    let method = Method::BeaconPlus(beacon_plus::Options::default());
    let widths = LayerWidths::uniform(CodeWidth::Two);
    let edge = StoredWidth::Codes(CodeWidth::Eight);
    let subject = Subject { model: &model, method: &method, widths: &widths, edge };
    let start = StatisticsOptions::for_beacon_plus(CodeWidth::Two);
    let calibration = Calibration { images: &images, information: Some(&information), cache: None };
    let search = |limit| {
        let mut told = 0;
        let trials = search::trials(subject, start, calibration, &device, limit, |_| told += 1);
        let trials = trials.expect("a search");
        assert_eq!(told, trials.len());
        trials
    };
    let trials = search(Duration::from_secs(600));
    assert_eq!(trials[0].statistics, start);
    assert!(trials.len() >= 8, "{} trials", trials.len());
    let best = search::best(&trials).expect("a trial");
    assert!(trials.iter().all(|trial| trial.divergence >= best.divergence));
    assert!(trials.iter().any(|t| t.statistics.token_weights == TokenWeights::ClassToken(10.0)));
    assert_eq!(search(Duration::ZERO).len(), 1, "no time left after the first trial");

    let few = images.part(0..4);
    let calibration = Calibration { images: &few, information: None, cache: None };
    let error =
        search::trials(subject, start, calibration, &device, Duration::MAX, |_| {}).unwrap_err();
    assert!(error.to_string().contains("at least 8 images"), "{error}");
}

#[test]
fn the_cache_changes_no_code_and_survives_damage() {
    let model = model("deit3_like");
    let images = images(&model, 6);
    let device = Device::cpu();
    let method = Method::Beacon(beacon::Options::default());
    let on_float =
        StatisticsOptions { calibrate_on: CalibrateOn::Float, ..StatisticsOptions::default() };
    let run = |cache: Option<&Cache>| {
        let calibration = Calibration { images: &images, information: None, cache };
        let widths = LayerWidths::uniform(CodeWidth::Three);
        let edge = StoredWidth::Float32;
        quantize(&model, (&method, &on_float), (&widths, edge), Some(calibration), &device, |_| {})
            .expect("a model")
            .layers
    };
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let cache = Cache::open(scratch.path(), &model, &images, &device).expect("a cache");
    let layer = "blocks.1.mlp.fc2";
    let kept = |cache: &Cache| cache.statistics(layer, TokenWeights::Uniform);
    assert!(kept(&cache).is_none());
    let without = run(None);
    assert_eq!(run(Some(&cache)), without, "filling the cache");
    assert!(kept(&cache).is_some());
    assert!(cache.statistics(layer, TokenWeights::ClassToken(2.0)).is_none());
    assert_eq!(run(Some(&cache)), without, "reading the cache");

    let folder = std::fs::read_dir(scratch.path()).expect("a folder").next().expect("one");
    let file = folder.expect("one").path().join("blocks.1.mlp.fc2-none.safetensors");
    let mut bytes = std::fs::read(&file).expect("a file of the cache");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, &bytes).expect("damage");
    assert!(kept(&cache).is_none(), "damage is noticed");
    assert_eq!(run(Some(&cache)), without, "made anew");
    assert!(kept(&cache).is_some());

    let others = images.part(0..5);
    let other = Cache::open(scratch.path(), &model, &others, &device).expect("a cache");
    assert!(kept(&other).is_none(), "other images, other results");
}
