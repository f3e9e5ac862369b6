//! Choosing the constants of the statistics for the model at hand.
//!
//! Token weights and the strengths of error and stream correction were found on a few models;
//! another one may want others. A part of the calibration images is held back, the model is
//! quantized on the rest with one constant changed at a time, and a change stays when it brings the
//! answers on the held-back images closer to the float model's.

use std::time::{Duration, Instant};

use fresnel_runtime::{Error, ErrorKind};

use crate::algorithm::{Method, StatisticsOptions};
use crate::calibration::{Calibration, CalibrationImages, Information, TokenWeights};
use crate::device::Device;
use crate::divergence::Reference;
use crate::import::FloatModel;
use crate::pipeline;
use crate::widths::{LayerWidths, StoredWidth};

/// Images that trials are quantized on: enough to tell constants apart.
const CALIBRATION: usize = 96;

/// Images held back at most.
const HELD_BACK: usize = 64;

/// No search has more trials.
pub const MOST_TRIALS: usize = 11;

/// Fewer images than this leave nothing to hold back.
pub const FEWEST_IMAGES: usize = 8;

/// One set of constants and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// The constants.
    pub statistics: StatisticsOptions,
    /// [`Reference::divergence`] on the images held back.
    pub divergence: f64,
}

/// What is quantized, and to which widths.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The float model.
    pub model: &'a FloatModel,
    /// How codes are chosen.
    pub method: &'a Method,
    /// Widths of the blocks' linear layers.
    pub widths: &'a LayerWidths,
    /// Width of the edges.
    pub edge: StoredWidth,
}

/// Tries constants around `start` one after the other, and returns all trials; the first is `start`
/// itself. No trial is begun that would, by the time the last one took, end after `limit`.
///
/// `progress` is told of every trial.
///
/// # Errors
/// [`ErrorKind::Input`] for fewer images than [`FEWEST_IMAGES`] or a method without statistics;
/// fails as quantization does.
pub fn trials(
    subject: Subject,
    start: StatisticsOptions,
    calibration: Calibration,
    device: &Device,
    limit: Duration,
    mut progress: impl FnMut(&Trial),
) -> Result<Vec<Trial>, Error> {
    let began = Instant::now();
    let images = calibration.images;
    if !subject.method.needs_calibration() || images.len() < FEWEST_IMAGES {
        return Err(Error::new(
            ErrorKind::Input,
            format!(
                "the search of constants needs a method with calibration and at least {FEWEST_IMAGES} images, found {} and {} images",
                subject.method.name(),
                images.len()
            ),
        ));
    }
    let held_back = (images.len() / 4).clamp(1, HELD_BACK);
    let rest = images.len() - held_back;
    let held_back = images.part(rest..images.len());
    let tried = images.part(0..rest.min(CALIBRATION));
    let tokens = subject.model.config.tokens() as usize;
    let information = calibration.information.map(|all| all.first(tried.len(), tokens));
    let reference = Reference::new(subject.model, &held_back)?;
    let trial = |statistics: StatisticsOptions| -> Result<Trial, Error> {
        let divergence =
            divergence(subject, statistics, &tried, information.as_ref(), device, &reference)?;
        Ok(Trial { statistics, divergence })
    };

    let mut trials = vec![trial(start)?];
    let mut best = trials[0].clone();
    progress(&best);
    let mut last = began.elapsed();
    let has_fisher = information.is_some();
    for change in changes(start, has_fisher) {
        let statistics = change(best.statistics);
        if trials.iter().any(|trial| trial.statistics == statistics) {
            continue;
        }
        if began.elapsed() + last > limit {
            break;
        }
        let started = Instant::now();
        let trial = trial(statistics)?;
        last = started.elapsed();
        progress(&trial);
        if trial.divergence < best.divergence {
            best = trial.clone();
        }
        trials.push(trial);
    }
    Ok(trials)
}

/// The trial with the least divergence, the first among equals.
pub fn best(trials: &[Trial]) -> Option<&Trial> {
    trials.iter().min_by(|a, b| a.divergence.total_cmp(&b.divergence))
}

type Change = Box<dyn Fn(StatisticsOptions) -> StatisticsOptions>;

/// One constant at a time, those that matter most first.
fn changes(start: StatisticsOptions, has_fisher: bool) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    let mut weights =
        vec![TokenWeights::ClassToken(10.0), TokenWeights::ClassToken(30.0), TokenWeights::Uniform];
    if has_fisher {
        weights.insert(0, TokenWeights::Fisher);
    }
    for token_weights in weights {
        changes.push(Box::new(move |best| StatisticsOptions { token_weights, ..best }));
    }
    if start.calibrate_on == crate::algorithm::CalibrateOn::Quantized {
        for stream_correction in [0.5, 0.125, 0.0] {
            changes.push(Box::new(move |best| StatisticsOptions { stream_correction, ..best }));
        }
        for error_correction in [0.125, 0.5, 0.0] {
            changes.push(Box::new(move |best| StatisticsOptions { error_correction, ..best }));
        }
    }
    changes
}

fn divergence(
    subject: Subject,
    statistics: StatisticsOptions,
    images: &CalibrationImages,
    information: Option<&Information>,
    device: &Device,
    reference: &Reference,
) -> Result<f64, Error> {
    let quantized = pipeline::quantize(
        subject.model,
        (subject.method, &statistics),
        (subject.widths, subject.edge),
        Some(Calibration { images, information, cache: None }),
        device,
        |_| {},
    )?;
    reference.divergence(&quantized.tensors(subject.model, subject.edge)?)
}
