//! Tuning the carried digits model, quantized with round to nearest.

use burn::tensor::Tensor;
use fresnel_runtime::format::CodeWidth;

use super::parameters::Parameter;
use super::samples::{Sample, Sampler, stack};
use super::*;
use crate::algorithm::{Method, StatisticsOptions};
use crate::device::read;
use crate::digits::{self, Digits};
use crate::pipeline;
use crate::vit::VectorKind;
use crate::widths::LayerWidths;

/// The digits model at `width`, its edges in 8 bit.
fn quantized(model: &FloatModel, width: CodeWidth) -> QuantizedModel {
    let (method, statistics) = (Method::Rtn { symmetric: false }, StatisticsOptions::default());
    let widths = (&LayerWidths::uniform(width), "8".parse().unwrap());
    pipeline::quantize(model, (&method, &statistics), widths, None, &Device::cpu(), |_| {}).unwrap()
}

fn images(model: &FloatModel, count: usize) -> CalibrationImages {
    let mut pixels = Digits::calibration().unwrap().pixels(model).unwrap();
    pixels.truncate(count);
    CalibrationImages::from_pixels(pixels)
}

fn with_samples(
    model: &FloatModel,
    student: &Student,
    count: usize,
    labels: Option<&[u32]>,
    then: impl FnOnce(&Device, &Workers, Vec<Sample>),
) {
    let device = Device::cpu();
    let workers = Workers::new(&device).unwrap();
    let sampler = Sampler {
        device: &device,
        workers: &workers,
        config: &model.config,
        images: &images(model, count),
        labels,
        teacher: &Vit::load(&device, model),
        embedding: student.embedding(),
        streams: true,
    };
    let samples = sampler.all().unwrap();
    then(&device, &workers, samples);
}

/// Weight of the residual streams in the checks of gradients.
const STREAM_WEIGHT: f64 = 0.5;

/// Mean loss of the outputs, and the whole objective.
fn losses(student: &Student, parameters: &[Parameter], samples: &[Sample]) -> [f64; 2] {
    let device = Device::cpu();
    let vectors: Vec<Tensor<1>> =
        parameters.iter().map(|parameter| device.vector(parameter.values.clone())).collect();
    let (streams, outputs) = student.outputs(&vectors, stack(samples));
    let (outputs, blocks) = (read(outputs).unwrap(), streams.len());
    let columns = outputs.len() / samples.len();
    let losses = samples.iter().zip(outputs.chunks_exact(columns));
    let loss: f64 = losses.map(|(sample, outputs)| sample.target.loss(outputs)).sum();
    let distances = streams.into_iter().enumerate().map(|(block, stream)| {
        let float = samples.iter().map(|sample| sample.streams[block].clone()).collect();
        let distance = loss::stream_distance(stream, Tensor::cat(float, 0), samples.len());
        f64::from(read(distance).unwrap()[0])
    });
    let distance = distances.sum::<f64>() / blocks as f64;
    let count = samples.len() as f64;
    [loss / count, (loss + STREAM_WEIGHT * distance) / count]
}

/// Along the gradient of each kind of vector the loss must rise as fast as the gradient is long.
fn check_gradients(model: &FloatModel, width: CodeWidth, labels: Option<&[u32]>) {
    let quantized = quantized(model, width);
    let mut student = Student::new(&Device::cpu(), model, &quantized, Tuned::All);
    let parameters = student.parameters().unwrap();
    with_samples(model, &student, 6, labels, |device, workers, samples| {
        let (sum, gradients) =
            gradients(device, workers, &student, &parameters, (&samples, STREAM_WEIGHT)).unwrap();
        let [loss, _] = losses(&student, &parameters, &samples);
        assert!((sum / 6.0 - loss).abs() < 1e-4 * loss.max(1.0), "{sum} for {loss}");
        for kind in [VectorKind::Norm, VectorKind::Bias, VectorKind::Scale, VectorKind::Offset] {
            let chosen = |parameter: &Parameter| parameter.kind == kind;
            let length = parameters
                .iter()
                .zip(&gradients)
                .filter(|(parameter, _)| chosen(parameter))
                .flat_map(|(_, gradient)| gradient)
                .map(|value| value * value)
                .sum::<f64>()
                .sqrt();
            assert!(length > 0.0, "{kind:?}: no gradient");
            // Small against the curvature, large against rounding.
            let step = 2e-4 / length.max(0.1);
            let moved = |sign: f64| {
                let mut parameters = parameters.clone();
                for (parameter, gradient) in parameters.iter_mut().zip(&gradients) {
                    if chosen(parameter) {
                        for (value, gradient) in parameter.values.iter_mut().zip(gradient) {
                            *value += (sign * step * gradient / length) as f32;
                        }
                    }
                }
                losses(&student, &parameters, &samples)[1]
            };
            let slope = (moved(1.0) - moved(-1.0)) / (2.0 * step);
            assert!(
                (slope - length).abs() < 0.02 * length,
                "{kind:?}: slope {slope}, gradient {length}"
            );
        }
    });
}

