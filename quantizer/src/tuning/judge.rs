//! Scores of a quantized model on the images that were held back.

use fresnel_runtime::Error;

use super::Tuned;
use super::samples::{Sample, shard_size, stack};
use super::student::Student;
use super::workers::Workers;
use crate::agreement::first_class;
use crate::device::{Device, read};
use crate::import::FloatModel;
use crate::pipeline::QuantizedModel;

/// How a model does on the held-back images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeldBackScore {
    /// Mean loss: the Kullback-Leibler divergence from the float model's classes in nats, the
    /// cross-entropy of the labels, or the relative squared error of the features.
    pub loss: f64,
    /// Percentage of the images with the float model's first class; `None` without classifier.
    pub agreement: Option<f64>,
}

/// The held-back images.
pub(super) struct Judge<'a> {
    model: &'a FloatModel,
    device: &'a Device,
    workers: &'a Workers,
    samples: Vec<Sample>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(
        model: &'a FloatModel,
        device: &'a Device,
        workers: &'a Workers,
        samples: Vec<Sample>,
    ) -> Self {
        Self { model, device, workers, samples }
    }

    /// The score of `quantized` as its file would be read, rounded vectors included.
    ///
    /// # Errors
    /// Fails when the device fails.
    pub(super) fn score(&self, quantized: &QuantizedModel) -> Result<HeldBackScore, Error> {
        let student = Student::new(self.device, self.model, quantized, Tuned::Norms);
        let shards: Vec<_> = self.samples.chunks(shard_size(self.device)).collect();
        let outputs =
            self.workers.map(&shards, |shard| read(student.outputs(&[], stack(shard)).1))?.concat();
        let columns = self.model.config.output_features() as usize;
        let (mut loss, mut agreed) = (0.0, 0_usize);
        for (sample, outputs) in self.samples.iter().zip(outputs.chunks_exact(columns)) {
            loss += sample.target.loss(outputs);
            agreed += usize::from(sample.class == first_class(outputs));
        }
        let count = self.samples.len() as f64;
        let agreement = (self.model.config.num_classes > 0).then(|| 100.0 * agreed as f64 / count);
        Ok(HeldBackScore { loss: loss / count, agreement })
    }
}
