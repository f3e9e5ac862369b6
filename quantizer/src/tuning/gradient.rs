//! Gradients of the loss with respect to the tuned vectors, by burn's automatic differentiation.
//!
//! Only the tuned vectors are leaves of the graph: the weights are constants, so none of their
//! gradients, the larger half of a training step, is computed.

use burn::tensor::Tensor;
use fresnel_runtime::Error;

use super::loss;
use super::parameters::Parameter;
use super::samples::{Sample, shard_size, stack};
use super::student::Student;
use super::workers::Workers;
use crate::device::{Device, read};

/// Sum of the losses of `samples`, and for each parameter the gradients of the mean objective: the
/// loss and `stream_weight` times the mean distance of the residual streams.
///
/// # Errors
/// Fails when the device fails.
pub(super) fn gradients(
    device: &Device,
    workers: &Workers,
    student: &Student,
    parameters: &[Parameter],
    (samples, stream_weight): (&[Sample], f64),
) -> Result<(f64, Vec<Vec<f64>>), Error> {
    let shards: Vec<&[Sample]> = samples.chunks(shard_size(device)).collect();
    let shards = workers
        .map(&shards, |shard| of_shard(device, student, parameters, (shard, stream_weight)))?;
    let mut sums: Vec<Vec<f64>> =
        parameters.iter().map(|parameter| vec![0.0; parameter.values.len()]).collect();
    let mut total = 0.0;
    for (loss, gradients) in shards {
        total += loss;
        for (sums, gradients) in sums.iter_mut().zip(gradients) {
            for (sum, gradient) in sums.iter_mut().zip(gradients) {
                *sum += f64::from(gradient) / samples.len() as f64;
            }
        }
    }
    Ok((total, sums))
}

/// Sum of a shard's losses, and its gradients; none for a vector that the output does not depend on.
fn of_shard(
    device: &Device,
    student: &Student,
    parameters: &[Parameter],
    (samples, stream_weight): (&[Sample], f64),
) -> Result<(f64, Vec<Vec<f32>>), Error> {
    // Each shard has leaves of its own: burn ties graphs that share one together, and backward
    // passes over tied graphs on two threads block each other for good.
    let leaves: Vec<Tensor<1>> = parameters
        .iter()
        .map(|parameter| device.vector(parameter.values.clone()).autodiff().require_grad())
        .collect();
    let (streams, outputs) = student.outputs(&leaves, stack(samples));
    let targets: Vec<_> = samples.iter().map(|sample| &sample.target).collect();
    let loss = loss::sum(device, outputs, &targets);
    let mut objective = loss.clone();
    if stream_weight > 0.0 {
        let weight = stream_weight / streams.len() as f64;
        for (block, stream) in streams.into_iter().enumerate() {
            let float = samples.iter().map(|sample| sample.streams[block].clone()).collect();
            let distance = loss::stream_distance(stream, Tensor::cat(float, 0), samples.len());
            objective = objective + distance * weight;
        }
    }
    let gradients = objective.backward();
    let constant: f64 = targets.iter().map(|target| target.constant()).sum();
    let loss: f64 = read(loss)?.into_iter().map(f64::from).sum();
    let gradients = leaves
        .iter()
        .map(|leaf| leaf.grad(&gradients).map_or(Ok(Vec::new()), read))
        .collect::<Result<_, _>>()?;
    Ok((loss + constant, gradients))
}