#[test]
fn gradients_agree_with_finite_differences() {
    let model = digits::model().unwrap();
    check_gradients(&model, CodeWidth::Ternary, None);
    check_gradients(&model, CodeWidth::Ternary, Some(&[0, 1, 2, 3, 4, 5]));
}

#[test]
fn gradients_agree_with_finite_differences_without_classifier() {
    let mut model = digits::model().unwrap();
    model.config.num_classes = 0;
    check_gradients(&model, CodeWidth::Ternary, None);
}

#[test]
fn codes_with_their_grid_beside_them_give_the_dequantized_outputs() {
    let model = digits::model().unwrap();
    let quantized = quantized(&model, CodeWidth::Ternary);
    let apart = Student::new(&Device::cpu(), &model, &quantized, Tuned::All);
    let whole = Student::new(&Device::cpu(), &model, &quantized, Tuned::Norms);
    with_samples(&model, &apart, 8, None, |_, _, samples| {
        let outputs = |student: &Student| read(student.outputs(&[], stack(&samples)).1).unwrap();
        for (a, b) in outputs(&apart).into_iter().zip(outputs(&whole)) {
            assert!((a - b).abs() < 1e-3, "{a} and {b}");
        }
    });
}

/// Tunes the digits model at 1.58 bit on 160 of 200 digits.
fn tuned(device: &Device, options: &TuningOptions) -> (QuantizedModel, TuningReport) {
    let model = digits::model().unwrap();
    let (training, held_back) = options.divide(&images(&model, 200)).unwrap();
    let mut quantized = quantized(&model, CodeWidth::Ternary);
    let report =
        tune(&model, &mut quantized, (&training, &held_back), device, options, |_| {}).unwrap();
    (quantized, report)
}

#[test]
fn tuning_repairs_a_ternary_model() {
    let untuned = quantized(&digits::model().unwrap(), CodeWidth::Ternary);
    let mut losses = Vec::new();
    for tuned_vectors in [Tuned::Norms, Tuned::All] {
        let options = TuningOptions { epochs: 4, ..TuningOptions::new(tuned_vectors, 1) };
        let (quantized, report) = tuned(&Device::cpu(), &options);
        assert_eq!((report.training_images, report.held_back_images), (160, 40));
        assert!(report.after.loss < 0.7 * report.before.loss, "{report:?}");
        assert!(report.after.agreement > report.before.agreement, "{report:?}");
        assert!(report.training_losses.last() < report.training_losses.first(), "{report:?}");
        let best = report.scores.iter().map(|score| score.loss).fold(f64::INFINITY, f64::min);
        assert_eq!(report.after.loss, best);
        for (layer, before) in quantized.layers.iter().zip(&untuned.layers) {
            assert_eq!(layer.linear.codes, before.linear.codes, "{}", layer.name);
            let same = layer.linear == before.linear;
            let tunable = tuned_vectors == Tuned::All && layer.name.starts_with("blocks");
            assert_eq!(same, !tunable, "{}", layer.name);
        }
        losses.push(report.after.loss);
    }
    assert!(losses[1] < losses[0], "more vectors help this model: {losses:?}");
}

