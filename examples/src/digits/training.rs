//! The training loop: AdamW with warm-up and cosine decay on distorted digits.
//!
//! burn's `flex` device runs elementwise operations on one core, so a batch is cut into shards, each
//! with its own graph on its own thread, and the gradients are added in the order of the shards.
//! The number of shards is an option and not the number of cores: for one seed and one number of
//! shards every machine of a kind gives the same model.

use std::ops::Range;
use std::time::{Duration, Instant};

use burn::module::{Module, ParamGroup};
use burn::optim::{AdamWConfig, GradientsAccumulator, GradientsParams, ModuleOptimizer};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::Error;
use super::archive::{CLASSES, Digits, PIXELS};
use super::augmentation::Augmentation;
use super::vision_transformer::{Architecture, VisionTransformer};

/// Digits that are evaluated at a time.
const EVALUATION_BATCH: usize = 100;

/// Settings of a training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingOptions {
    /// Passes over the training digits.
    pub epochs: usize,
    /// Digits of an optimizer step.
    pub batch_size: usize,
    /// Learning rate at the end of the warm-up.
    pub learning_rate: f64,
    /// Passes during which the learning rate rises linearly from 0; after them it falls along half a
    /// cosine to a hundredth of `learning_rate`.
    pub warmup_epochs: usize,
    /// AdamW's weight decay of the linears' weights; other parameters do not decay.
    pub weight_decay: f32,
    /// Share of the target that is spread evenly over the classes.
    pub label_smoothing: f32,
    /// Distortions of the training digits.
    pub augmentation: Augmentation,
    /// Parts of a batch that are computed side by side.
    pub shards: usize,
    /// Seed of the first weights, the order of the digits and their distortions.
    pub seed: u64,
}

impl TrainingOptions {
    /// Checks the options against `digits`, the number of training digits.
    ///
    /// # Errors
    /// [`Error::Options`] says which option does not fit.
    pub fn validate(&self, digits: usize) -> Result<(), Error> {
        let reason = if self.epochs == 0 {
            "the number of epochs must be at least 1".to_owned()
        } else if self.batch_size == 0 || self.batch_size > digits {
            format!("a batch of {} does not fit {digits} training digits", self.batch_size)
        } else if self.shards == 0 || !self.batch_size.is_multiple_of(self.shards) {
            format!(
                "a batch of {} cannot be cut into {} equal shards",
                self.batch_size, self.shards
            )
        } else if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            format!("learning rate {} is not a positive number", self.learning_rate)
        } else if !(0.0..1.0).contains(&self.label_smoothing) {
            format!("label smoothing {} is not in 0..1", self.label_smoothing)
        } else if !(self.weight_decay.is_finite() && self.weight_decay >= 0.0) {
            format!("weight decay {} is negative or no number", self.weight_decay)
        } else {
            return Ok(());
        };
        Err(Error::Options(reason))
    }

    /// The learning rate of `step` of `steps`, `warmup` of which are warm-up.
    fn rate(&self, step: usize, steps: usize, warmup: usize) -> f64 {
        if step < warmup {
            return self.learning_rate * (step + 1) as f64 / warmup as f64;
        }
        let progress = (step - warmup) as f64 / (steps - warmup).max(1) as f64;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        self.learning_rate * (0.01 + 0.99 * cosine)
    }
}

/// What is known at the end of an epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochReport {
    /// Epochs done, from 1.
    pub epoch: usize,
    /// Mean loss over the epoch, label smoothing included.
    pub loss: f32,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Time since the training began.
    pub elapsed: Duration,
}

/// Trains a new model on the digits of `range` and returns it, still on the autodiff device.
///
/// `on_epoch` is called after each epoch with the model as it is then; an error from it ends the
/// training.
///
/// # Errors
/// Options that do not fit ([`Error::Options`]), a loss that is not finite ([`Error::Diverged`]), or
/// what `on_epoch` returned.
///
/// # Panics
/// If `range` is not within `digits`.
pub fn train(
    digits: &Digits,
    range: Range<usize>,
    architecture: Architecture,
    options: &TrainingOptions,
    mut on_epoch: impl FnMut(&EpochReport, &VisionTransformer) -> Result<(), Error>,
) -> Result<VisionTransformer, Error> {
    architecture.validate().map_err(Error::Options)?;
    options.validate(range.len())?;
    let device = Device::flex().autodiff();
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let mut model = VisionTransformer::new(architecture, &mut rng, &device);
    let mut optimizer = optimizer(options.weight_decay);
    let mut order: Vec<usize> = range.collect();
    // The digits left over after the last whole batch of an epoch come up in another one.
    let steps_per_epoch = order.len() / options.batch_size;
    let steps = steps_per_epoch * options.epochs;
    let warmup = steps_per_epoch * options.warmup_epochs.min(options.epochs);
    let start = Instant::now();
    let mut step = 0;
    for epoch in 1..=options.epochs {
        order.shuffle(&mut rng);
        let mut loss_sum = 0.0;
        let mut learning_rate = 0.0;
        for indices in order.chunks_exact(options.batch_size) {
            let shards: Vec<Shard> = indices
                .chunks_exact(options.batch_size / options.shards)
                .map(|indices| Shard::new(digits, indices, architecture, options, &mut rng))
                .collect();
            let (loss, gradients) = gradients(&model, shards, options.batch_size, &device);
            if !loss.is_finite() {
                return Err(Error::Diverged { step, loss });
            }
            learning_rate = options.rate(step, steps, warmup);
            model = optimizer.step(learning_rate, model, gradients);
            loss_sum += loss;
            step += 1;
        }
        let report = EpochReport {
            epoch,
            loss: loss_sum / steps_per_epoch as f32,
            learning_rate,
            elapsed: start.elapsed(),
        };
        on_epoch(&report, &model)?;
    }
    Ok(model)
}

