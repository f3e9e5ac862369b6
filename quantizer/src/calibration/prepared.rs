//! What is made of the calibration images once, before any layer is quantized, and serves every
//! width and method.

use std::path::Path;
use std::time::{Duration, Instant};

use fresnel_runtime::Error;

use super::{Cache, CalibrationImages, Information, fisher};
use crate::device::Device;
use crate::import::FloatModel;
use crate::pipeline;

/// What a model is calibrated with.
#[derive(Debug, Clone, Copy)]
pub struct Calibration<'a> {
    /// The images.
    pub images: &'a CalibrationImages,
    /// Their tokens' Fisher information, where the token weights are made of it.
    pub information: Option<&'a Information>,
    /// Where statistics of float inputs are kept between runs.
    pub cache: Option<&'a Cache>,
}

/// Images with what was made of them.
#[derive(Debug)]
pub struct Prepared {
    images: CalibrationImages,
    information: Option<Information>,
    cache: Option<Cache>,
    time: Duration,
}

impl Prepared {
    /// Prepares `images` for `model` on `device`: their tokens' Fisher information if
    /// `with_information`, taken from the cache in the folder `cache` where it is there.
    ///
    /// `progress` is told the number of images done, where there is something to do.
    ///
    /// # Errors
    /// Fails with the path of an image that can't be used, when the cache can't be written, and when
    /// the device fails.
    pub fn new(
        model: &FloatModel,
        images: CalibrationImages,
        with_information: bool,
        device: &Device,
        cache: Option<&Path>,
        progress: impl FnMut(usize),
    ) -> Result<Self, Error> {
        let began = Instant::now();
        let cache = cache.map(|root| Cache::open(root, model, &images, device)).transpose()?;
        let information = with_information
            .then(|| information(model, &images, device, cache.as_ref(), progress))
            .transpose()?;
        Ok(Self { images, information, cache, time: began.elapsed() })
    }

    /// What quantization takes.
    pub fn calibration(&self) -> Calibration<'_> {
        Calibration {
            images: &self.images,
            information: self.information.as_ref(),
            cache: self.cache.as_ref(),
        }
    }

    /// How long it took.
    pub fn time(&self) -> Duration {
        self.time
    }
}

fn information(
    model: &FloatModel,
    images: &CalibrationImages,
    device: &Device,
    cache: Option<&Cache>,
    progress: impl FnMut(usize),
) -> Result<Information, Error> {
    let rows = images.len() * model.config.tokens() as usize;
    let fits = |kept: &Information| {
        kept.layers.len() == pipeline::layers(&model.config)
            && kept.layers.iter().all(|layer| layer.len() == rows)
    };
    if let Some(kept) = cache.and_then(Cache::information).filter(fits) {
        return Ok(kept);
    }
    let information = fisher::information(model, images, device, progress)?;
    if let Some(cache) = cache {
        cache.keep_information(&information)?;
    }
    Ok(information)
}
