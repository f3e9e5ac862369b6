//! From pictures to classes: preprocessing, a run, and the most probable of its logits.

use crate::error::{Error, ErrorKind};
use crate::image::Image;
use crate::session::Session;

/// Pictures that are prepared and run together: bounds memory.
const BATCH: usize = 32;

/// A class with its probability. [`Model::class_name`](crate::Model::class_name) knows its name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// Index of the class among the logits.
    pub class: usize,
    /// Its softmax, 0 to 1.
    pub probability: f64,
}

impl Prediction {
    /// The `count` most probable classes of one picture's `logits`, the most probable first, equal ones in the order of their
    /// indices.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when a logit is not a finite number, as it happens where a model's own weights overflow.
    pub fn top(logits: &[f32], count: usize) -> Result<Vec<Prediction>, Error> {
        if let Some(class) = logits.iter().position(|logit| !logit.is_finite()) {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "the output for class {class} is {}, expected a finite number: the model's weights are too large",
                    logits[class]
                ),
            ));
        }
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let powers: Vec<f64> = logits.iter().map(|&logit| f64::from(logit - max).exp()).collect();
        let sum: f64 = powers.iter().sum();
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| powers[b].total_cmp(&powers[a]));
        order.truncate(count);
        let prediction = |class: usize| Prediction { class, probability: powers[class] / sum };
        Ok(order.into_iter().map(prediction).collect())
    }
}

impl Session {
    /// The `count` most probable classes of a picture of any size.
    ///
    /// # Errors
    /// As [`classify_batch`](Self::classify_batch).
    pub fn classify(&mut self, image: &Image, count: usize) -> Result<Vec<Prediction>, Error> {
        let mut predictions = self.classify_batch(std::slice::from_ref(image), count)?;
        Ok(predictions.pop().unwrap_or_default())
    }

    /// The `count` most probable classes of each picture. Sizes and colour modes may differ.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a model without classes, [`ErrorKind::Unsupported`] for one that takes neither grey nor RGB
    /// pictures, and what [`Preprocessor::apply`](crate::Preprocessor::apply), [`Session::run`] and [`Prediction::top`] fail
    /// with.
    pub fn classify_batch(
        &mut self,
        images: &[Image],
        count: usize,
    ) -> Result<Vec<Vec<Prediction>>, Error> {
        let model = self.model();
        let classes = model.config().num_classes as usize;
        if classes == 0 {
            return Err(Error::new(
                ErrorKind::Input,
                "the model has no classes, its output is features: run it on pixels instead",
            ));
        }
        let preprocessor = model.preprocessor()?;
        let mut predictions = Vec::with_capacity(images.len());
        for images in images.chunks(BATCH) {
            let mut pixels = Vec::with_capacity(images.len() * preprocessor.output_len());
            for image in images {
                pixels.extend(preprocessor.apply(image)?);
            }
            let logits = self.run(&pixels, images.len())?;
            for logits in logits.chunks_exact(classes) {
                predictions.push(Prediction::top(logits, count)?);
            }
        }
        Ok(predictions)
    }
}

#[cfg(test)]
mod tests;