/// AdamW that lets only the weights of linears decay: biases, LayerNorm vectors, the class token and
/// the positions are not scaled towards zero.
fn optimizer(weight_decay: f32) -> ModuleOptimizer {
    let config = AdamWConfig::new().with_epsilon(1e-8);
    let plain = config.clone().with_weight_decay(0.0).build();
    let decaying = config.with_weight_decay(weight_decay).build();
    // burn calls the vectors of a LayerNorm `gamma` and `beta`.
    ModuleOptimizer::from(plain).with_group(ParamGroup::from_predicate("weight"), decaying, None)
}

/// A part of a batch: distorted digits as patches, and their smoothed targets.
struct Shard {
    patches: TensorData,
    targets: TensorData,
}

impl Shard {
    fn new(
        digits: &Digits,
        indices: &[usize],
        architecture: Architecture,
        options: &TrainingOptions,
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let mut patches = Vec::with_capacity(indices.len() * PIXELS);
        let mut targets = vec![options.label_smoothing / CLASSES as f32; indices.len() * CLASSES];
        let mut distorted = [0.0; PIXELS];
        for (&index, target) in indices.iter().zip(targets.chunks_exact_mut(CLASSES)) {
            options.augmentation.apply(digits.image(index), rng, &mut distorted);
            architecture.append_patches(&distorted, &mut patches);
            target[usize::from(digits.label(index))] += 1.0 - options.label_smoothing;
        }
        let shape = [indices.len(), architecture.patches(), architecture.patch_pixels()];
        Self {
            patches: TensorData::new(patches, shape),
            targets: TensorData::new(targets, [indices.len(), CLASSES]),
        }
    }

    /// The sum of the cross-entropies of this shard over `batch_size`, and its gradients.
    fn gradients(
        self,
        model: &VisionTransformer,
        batch_size: usize,
        device: &Device,
    ) -> (f32, GradientsParams) {
        let logits = model.forward(Tensor::from_data(self.patches, device));
        let targets = Tensor::<2>::from_data(self.targets, device);
        let loss = (log_softmax(logits, 1) * targets).sum().mul_scalar(-1.0 / batch_size as f64);
        let gradients = GradientsParams::from_grads(loss.backward(), model);
        (loss.into_scalar::<f32>(), gradients)
    }
}

/// Mean loss and gradients of a batch, each shard on its own thread.
fn gradients(
    model: &VisionTransformer,
    shards: Vec<Shard>,
    batch_size: usize,
    device: &Device,
) -> (f32, GradientsParams) {
    let results: Vec<(f32, GradientsParams)> = std::thread::scope(|scope| {
        let threads: Vec<_> = shards
            .into_iter()
            .map(|shard| {
                // A copy with leaves of its own: burn ties graphs that share a parameter together, and
                // backward passes over tied graphs on two threads block each other for good.
                let model = model.clone().fork(device);
                scope.spawn(move || shard.gradients(&model, batch_size, device))
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a shard's computation does not panic"))
            .collect()
    });
    let mut accumulator = GradientsAccumulator::new();
    let mut loss = 0.0;
    for (part, gradients) in results {
        loss += part;
        accumulator.accumulate(model, gradients);
    }
    (loss, accumulator.grads())
}

/// The predicted class of each digit of `range`, without distortion.
///
/// # Panics
/// If `range` is not within `digits`.
#[must_use]
pub fn predict(
    model: &VisionTransformer,
    architecture: Architecture,
    digits: &Digits,
    range: Range<usize>,
) -> Vec<u8> {
    let device = Device::flex();
    let model = model.valid();
    let indices: Vec<usize> = range.collect();
    let mut classes = Vec::with_capacity(indices.len());
    for indices in indices.chunks(EVALUATION_BATCH) {
        let mut patches = Vec::with_capacity(indices.len() * PIXELS);
        for &index in indices {
            let digit: Vec<f32> = digits.image(index).iter().map(|&p| f32::from(p)).collect();
            architecture.append_patches(&digit, &mut patches);
        }
        let shape = [indices.len(), architecture.patches(), architecture.patch_pixels()];
        let patches = Tensor::<3>::from_data(TensorData::new(patches, shape), &device);
        let logits: Vec<f32> =
            model.forward(patches).into_data().try_to_vec().expect("logits are f32");
        classes.extend(logits.chunks_exact(CLASSES).map(|row| {
            let best = (1..CLASSES).fold(0, |best, i| if row[i] > row[best] { i } else { best });
            best as u8
        }));
    }
    classes
}

/// Percentage of the digits of `range` whose class `model` predicts.
///
/// # Panics
/// If `range` is empty or not within `digits`.
#[must_use]
pub fn accuracy(
    model: &VisionTransformer,
    architecture: Architecture,
    digits: &Digits,
    range: Range<usize>,
) -> f64 {
    assert!(!range.is_empty(), "accuracy needs at least one digit");
    let predicted = predict(model, architecture, digits, range.clone());
    let right =
        range.clone().zip(predicted).filter(|&(index, class)| digits.label(index) == class).count();
    100.0 * right as f64 / range.len() as f64
}

#[cfg(test)]
mod tests;
