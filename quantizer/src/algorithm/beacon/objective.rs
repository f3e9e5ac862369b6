//! The objective in Gram form (equations 3 to 5).
//!
//! With `B = M W`, `h = G q`, `s = <Xw, X~q> = sum_t b_t q_t` and `n = ||X~q||^2 = sum_t q_t h_t`,
//! the optimal scale is `c = s/n`, the cosine `s / (sqrt(n) ||Xw||)` and the error
//! `||Xw||^2 - s^2/n`. Changing one code by `d` changes `s` by `d b_t` and `n` by
//! `2 d h_t + d^2 G_tt`; only `h` needs a vector update.

use std::ops::Range;

use burn::tensor::Tensor;
use fresnel_runtime::Error;

use super::Phase;
use crate::algorithm::alphabet::Alphabet;
use crate::calibration::Statistics;
use crate::device::{Device, read};

/// One layer's matrices on the device, with coordinates permuted into a visiting order.
pub struct Problem<'a> {
    /// Levels of each channel.
    pub alphabet: &'a Alphabet,
    /// `G`, N x N.
    pub gram: Tensor<2>,
    /// `M`, N x N; `None` where it equals `G`.
    pub cross: Option<Tensor<2>>,
    /// `W`, N x C.
    pub weights: Tensor<2>,
    /// Zero points, 1 x C.
    pub zero: Tensor<2>,
    /// Largest diagonal element of `G`.
    pub largest_energy: f64,
    /// Position to coordinate.
    order: &'a [usize],
    device: Device,
}

/// Codes with the sums that score them.
pub struct State {
    /// Codes `k`, N x C.
    pub codes: Tensor<2>,
    /// `h = G q`, N x C.
    pub h: Tensor<2>,
    /// `B = M W`, N x C.
    pub target: Tensor<2>,
    /// `s`, 1 x C.
    pub s: Tensor<2>,
    /// `n`, 1 x C.
    pub n: Tensor<2>,
}

impl<'a> Problem<'a> {
    /// Uploads a layer with its coordinates in `order`.
    pub fn new(
        device: &Device,
        statistics: &Statistics,
        weights: &[f32],
        alphabet: &'a Alphabet,
        order: &'a [usize],
    ) -> Self {
        let inputs = order.len();
        let channels = alphabet.channels();
        let mut permuted_weights = Vec::with_capacity(weights.len());
        for &row in order {
            permuted_weights.extend_from_slice(&weights[row * channels..][..channels]);
        }
        let zero = alphabet.zero.iter().map(|&zero| zero as f32).collect();
        Self {
            alphabet,
            gram: device.matrix(statistics.gram(order), inputs, inputs),
            cross: statistics.cross(order).map(|cross| device.matrix(cross, inputs, inputs)),
            weights: device.matrix(permuted_weights, inputs, channels),
            zero: device.matrix(zero, 1, channels),
            largest_energy: order.iter().map(|&j| statistics.column_energy(j)).fold(0.0, f64::max),
            order,
            device: device.clone(),
        }
    }

    /// Number of coordinates, N.
    pub fn inputs(&self) -> usize {
        self.order.len()
    }

    /// `M`, or `G` where they are equal.
    pub fn cross_or_gram(&self) -> &Tensor<2> {
        self.cross.as_ref().unwrap_or(&self.gram)
    }

    /// Permutes codes (N x C, positions) back into the layer's order (N x C, coordinates).
    pub fn to_layer_order(&self, codes: &[f32]) -> Vec<u8> {
        let channels = self.alphabet.channels();
        let mut natural = vec![0_u8; codes.len()];
        for (position, &coordinate) in self.order.iter().enumerate() {
            let from = &codes[position * channels..][..channels];
            let to = &mut natural[coordinate * channels..][..channels];
            // Codes are whole numbers in 0..=255; by way of i32 the conversion is vectorised.
            to.iter_mut().zip(from).for_each(|(to, &from)| *to = from as i32 as u8);
        }
        natural
    }

    /// Uploads codes given in the layer's order.
    pub fn upload_codes(&self, codes: &[u8]) -> Tensor<2> {
        let channels = self.alphabet.channels();
        let mut permuted = Vec::with_capacity(codes.len());
        for &row in self.order {
            let codes = &codes[row * channels..][..channels];
            permuted.extend(codes.iter().map(|&code| f32::from(code)));
        }
        self.device.matrix(permuted, self.inputs(), channels)
    }

    /// `B = M W`, N x C: the same for all codes, so made once and given to [`Problem::state`].
    pub fn target(&self) -> Tensor<2> {
        self.cross_or_gram().clone().matmul(self.weights.clone())
    }

    /// The problem of some of the channels, whose grid is `alphabet`.
    pub fn part<'b>(&self, piece: Range<usize>, alphabet: &'b Alphabet) -> Problem<'b>
    where
        'a: 'b,
    {
        let mut part = self.on(alphabet);
        if piece.len() < self.alphabet.channels() {
            part.weights = part.weights.narrow(1, piece.start, piece.len());
        }
        part
    }

    /// The same matrices with another alphabet.
    pub fn on<'b>(&self, alphabet: &'b Alphabet) -> Problem<'b>
    where
        'a: 'b,
    {
        let zero = alphabet.zero.iter().map(|&zero| zero as f32).collect();
        Problem {
            alphabet,
            gram: self.gram.clone(),
            cross: self.cross.clone(),
            weights: self.weights.clone(),
            zero: self.device.matrix(zero, 1, alphabet.channels()),
            largest_energy: self.largest_energy,
            order: self.order,
            device: self.device.clone(),
        }
    }

    /// Scores codes afresh, which also removes the rounding that updates have gathered; `target` is
    /// [`Problem::target`].
    ///
    /// # Errors
    /// Fails when the device fails.
    pub fn state(&self, codes: Tensor<2>, target: &Tensor<2>) -> Result<State, Error> {
        let q = codes.clone() - self.zero.clone();
        let h = self.gram.clone().matmul(q.clone());
        let target = target.clone();
        let s = (target.clone() * q.clone()).sum_dim(0);
        let n = (q * h.clone()).sum_dim(0);
        Ok(State { codes, h, target, s, n })
    }

    /// The scale of equation (4) per channel: `s/n`, and 0 where `X~q` is zero or points away.
    ///
    /// # Errors
    /// Fails when the device fails.
    pub fn optimal_scale(&self, state: &State) -> Result<Vec<f64>, Error> {
        let (s, n) = (read(state.s.clone())?, read(state.n.clone())?);
        Ok(s.iter()
            .zip(&n)
            .map(|(&s, &n)| {
                let scale = f64::from(s) / f64::from(n);
                if n > 0.0 && scale.is_finite() { scale.max(0.0) } else { 0.0 }
            })
            .collect())
    }

    /// Reads a phase's codes and cosines; `energy` is `||Xw||^2` per channel.
    ///
    /// # Errors
    /// Fails when the device fails.
    pub fn phase(&self, state: &State, energy: &[f64]) -> Result<Phase, Error> {
        let (s, n) = (read(state.s.clone())?, read(state.n.clone())?);
        let cosine = s
            .iter()
            .zip(&n)
            .zip(energy)
            .map(|((&s, &n), &energy)| {
                let product = f64::from(n) * energy;
                if product > 0.0 { f64::from(s) / product.sqrt() } else { 0.0 }
            })
            .collect();
        Ok(Phase { codes: self.to_layer_order(&read(state.codes.clone())?), cosine })
    }
}
