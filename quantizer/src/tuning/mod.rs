//! Tuning after quantization: the codes stay as they are, the small vectors around them learn.
//!
//! Layer-wise quantization looks at one layer at a time. What its errors do to the network's output
//! is repaired here by gradient descent through the whole model: on the layer normalizations
//! ([`Tuned::Norms`], the paper's option) or on biases, scales and offsets as well ([`Tuned::All`]).
//! The float model's outputs are the targets, so labels are not needed, and its residual stream after
//! each block is another: a few hundred images say little by their logits alone, and are soon known
//! by heart, but have two hundred tokens each.
//!
//! ```text
//! options     settings, and the division of the calibration images
//! samples     images -> embedded streams and targets
//! student     the quantized model with tuned vectors in place
//! loss        outputs and targets -> loss
//! gradient    samples -> gradients of the tuned vectors
//! workers     shards of a batch on several threads
//! adam        the optimizer
//! parameters  tuned vectors -> the stored model
//! judge       the stored model -> its score on held-back images
//! ```
//!
//! Images that neither the quantizer nor a gradient step has seen judge after every pass over the
//! others: the best model by its loss is kept, and the untuned one where nothing is better.

mod adam;
mod gradient;
mod judge;
mod loss;
mod options;
mod parameters;
mod samples;
mod student;
mod workers;

use std::time::Instant;

use fresnel_runtime::{Error, ErrorKind};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use self::adam::Adam;
use self::gradient::gradients;
use self::judge::Judge;
use self::parameters::Parameter;
use self::samples::{Sample, Sampler};
use self::student::Student;
use self::workers::Workers;
use crate::calibration::CalibrationImages;
use crate::device::Device;
use crate::import::FloatModel;
use crate::pipeline::QuantizedModel;
use crate::vit::Vit;

pub use judge::HeldBackScore;
pub use options::{LearningRates, Tuned, TuningOptions};

/// Most bytes of samples that are kept from one pass to the next; more are made anew, which costs a
/// forward pass of the float model.
const KEPT_BYTES: usize = 1 << 30;

/// What tuning did.
#[derive(Debug, Clone, PartialEq)]
pub struct TuningReport {
    /// Images of the gradient steps.
    pub training_images: usize,
    /// Images held back.
    pub held_back_images: usize,
    /// Number of tuned values.
    pub values: usize,
    /// The model before tuning.
    pub before: HeldBackScore,
    /// The model that was kept.
    pub after: HeldBackScore,
    /// Pass after which the model was best, from 1; 0 where the untuned model was kept.
    pub best_epoch: usize,
    /// Mean training loss of each pass.
    pub training_losses: Vec<f64>,
    /// Score after each pass.
    pub scores: Vec<HeldBackScore>,
    /// Seconds taken.
    pub seconds: f64,
}

impl TuningReport {
    /// Entries as many and as long as those of [`TuningReport::measured`], for a model that is
    /// planned.
    pub fn planned(classes: bool) -> Vec<(String, f64)> {
        let score = HeldBackScore { loss: 0.0, agreement: classes.then_some(0.0) };
        Self {
            training_images: 0,
            held_back_images: 0,
            values: 0,
            before: score,
            after: score,
            best_epoch: 0,
            training_losses: Vec::new(),
            scores: Vec::new(),
            seconds: 0.0,
        }
        .measured()
    }

    /// The figures that a file records as measured.
    pub fn measured(&self) -> Vec<(String, f64)> {
        let mut measured = vec![
            ("tuning_loss_before".to_owned(), self.before.loss),
            ("tuning_loss_after".to_owned(), self.after.loss),
        ];
        for (name, score) in [("before", self.before), ("after", self.after)] {
            let agreement = score.agreement.map(|a| (format!("tuning_agreement_{name}"), a));
            measured.extend(agreement);
        }
        measured
    }
}