#[test]
fn a_model_that_tuning_only_harms_stays_as_it_is() {
    let mut options = TuningOptions { epochs: 2, ..TuningOptions::new(Tuned::All, 1) };
    options.learning_rates =
        LearningRates { norms: 30.0, biases: 30.0, scales: 30.0, offsets: 30.0 };
    let (quantized, report) = tuned(&Device::cpu(), &options);
    assert_eq!((report.best_epoch, report.after), (0, report.before));
    let untuned = super::tests::quantized(&digits::model().unwrap(), CodeWidth::Ternary);
    assert_eq!(quantized.layers, untuned.layers);
    assert!(quantized.replaced.is_empty());
}

#[test]
fn labels_are_targets_too() {
    let model = digits::model().unwrap();
    let device = Device::cpu();
    let mut options = TuningOptions { epochs: 3, ..TuningOptions::new(Tuned::Norms, 1) };
    // The float model's classes stand in for labels.
    let teacher = Vit::load(&device, &model);
    let batch = images(&model, 100).load(&(0..100).collect::<Vec<_>>()).unwrap().concat();
    let outputs = read(teacher.logits(teacher.embedding.forward(&device, batch, 100))).unwrap();
    let class = |row: &[f32]| crate::agreement::first_class(row).unwrap() as u32;
    options.labels = Some(outputs.chunks_exact(10).map(class).collect());
    let (training, held_back) = options.divide(&images(&model, 100)).unwrap();
    let run = |options: &TuningOptions| {
        let mut quantized = quantized(&model, CodeWidth::Ternary);
        tune(&model, &mut quantized, (&training, &held_back), &device, options, |_| {})
    };
    let report = run(&options).unwrap();
    assert!(report.after.loss < report.before.loss, "{report:?}");

    options.labels.as_mut().unwrap()[99] = 10;
    let error = run(&options).unwrap_err();
    assert!(error.to_string().contains("label 10"), "{error}");
    options.labels.as_mut().unwrap().pop();
    assert!(run(&options).unwrap_err().to_string().contains("100 images, found 99"));
}

#[test]
fn tuning_needs_an_image_on_either_side() {
    let model = digits::model().unwrap();
    let options = TuningOptions::new(Tuned::Norms, 0);
    assert!(options.divide(&images(&model, 1)).is_err());
    let (training, held_back) = options.divide(&images(&model, 2)).unwrap();
    assert_eq!((training.len(), held_back.len()), (1, 1));
    let none = CalibrationImages::from_pixels(Vec::new());
    let mut quantized = quantized(&model, CodeWidth::Ternary);
    let result = tune(&model, &mut quantized, (&training, &none), &Device::cpu(), &options, |_| {});
    assert!(result.is_err());
}

#[test]
fn samples_made_anew_are_those_that_are_kept() {
    let model = digits::model().unwrap();
    let device = Device::cpu();
    let workers = Workers::new(&device).unwrap();
    let (teacher, images) = (Vit::load(&device, &model), images(&model, 9));
    let sampler = Sampler {
        device: &device,
        workers: &workers,
        config: &model.config,
        images: &images,
        labels: None,
        teacher: &teacher,
        embedding: &teacher.embedding,
        streams: true,
    };
    let kept = sampler.all().unwrap();
    let floats = |sample: &Sample| {
        let streams = std::iter::once(&sample.stream).chain(&sample.streams);
        streams.flat_map(|stream| read(stream.clone()).unwrap()).collect::<Vec<f32>>()
    };
    let bytes: usize = kept.iter().map(|sample| floats(sample).len() * size_of::<f32>()).sum();
    assert_eq!(bytes, sampler.bytes());
    for (sample, place) in sampler.samples(&[8, 0, 5]).unwrap().iter().zip([8, 0, 5]) {
        assert_eq!(sample.class, kept[place].class);
        for (a, b) in floats(sample).into_iter().zip(floats(&kept[place])) {
            assert!((a - b).abs() < 1e-4, "image {place}: {a} and {b}");
        }
    }
}
