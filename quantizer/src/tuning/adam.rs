//! Adam (arXiv 1412.6980) with a learning rate per value that falls along half a cosine.
//!
//! The tuned vectors are small, so they live on the host: a step is the same on every device.

use super::parameters::Parameter;

const FIRST_MOMENT_DECAY: f64 = 0.9;
const SECOND_MOMENT_DECAY: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// The moments of every tuned value.
#[derive(Debug)]
pub(super) struct Adam {
    /// Mean of the gradients and of their squares, per parameter and value.
    moments: Vec<Vec<[f64; 2]>>,
    step: usize,
    steps: usize,
}

impl Adam {
    /// For a run of `steps` steps over `parameters`.
    pub(super) fn new(parameters: &[Parameter], steps: usize) -> Self {
        let moments =
            parameters.iter().map(|parameter| vec![[0.0; 2]; parameter.values.len()]).collect();
        Self { moments, step: 0, steps }
    }

    /// Moves every value against its gradient.
    pub(super) fn step(&mut self, parameters: &mut [Parameter], gradients: &[Vec<f64>]) {
        let progress = self.step as f64 / self.steps.max(1) as f64;
        let decay = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        self.step += 1;
        let count = i32::try_from(self.step).unwrap_or(i32::MAX);
        let unbiased =
            [FIRST_MOMENT_DECAY, SECOND_MOMENT_DECAY].map(|beta: f64| 1.0 - beta.powi(count));
        for ((parameter, gradients), moments) in
            parameters.iter_mut().zip(gradients).zip(&mut self.moments)
        {
            let values = parameter.values.iter_mut().zip(&parameter.rates);
            for (((value, &rate), &gradient), [mean, square]) in values.zip(gradients).zip(moments)
            {
                *mean += (1.0 - FIRST_MOMENT_DECAY) * (gradient - *mean);
                *square += (1.0 - SECOND_MOMENT_DECAY) * (gradient * gradient - *square);
                let change = *mean / unbiased[0] / ((*square / unbiased[1]).sqrt() + EPSILON);
                *value = (f64::from(*value) - decay * f64::from(rate) * change) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vit::VectorKind;

    fn parameter(values: Vec<f32>, rates: Vec<f32>) -> Parameter {
        Parameter { name: String::new(), kind: VectorKind::Norm, values, rates }
    }

    #[test]
    fn the_first_step_is_as_long_as_the_rate() {
        let mut parameters = [parameter(vec![1.0, 1.0, 1.0], vec![0.1, 0.01, 0.1])];
        Adam::new(&parameters, 10).step(&mut parameters, &[vec![1e-3, -5.0, 0.0]]);
        for (value, expected) in parameters[0].values.iter().zip([0.9, 1.01, 1.0]) {
            assert!((value - expected).abs() < 1e-5, "{value} for {expected}");
        }
    }

    #[test]
    fn a_valley_is_walked_down_and_the_last_steps_are_short() {
        let mut parameters = [parameter(vec![3.0, -2.0], vec![0.1, 0.1])];
        let mut adam = Adam::new(&parameters, 200);
        let mut moved = 0.0;
        for _ in 0..200 {
            let before = parameters[0].values[0];
            let slopes = parameters[0].values.iter().zip([1.0, 100.0]);
            let gradients = slopes.map(|(&value, slope)| slope * f64::from(value)).collect();
            adam.step(&mut parameters, &[gradients]);
            moved = (parameters[0].values[0] - before).abs();
        }
        assert!(parameters[0].values.iter().all(|value| value.abs() < 0.05), "{parameters:?}");
        assert!(moved < 1e-4, "{moved}");
    }
}
