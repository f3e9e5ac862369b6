//! Calibration images as the tuned part of the model sees them, with what it should answer.

use burn::tensor::Tensor;
use fresnel_runtime::Error;
use fresnel_runtime::model::config::VitConfig;

use super::loss::Target;
use super::workers::Workers;
use crate::agreement::first_class;
use crate::calibration::CalibrationImages;
use crate::device::{Device, DeviceKind, read};
use crate::vit::{Embedding, Vit};

/// One image.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// The embedded image, tokens x D.
    pub(super) stream: Tensor<2>,
    pub(super) target: Target,
    /// The float model's residual stream after each block; none where they are not compared.
    pub(super) streams: Vec<Tensor<2>>,
    /// The class that the float model sees; `None` in models without classifier.
    pub(super) class: Option<usize>,
}

/// Images that are computed together: enough for the device's products, few enough for its caches
/// and for a batch to have work for many threads.
pub(super) fn shard_size(device: &Device) -> usize {
    match device.kind() {
        DeviceKind::Cpu => 4,
        DeviceKind::Gpu => 16,
    }
}

/// Makes samples of images.
#[derive(Debug)]
pub(super) struct Sampler<'a> {
    pub(super) device: &'a Device,
    pub(super) workers: &'a Workers,
    pub(super) config: &'a VitConfig,
    pub(super) images: &'a CalibrationImages,
    pub(super) labels: Option<&'a [u32]>,
    /// The float model.
    pub(super) teacher: &'a Vit,
    /// The constant part in front of the tuned model.
    pub(super) embedding: &'a Embedding,
    /// Whether residual streams are compared.
    pub(super) streams: bool,
}

/// Images that are read and embedded at a time: bounds the pixels in memory.
const CHUNK: usize = 32;

/// The streams of samples, one after the other.
pub(super) fn stack(samples: &[Sample]) -> Tensor<2> {
    Tensor::cat(samples.iter().map(|sample| sample.stream.clone()).collect(), 0)
}

impl Sampler<'_> {
    /// Bytes of the streams of all samples.
    pub(super) fn bytes(&self) -> usize {
        let streams = 1 + if self.streams { self.config.depth as usize } else { 0 };
        let values = self.config.tokens() as usize * self.config.embed_dim as usize;
        self.images.len() * streams * values * size_of::<f32>()
    }

    /// Samples of all images.
    ///
    /// # Errors
    /// As [`Sampler::samples`].
    pub(super) fn all(&self) -> Result<Vec<Sample>, Error> {
        let places: Vec<usize> = (0..self.images.len()).collect();
        let mut samples = Vec::with_capacity(places.len());
        for places in places.chunks(CHUNK) {
            samples.extend(self.samples(places)?);
        }
        Ok(samples)
    }

    /// Samples of the images at `places`.
    ///
    /// # Errors
    /// Fails when an image can't be used or the device fails.
    pub(super) fn samples(&self, places: &[usize]) -> Result<Vec<Sample>, Error> {
        let pixels = self.images.load(places)?;
        let images: Vec<(usize, Vec<f32>)> = places.iter().copied().zip(pixels).collect();
        let shards: Vec<_> = images.chunks(shard_size(self.device)).collect();
        let samples = self.workers.map(&shards, |shard| self.shard(shard))?;
        Ok(samples.into_iter().flatten().collect())
    }

    fn shard(&self, images: &[(usize, Vec<f32>)]) -> Result<Vec<Sample>, Error> {
        let pixels: Vec<f32> = images.iter().flat_map(|(_, pixels)| pixels).copied().collect();
        let count = images.len();
        let float = self.teacher.embedding.forward(self.device, pixels.clone(), count);
        let (mut streams, outputs) = self.teacher.streams_and_logits(float);
        if !self.streams {
            streams.clear();
        }
        let outputs = read(outputs)?;
        let stream = self.embedding.forward(self.device, pixels, count);
        let tokens = self.config.tokens() as usize;
        let columns = self.config.output_features() as usize;
        let samples = images.iter().zip(outputs.chunks_exact(columns)).enumerate();
        Ok(samples
            .map(|(index, ((place, _), outputs))| Sample {
                stream: stream.clone().narrow(0, index * tokens, tokens),
                streams: streams
                    .iter()
                    .map(|stream| stream.clone().narrow(0, index * tokens, tokens))
                    .collect(),
                target: self.target(*place, outputs),
                class: first_class(outputs).filter(|_| self.config.num_classes > 0),
            })
            .collect())
    }

    fn target(&self, place: usize, outputs: &[f32]) -> Target {
        if self.config.num_classes == 0 {
            return Target::Features(outputs.to_vec());
        }
        match self.labels.and_then(|labels| labels.get(place)) {
            Some(&label) => Target::label(label, outputs.len()),
            None => Target::soft(outputs),
        }
    }
}
