//! The forward pass against the `f64` oracle, over the family and over every weight width.

use super::reference;
use super::synthetic::{block_config, file, model, pixels, plain_config};
use crate::format::{CodeWidth, Container, Encoding};
use crate::model::Model;
use crate::model::config::{Activation, Pooling, VitConfig};
use crate::session::{Compute, Session, SessionOptions};

/// Largest error of float arithmetic, as a part of the largest output.
const FLOAT_TOLERANCE: f64 = 1e-5;
/// The same for 8-bit activations. Random weights hold no redundancy that would average rounding
/// errors out, and tiny models have few terms per sum: trained models are an order of magnitude better.
const INTEGER_TOLERANCE: f64 = 0.1;

pub(super) const CODES: [CodeWidth; 5] =
    [CodeWidth::Ternary, CodeWidth::Two, CodeWidth::Three, CodeWidth::Four, CodeWidth::Eight];

const BATCH: usize = 3;

/// Largest difference to the oracle, as a part of the oracle's largest output.
fn error(bytes: &[u8], compute: Compute) -> f64 {
    let container = Container::from_bytes(bytes).unwrap();
    let config = &container.manifest().config;
    let tensors = reference::tensors(&container).unwrap();
    let input = pixels(config, BATCH);
    let wide: Vec<f64> = input.iter().copied().map(f64::from).collect();
    let expected = reference::forward(config, &tensors, &wide, BATCH);

    let model = Model::from_container(&container).unwrap();
    let options = SessionOptions { threads: 2, compute, ..Default::default() };
    let found = Session::new(&model, options).unwrap().run(&input, BATCH).unwrap();
    assert_eq!(found.len(), BATCH * config.output_features() as usize);
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0, |max: f64, value| max.max(value.abs()));
    let errors = found.iter().zip(&expected).map(|(f, e)| (f64::from(*f) - e).abs());
    errors.fold(0.0, f64::max) / largest
}

fn check_float(name: &str, config: &VitConfig) {
    config.validate().unwrap_or_else(|error| panic!("{name}: {error}"));
    let bytes = file(config, Encoding::F32, Encoding::F32, &[]);
    let error = error(&bytes, Compute::F32);
    assert!(error < FLOAT_TOLERANCE, "{name}: error {error:e}");
}

/// A named change of the plain config.
pub(super) type Change = (&'static str, fn(&mut VitConfig));

pub(super) const CHANGES: &[Change] = &[
    ("plain", |_| ()),
    ("grey", |c| c.in_channels = 1),
    ("one head", |c| c.num_heads = 1),
    ("tanh", |c| c.activation = Activation::GeluTanh),
    ("quick gelu", |c| c.activation = Activation::QuickGelu),
    ("layer scale", |c| c.layer_scale = true),
    ("no qkv bias", |c| c.qkv_bias = false),
    ("no bias after attention", |c| c.proj_bias = false),
    ("qk norm", |c| c.qk_norm = true),
    ("pre norm", |c| c.pre_norm = true),
    ("no final norm", |c| c.final_norm = false),
    ("fc norm on the class token", |c| c.fc_norm = true),
    ("no embed class", |c| c.no_embed_class = true),
    ("no position", |c| c.position_embedding = false),
    ("large epsilon", |c| c.norm_epsilon = 0.1),
    ("features", |c| c.num_classes = 0),
    ("many classes", |c| c.num_classes = 3000),
    ("registers", |c| c.register_tokens = 4),
    ("registers, no embed class", |c| {
        c.register_tokens = 4;
        c.no_embed_class = true;
    }),
    ("distilled", |c| c.distillation_token = true),
    ("distilled features", |c| {
        c.distillation_token = true;
        c.num_classes = 0;
    }),
    ("one patch", |c| c.patch_size = c.image_size),
    ("deep and narrow", |c| {
        c.depth = 5;
        c.embed_dim = 12;
        c.mlp_hidden = 5;
    }),
];

#[test]
fn family_matches_oracle() {
    for (name, change) in CHANGES {
        for mut config in [plain_config(), block_config()] {
            change(&mut config);
            check_float(name, &config);
        }
    }
}

#[test]
fn poolings_match_oracle() {
    for pooling in [Pooling::Average, Pooling::Max, Pooling::AverageMax] {
        for (class_token, register_tokens) in [(true, 0), (true, 3), (false, 0), (false, 2)] {
            for fc_norm in [true, false] {
                for (pool_include_prefix, num_classes) in [(true, 7), (false, 7), (false, 0)] {
                    for config in [plain_config(), block_config()] {
                        let config = VitConfig {
                            pooling,
                            class_token,
                            register_tokens,
                            fc_norm,
                            pool_include_prefix,
                            num_classes,
                            ..config
                        };
                        check_float(&format!("{config:?}"), &config);
                    }
                }
            }
        }
    }
}

#[test]
fn float_weights_of_16_bit_match_oracle() {
    let bytes = file(&plain_config(), Encoding::F16, Encoding::F16, &[]);
    let error = error(&bytes, Compute::F32);
    assert!(error < FLOAT_TOLERANCE, "error {error:e}");
}

#[test]
fn every_code_width_matches_oracle() {
    for (config, width) in
        CODES.into_iter().flat_map(|width| [plain_config(), block_config()].map(|c| (c, width)))
    {
        let config = VitConfig { layer_scale: true, ..config };
        for edge in [Encoding::F16, Encoding::Codes(CodeWidth::Eight), Encoding::Codes(width)] {
            let bytes = file(&config, Encoding::Codes(width), edge, &[]);
            let float = error(&bytes, Compute::F32);
            assert!(float < FLOAT_TOLERANCE, "{width:?}, edges {edge:?}: error {float:e}");
            let integer = error(&bytes, Compute::Int8);
            assert!(integer < INTEGER_TOLERANCE, "{width:?}, edges {edge:?}: error {integer:e}");
            assert!(integer > float, "{width:?}: int8 ran in float");
        }
    }
}

#[test]
fn int8_runs_float_matrices_in_float() {
    let bytes = file(&plain_config(), Encoding::F16, Encoding::F32, &[]);
    let error = error(&bytes, Compute::Int8);
    assert!(error < FLOAT_TOLERANCE, "error {error:e}");
}

/// Results must not depend on threads, nor on the batch or pass that an image falls into.
#[test]
fn results_do_not_depend_on_threads_or_batch() {
    independent_of_threads_and_batch(&VitConfig {
        layer_scale: true,
        qk_norm: true,
        ..plain_config()
    });
    independent_of_threads_and_batch(&block_config());
}

fn independent_of_threads_and_batch(config: &VitConfig) {
    // More images than fit into one pass.
    let batch = 80;
    let input = pixels(config, batch);
    let image = input.len() / batch;
    for width in [CodeWidth::Ternary, CodeWidth::Three, CodeWidth::Eight] {
        let model = model(config, Encoding::Codes(width), Encoding::Codes(CodeWidth::Eight));
        for compute in [Compute::F32, Compute::Int8] {
            let run = |threads: usize, pixels: &[f32]| {
                let options = SessionOptions { threads, compute, ..Default::default() };
                let batch = pixels.len() / image;
                Session::new(&model, options).unwrap().run(pixels, batch).unwrap()
            };
            let expected = run(1, &input);
            for threads in [2, 3, 7] {
                assert!(run(threads, &input) == expected, "{width:?} {compute} {threads} threads");
            }
            let singly: Vec<f32> = input.chunks(image).flat_map(|one| run(1, one)).collect();
            assert!(singly == expected, "{width:?} {compute} one by one");
        }
    }
}
