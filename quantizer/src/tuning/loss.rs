//! How far a model's outputs are from their targets.
//!
//! With a classifier the target of an image is a distribution over the classes: the float model's
//! (distillation, no labels needed) or all on one label. The loss is the Kullback-Leibler divergence
//! of the model's softmax from it, which for a label is the cross-entropy. Without a classifier the
//! target is the float model's feature vector and the loss the squared distance, relative to that
//! vector's length.

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;

use crate::device::Device;
use crate::divergence;

/// What an image's output should be.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// Probability of each class.
    Distribution(Vec<f32>),
    /// The float model's features.
    Features(Vec<f32>),
}

impl Target {
    /// The softmax of `logits`.
    pub(super) fn soft(logits: &[f32]) -> Self {
        let logs = divergence::log_softmax(logits);
        Self::Distribution(logs.into_iter().map(|log| log.exp() as f32).collect())
    }

    /// Everything on class `label` of `classes`.
    pub(super) fn label(label: u32, classes: usize) -> Self {
        let one = |class: usize| if class == label as usize { 1.0 } else { 0.0 };
        Self::Distribution((0..classes).map(one).collect())
    }

    /// The part of the loss that does not depend on the outputs: minus the entropy of a
    /// distribution.
    pub(super) fn constant(&self) -> f64 {
        match self {
            Self::Distribution(target) => target
                .iter()
                .map(|&target| f64::from(target))
                .filter(|&target| target > 0.0)
                .map(|target| target * target.ln())
                .sum(),
            Self::Features(_) => 0.0,
        }
    }

    /// The loss of one image's outputs.
    pub(super) fn loss(&self, outputs: &[f32]) -> f64 {
        match self {
            Self::Distribution(target) => {
                let logs = target.iter().zip(divergence::log_softmax(outputs));
                self.constant() - logs.map(|(&target, log)| f64::from(target) * log).sum::<f64>()
            }
            Self::Features(target) => {
                let distance = outputs.iter().zip(target).map(|(a, b)| f64::from(a - b).powi(2));
                distance.sum::<f64>() * f64::from(inverse_energy(target))
            }
        }
    }
}

/// Sum of the losses of a shard's images, `outputs` being one row per image, without
/// [`Target::constant`].
pub(super) fn sum(device: &Device, outputs: Tensor<2>, targets: &[&Target]) -> Tensor<1> {
    let (mut wanted, mut weights, mut classes) = (Vec::new(), Vec::new(), true);
    for target in targets {
        match target {
            Target::Distribution(target) => wanted.extend_from_slice(target),
            Target::Features(target) => {
                wanted.extend_from_slice(target);
                weights.push(inverse_energy(target));
                classes = false;
            }
        }
    }
    let [rows, columns] = outputs.dims();
    let wanted = device.matrix(wanted, rows, columns);
    if classes {
        return (log_softmax(outputs, 1) * wanted).sum().neg();
    }
    let difference = outputs - wanted;
    (difference.clone() * difference * device.matrix(weights, rows, 1)).sum()
}

/// Sum over `images` of the squared distance of residual streams, relative to the float model's;
/// of all tokens together, plus of the first token by itself.
pub(super) fn stream_distance(stream: Tensor<2>, float: Tensor<2>, images: usize) -> Tensor<1> {
    let [rows, features] = stream.dims();
    let shape = [images, rows / images, features].map(|n| n as i64);
    let difference: Tensor<3> = (stream - float.clone()).reshape(shape);
    let float: Tensor<3> = float.reshape(shape);
    let energy = |t: Tensor<3>| (t.clone() * t).sum_dim(1).sum_dim(2);
    let relative = |difference: Tensor<3>, float: Tensor<3>| {
        energy(difference) / energy(float).clamp_min(f32::MIN_POSITIVE)
    };
    let all = relative(difference.clone(), float.clone());
    let first = relative(difference.narrow(1, 0, 1), float.narrow(1, 0, 1));
    (all + first).sum()
}

/// One over the sum of squares.
fn inverse_energy(values: &[f32]) -> f32 {
    let energy: f64 = values.iter().map(|&value| f64::from(value).powi(2)).sum();
    (1.0 / energy.max(f64::MIN_POSITIVE)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::read;

    fn device_loss(outputs: &[f32], columns: usize, targets: &[&Target]) -> f64 {
        let device = Device::cpu();
        let outputs = device.matrix(outputs.to_vec(), outputs.len() / columns, columns);
        let loss = read(sum(&device, outputs, targets)).expect("a loss")[0];
        f64::from(loss) + targets.iter().map(|target| target.constant()).sum::<f64>()
    }

    #[test]
    fn distillation_is_the_divergence_of_the_classes() {
        // p = (1/4, 3/4), q = (1/2, 1/2): 1/4 ln(1/2) + 3/4 ln(3/2).
        let target = Target::soft(&[5.0, 5.0 + 3.0_f32.ln()]);
        let expected = 0.25 * 0.5_f64.ln() + 0.75 * 1.5_f64.ln();
        assert!((target.loss(&[-2.0, -2.0]) - expected).abs() < 1e-6);
        assert!(target.loss(&[1.0, 1.0 + 3.0_f32.ln()]).abs() < 1e-6, "no distance from itself");
        let two = device_loss(&[-2.0, -2.0, 0.0, 3.0_f32.ln()], 2, &[&target, &target]);
        assert!((two - expected).abs() < 1e-6, "{two} for {expected}");
    }

    #[test]
    fn labels_give_the_cross_entropy() {
        let target = Target::label(1, 3);
        let expected = 3.0_f64.ln();
        assert!((target.loss(&[7.0; 3]) - expected).abs() < 1e-6);
        assert!((device_loss(&[7.0; 3], 3, &[&target]) - expected).abs() < 1e-6);
    }

    #[test]
    fn features_are_compared_by_their_distance_relative_to_their_length() {
        let (near, far) = (Target::Features(vec![3.0, 4.0]), Target::Features(vec![0.0, 1.0]));
        assert!((near.loss(&[3.0, 3.0]) - 0.04).abs() < 1e-7);
        let both = device_loss(&[3.0, 3.0, 2.0, 1.0], 2, &[&near, &far]);
        assert!((both - 4.04).abs() < 1e-5, "{both}");
    }

    #[test]
    fn the_first_token_counts_once_more() {
        let device = Device::cpu();
        let float = device.matrix(vec![1.0, 0.0, 0.0, 2.0, 2.0, 0.0], 3, 2);
        let stream = device.matrix(vec![1.0, 1.0, 0.0, 2.0, 2.0, 1.0], 3, 2);
        let distance = read(stream_distance(stream, float, 1)).expect("a distance")[0];
        assert!((distance - (2.0 / 9.0 + 1.0)).abs() < 1e-6, "{distance}");
    }
}
