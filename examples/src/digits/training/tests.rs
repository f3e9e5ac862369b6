//! Training of a very small model, seconds long in a release build.

use super::*;

const SMALL: Architecture =
    Architecture { patch_size: 14, embed_dim: 8, depth: 1, num_heads: 2, mlp_ratio: 2 };

const OPTIONS: TrainingOptions = TrainingOptions {
    epochs: 12,
    batch_size: 10,
    learning_rate: 0.01,
    warmup_epochs: 1,
    weight_decay: 0.01,
    label_smoothing: 0.1,
    augmentation: Augmentation::NONE,
    shards: 2,
    seed: 1,
};

/// Forty "digits": a bright row of pixels whose height is the label.
fn stripes() -> Digits {
    let labels: Vec<u8> = (0..40).map(|i| i % 10).collect();
    let images = labels
        .iter()
        .flat_map(|&label| {
            (0..PIXELS).map(move |i| if i / 28 / 2 == usize::from(label) { 255 } else { 0 })
        })
        .collect();
    Digits::new(images, labels).unwrap()
}

fn trained(options: &TrainingOptions) -> (Vec<f32>, VisionTransformer) {
    let mut losses = Vec::new();
    let model = train(&stripes(), 0..40, SMALL, options, |report, _| {
        losses.push(report.loss);
        Ok(())
    })
    .unwrap();
    (losses, model)
}

#[test]
fn training_lowers_the_loss_and_learns_the_stripes() {
    let (losses, model) = trained(&TrainingOptions { epochs: 60, ..OPTIONS });
    assert_eq!(losses.len(), 60);
    assert!(losses[59] < 0.6 * losses[0], "{losses:?}");
    assert!(accuracy(&model, SMALL, &stripes(), 0..40) >= 90.0);
}

#[test]
fn equal_seeds_give_equal_models_and_the_seed_matters() {
    let options = TrainingOptions { epochs: 2, ..OPTIONS };
    let (_, first) = trained(&options);
    let (_, second) = trained(&options);
    let (_, other) = trained(&TrainingOptions { seed: 2, ..options });
    assert_eq!(first.tensors(SMALL), second.tensors(SMALL));
    assert_ne!(first.tensors(SMALL), other.tensors(SMALL));
}

#[test]
fn shards_change_the_gradient_only_by_rounding() {
    let options = TrainingOptions { epochs: 1, ..OPTIONS };
    let (whole, _) = trained(&TrainingOptions { shards: 1, ..options });
    let (parts, _) = trained(&TrainingOptions { shards: 5, ..options });
    assert!((whole[0] - parts[0]).abs() < 1e-4, "{whole:?} {parts:?}");
}

#[test]
fn learning_rate_rises_then_falls_to_a_hundredth() {
    let rate = |step| OPTIONS.rate(step, 100, 10);
    assert!((rate(0) - 0.001).abs() < 1e-9);
    assert!((rate(9) - 0.01).abs() < 1e-9);
    assert!((rate(10) - 0.01).abs() < 1e-9);
    assert!(rate(50) < rate(30));
    assert!((0.0001..0.0002).contains(&rate(99)));
}

#[test]
fn options_that_do_not_fit_are_named() {
    for (options, expected) in [
        (TrainingOptions { epochs: 0, ..OPTIONS }, "epochs"),
        (TrainingOptions { batch_size: 41, ..OPTIONS }, "batch of 41"),
        (TrainingOptions { shards: 3, ..OPTIONS }, "3 equal shards"),
        (TrainingOptions { learning_rate: f64::NAN, ..OPTIONS }, "learning rate"),
        (TrainingOptions { label_smoothing: 1.0, ..OPTIONS }, "label smoothing"),
        (TrainingOptions { weight_decay: -1.0, ..OPTIONS }, "weight decay"),
    ] {
        let error = train(&stripes(), 0..40, SMALL, &options, |_, _| Ok(())).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_loss_that_explodes_ends_the_training() {
    let options = TrainingOptions { learning_rate: 1e30, ..OPTIONS };
    let error = train(&stripes(), 0..40, SMALL, &options, |_, _| Ok(())).unwrap_err();
    assert!(matches!(error, Error::Diverged { .. }), "{error}");
}