/// Tunes `quantized` on `training` and says what came of it on `held_back`, images that neither the
/// quantizer nor a gradient step sees (see [`TuningOptions::divide`]).
///
/// The result depends on the inputs and the kind of device, not on the number of threads.
/// `progress` is told of every training image of every pass; tuning may end before
/// [`TuningOptions::epochs`] passes: when nothing is gained any more, or when the learning rates are
/// so large that a value is no longer finite.
///
/// # Errors
/// Fails where there is no image to learn from or to judge by, for labels that do not fit the images
/// or the classes, when an image can't be used, and when the device fails.
pub fn tune(
    model: &FloatModel,
    quantized: &mut QuantizedModel,
    (training, held_back): (&CalibrationImages, &CalibrationImages),
    device: &Device,
    options: &TuningOptions,
    mut progress: impl FnMut(usize),
) -> Result<TuningReport, Error> {
    let started = Instant::now();
    let labels = Labels::check(model, training.len(), held_back.len(), options)?;
    let workers = Workers::new(device)?;
    let mut student = Student::new(device, model, quantized, options.tuned);
    let mut parameters = student.parameters()?;
    parameters::set_rates(&mut parameters, options);
    let teacher = Vit::load(device, model);
    let sampler = |images, labels, streams| Sampler {
        device,
        workers: &workers,
        config: &model.config,
        images,
        labels,
        teacher: &teacher,
        embedding: student.embedding(),
        streams,
    };
    let judge =
        Judge::new(model, device, &workers, sampler(held_back, labels.held_back, false).all()?);
    let sampler = sampler(training, labels.training, options.stream_weight > 0.0);
    let kept = if sampler.bytes() <= KEPT_BYTES { Some(sampler.all()?) } else { None };

    let count = training.len();
    let mut adam = Adam::new(&parameters, options.epochs * count.div_ceil(options.batch.max(1)));
    let before = judge.score(quantized)?;
    let mut report = TuningReport {
        training_images: count,
        held_back_images: held_back.len(),
        values: parameters.iter().map(|parameter| parameter.values.len()).sum(),
        before,
        after: before,
        best_epoch: 0,
        training_losses: Vec::new(),
        scores: Vec::new(),
        seconds: 0.0,
    };
    let mut best: Option<QuantizedModel> = None;
    let mut random = ChaCha8Rng::seed_from_u64(options.seed);
    let mut order: Vec<usize> = (0..count).collect();
    for epoch in 1..=options.epochs {
        order.shuffle(&mut random);
        let mut loss = 0.0;
        for batch in order.chunks(options.batch.max(1)) {
            let samples: Vec<Sample> = match &kept {
                Some(kept) => batch.iter().map(|&place| kept[place].clone()).collect(),
                None => sampler.samples(batch)?,
            };
            let (sum, gradients) = gradients(
                device,
                &workers,
                &student,
                &parameters,
                (&samples, options.stream_weight),
            )?;
            loss += sum;
            adam.step(&mut parameters, &gradients);
            progress(batch.len());
        }
        report.training_losses.push(loss / count as f64);
        if !parameters.iter().all(Parameter::is_finite) {
            break;
        }
        let mut candidate = quantized.clone();
        parameters::store(&parameters, &mut candidate)?;
        let score = judge.score(&candidate)?;
        report.scores.push(score);
        if score.loss < report.after.loss {
            (report.after, report.best_epoch, best) = (score, epoch, Some(candidate));
        } else if epoch - report.best_epoch >= options.patience {
            break;
        }
    }
    if let Some(best) = best {
        *quantized = best;
    }
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

/// Refuses what [`tune`] would refuse, before the model is quantized for it.
///
/// # Errors
/// Where there is no image to learn from or to judge by, and for labels that do not fit the images
/// or the classes.
pub fn check(
    model: &FloatModel,
    (training, held_back): (&CalibrationImages, &CalibrationImages),
    options: &TuningOptions,
) -> Result<(), Error> {
    Labels::check(model, training.len(), held_back.len(), options).map(|_| ())
}

/// The labels of both parts of the images, where there are labels.
struct Labels<'a> {
    training: Option<&'a [u32]>,
    held_back: Option<&'a [u32]>,
}

impl<'a> Labels<'a> {
    fn check(
        model: &FloatModel,
        training: usize,
        held_back: usize,
        options: &'a TuningOptions,
    ) -> Result<Self, Error> {
        let input = |problem: String| Err(Error::new(ErrorKind::Input, problem));
        if training == 0 || held_back == 0 {
            return input(format!(
                "tuning needs images to learn from and to judge by, found {training} and {held_back}"
            ));
        }
        let Some(labels) = options.labels.as_deref() else {
            return Ok(Self { training: None, held_back: None });
        };
        let classes = model.config.num_classes;
        if labels.len() != training + held_back {
            return input(format!(
                "expected a label for each of {} images, found {}",
                training + held_back,
                labels.len()
            ));
        }
        if let Some(label) = labels.iter().find(|&&label| label >= classes) {
            return input(format!("label {label} is none of the model's {classes} classes"));
        }
        let (training, held_back) = labels.split_at(training);
        Ok(Self { training: Some(training), held_back: Some(held_back) })
    }
}

#[cfg(test)]
mod tests;
