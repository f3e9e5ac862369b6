//! The model of handwritten digits that the program carries, and digits to calibrate and evaluate
//! it with.
//!
//! Source, licence and training command: `assets/digits/README.md`.

use fresnel_runtime::image::{ColorMode, Image, Preprocessor};
use fresnel_runtime::{Error, ErrorKind, Session};
use safetensors::{Dtype, SafeTensors};

use crate::agreement::first_class;
use crate::import::{Checkpoint, FloatModel, HubConfig};

const WEIGHTS: &[u8] = include_bytes!("../assets/digits/model.safetensors");
const CONFIG: &[u8] = include_bytes!("../assets/digits/config.json");
const CALIBRATION: &[u8] = include_bytes!("../assets/digits/calibration.safetensors");
const EVALUATION: &[u8] = include_bytes!("../assets/digits/evaluation.safetensors");

/// Height and width of a digit.
const SIDE: usize = 28;

/// The float model.
///
/// # Errors
/// Never for the assets that this program was built with.
pub fn model() -> Result<FloatModel, Error> {
    FloatModel::from_parts(&HubConfig::parse(CONFIG)?, |config| Checkpoint::parse(WEIGHTS, config))
}

/// Labelled digits.
#[derive(Debug, Clone)]
pub struct Digits {
    images: Vec<Vec<u8>>,
    labels: Vec<u8>,
}

impl Digits {
    /// Digits of the training range, for calibration.
    ///
    /// # Errors
    /// Never for the assets that this program was built with.
    pub fn calibration() -> Result<Self, Error> {
        Self::parse(CALIBRATION)
    }

    /// Digits that training did not see.
    ///
    /// # Errors
    /// Never for the assets that this program was built with.
    pub fn evaluation() -> Result<Self, Error> {
        Self::parse(EVALUATION)
    }

    /// Reads tensors `images` (u8, n x 28 x 28) and `labels` (u8, n).
    fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let malformed = |what: String| Error::new(ErrorKind::Invalid, what);
        let file = SafeTensors::deserialize(bytes).map_err(|error| malformed(error.to_string()))?;
        let bytes_of = |name: &str| {
            let view = file.tensor(name).map_err(|error| malformed(error.to_string()))?;
            if view.dtype() != Dtype::U8 {
                return Err(malformed(format!("{name}: expected u8, found {:?}", view.dtype())));
            }
            Ok(view.data().to_vec())
        };
        let images: Vec<Vec<u8>> =
            bytes_of("images")?.chunks_exact(SIDE * SIDE).map(<[u8]>::to_vec).collect();
        let labels = bytes_of("labels")?;
        if images.len() != labels.len() {
            return Err(malformed(format!("{} images but {} labels", images.len(), labels.len())));
        }
        Ok(Self { images, labels })
    }

    /// Number of digits.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The digits as `model` wants its input.
    ///
    /// # Errors
    /// Fails when the model's preprocessing does not fit grey images.
    pub fn pixels(&self, model: &FloatModel) -> Result<Vec<Vec<f32>>, Error> {
        let preprocessor = Preprocessor::new(&model.preprocessing, model.config.in_channels)?;
        let side = SIDE as u32;
        self.images
            .iter()
            .map(|pixels| {
                preprocessor.apply(&Image::new(side, side, ColorMode::Grey, pixels.clone())?)
            })
            .collect()
    }

    /// Percentage of digits that `session` classifies as labelled.
    ///
    /// # Errors
    /// Fails when the session can't run.
    pub fn accuracy(&self, model: &FloatModel, session: &mut Session) -> Result<f64, Error> {
        let logits = session.run(&self.pixels(model)?.concat(), self.len())?;
        let classes = model.config.output_features() as usize;
        let correct = logits
            .chunks_exact(classes)
            .zip(&self.labels)
            .filter(|(logits, label)| first_class(logits) == Some(usize::from(**label)))
            .count();
        Ok(100.0 * correct as f64 / self.len().max(1) as f64)
    }
}
