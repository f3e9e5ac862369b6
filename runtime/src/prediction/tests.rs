use super::*;
use crate::exec::synthetic::{file, model, plain_config};
use crate::format::Encoding;
use crate::image::ColorMode;
use crate::model::Model;
use crate::session::SessionOptions;

fn picture(width: u32, height: u32, color: ColorMode, seed: u8) -> Image {
    let length = (width * height) as usize * color.channels();
    let pixels = (0..length).map(|index| (index as u8).wrapping_mul(31) ^ seed).collect();
    Image::new(width, height, color, pixels).unwrap()
}

#[test]
fn probabilities_add_up_and_are_sorted() {
    let predictions = Prediction::top(&[1.0, 3.0, 3.0, -500.0], 10).unwrap();
    let classes: Vec<usize> = predictions.iter().map(|prediction| prediction.class).collect();
    assert_eq!(classes, [1, 2, 0, 3]);
    let sum: f64 = predictions.iter().map(|prediction| prediction.probability).sum();
    assert!((sum - 1.0).abs() < 1e-12);
    assert_eq!(Prediction::top(&[1.0, 2.0], 1).unwrap().len(), 1);
}

#[test]
fn numbers_that_are_not_finite_are_no_answer() {
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let error = Prediction::top(&[1.0, wrong], 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("class 1 is"), "{error}");
    }
}

#[test]
fn a_batch_gives_what_each_picture_gives_alone() {
    let model = model(&plain_config(), Encoding::F32, Encoding::F16);
    let mut session = Session::new(&model, SessionOptions::default()).unwrap();
    let pictures: Vec<Image> = (0..2 * BATCH as u32 + 3)
        .map(|index| {
            let color = if index % 3 == 0 { ColorMode::Grey } else { ColorMode::Rgb };
            picture(1 + 7 * index, 90 - index, color, index as u8)
        })
        .collect();
    let together = session.classify_batch(&pictures, 4).unwrap();
    assert_eq!(together.len(), pictures.len());
    for (picture, predictions) in pictures.iter().zip(&together) {
        assert_eq!(session.classify(picture, 4).unwrap(), *predictions);
        let pixels = model.preprocessor().unwrap().apply(picture).unwrap();
        let logits = session.run(&pixels, 1).unwrap();
        assert_eq!(Prediction::top(&logits, 4).unwrap(), *predictions);
    }
    let distinct = together.iter().any(|predictions| predictions[0] != together[0][0]);
    assert!(distinct, "the pictures look alike to the model, so the test shows nothing");
    assert!(session.classify_batch(&[], 4).unwrap().is_empty());
    assert_eq!(model.class_name(3), Some("name 3"));
    assert_eq!(model.class_name(7), None);
}

#[test]
fn features_are_not_classified() {
    let config = crate::model::config::VitConfig { num_classes: 0, ..plain_config() };
    let model = Model::from_bytes(file(&config, Encoding::F32, Encoding::F16, &[])).unwrap();
    let mut session = Session::new(&model, SessionOptions::default()).unwrap();
    let error = session.classify(&picture(5, 5, ColorMode::Rgb, 0), 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input);
    assert!(error.to_string().contains("no classes"), "{error}");
}
