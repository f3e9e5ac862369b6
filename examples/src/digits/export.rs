//! Takes digits out of the archive into the small files that lie beside the trained model.
//!
//! | file                            | content                                                      |
//! |---------------------------------|--------------------------------------------------------------|
//! | `calibration.safetensors`       | digits of the training range, drawn at random                |
//! | `evaluation.safetensors`        | all held-out digits, in the order of the archive             |
//! | `samples/INDEX_digit_LABEL.png` | the first held-out digit of each class; INDEX in the archive |
//!
//! Both safetensors files hold `images` (`u8`, `[n, 28, 28]`) and `labels` (`u8`, `[n]`).

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{GrayImage, ImageFormat};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::archive::{CLASSES, SIDE};
use super::checkpoint::write_file;
use super::{Digits, Error, HELD_OUT, TRAINING};

/// Digits for calibration.
pub const CALIBRATION_FILE: &str = "calibration.safetensors";
/// Digits for evaluation.
pub const EVALUATION_FILE: &str = "evaluation.safetensors";
/// Folder of the sample images.
pub const SAMPLES_FOLDER: &str = "samples";

/// Writes the files of the module's table into `directory` and returns their paths. The
/// `calibration_count` digits for calibration are drawn with `seed`.
///
/// # Errors
/// [`Error::Options`] when more calibration digits are asked for than there are training digits,
/// [`Error::Write`] when a file cannot be written.
///
/// # Panics
/// If `digits` is not the whole archive of 10,000.
pub fn export(
    digits: &Digits,
    calibration_count: usize,
    seed: u64,
    directory: &Path,
) -> Result<Vec<PathBuf>, Error> {
    if !(1..=TRAINING.len()).contains(&calibration_count) {
        return Err(Error::Options(format!(
            "the number of calibration digits must be 1 to {}, not {calibration_count}",
            TRAINING.len()
        )));
    }
    let samples = directory.join(SAMPLES_FOLDER);
    fs::create_dir_all(&samples)
        .map_err(|source| Error::Write { path: samples.clone(), source })?;

    let mut order: Vec<usize> = TRAINING.collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let calibration = digits.select(order.into_iter().take(calibration_count));
    let evaluation = digits.select(HELD_OUT);
    let mut paths = Vec::new();
    for (name, part) in [(CALIBRATION_FILE, calibration), (EVALUATION_FILE, evaluation)] {
        let path = directory.join(name);
        write_file(&path, &safetensors_bytes(&part))?;
        paths.push(path);
    }
    for class in 0..CLASSES {
        let Some(index) = HELD_OUT.into_iter().find(|&i| usize::from(digits.label(i)) == class)
        else {
            continue;
        };
        let path = samples.join(format!("{index}_digit_{class}.png"));
        write_file(&path, &png(digits.image(index)))?;
        paths.push(path);
    }
    Ok(paths)
}

fn safetensors_bytes(digits: &Digits) -> Vec<u8> {
    let view = |shape: Vec<usize>, bytes| {
        TensorView::new(Dtype::U8, shape, bytes).expect("the bytes of the digits fill their shape")
    };
    let tensors = [
        ("images", view(vec![digits.len(), SIDE, SIDE], digits.images())),
        ("labels", view(vec![digits.len()], digits.labels())),
    ];
    safetensors::serialize(tensors, None).expect("two names make a small header")
}

fn png(image: &[u8]) -> Vec<u8> {
    let image = GrayImage::from_raw(SIDE as u32, SIDE as u32, image.to_vec())
        .expect("a digit has 28 x 28 pixels");
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).expect("writing to memory does not fail");
    bytes.into_inner()
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::super::archive::PIXELS;
    use super::*;

    fn archive() -> Digits {
        let labels: Vec<u8> = (0..10_000).map(|i| (i * 3 % 10) as u8).collect();
        let images = (0..10_000 * PIXELS).map(|i| (i / PIXELS % 256) as u8).collect();
        Digits::new(images, labels).unwrap()
    }

    #[test]
    fn writes_calibration_evaluation_and_samples() {
        let directory = std::env::temp_dir().join(format!("fresnel-export-{}", std::process::id()));
        let paths = export(&archive(), 64, 1, &directory).unwrap();
        assert_eq!(paths.len(), 12);

        let bytes = fs::read(directory.join(EVALUATION_FILE)).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.tensor("images").unwrap().shape(), [1000, 28, 28]);
        assert_eq!(file.tensor("labels").unwrap().data(), &archive().labels()[HELD_OUT]);

        let bytes = fs::read(directory.join(CALIBRATION_FILE)).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.tensor("labels").unwrap().shape(), [64]);

        // Label 0 comes first at index 9000.
        let sample = image::open(directory.join("samples/9000_digit_0.png")).unwrap();
        assert_eq!(sample.to_luma8().into_raw(), archive().image(9000));
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn rejects_more_calibration_digits_than_there_are() {
        for count in [0, 9_001] {
            let error = export(&archive(), count, 1, Path::new("unused")).unwrap_err();
            assert!(error.to_string().contains("1 to 9000"), "{error}");
        }
    }
}
