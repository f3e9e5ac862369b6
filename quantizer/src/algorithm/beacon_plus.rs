//! Beacon+: Beacon's objective from better starts, on a grid with a free real-valued offset.
//!
//! Plain Beacon builds its start greedily, and its sweeps, which move one code by one step, stay in
//! the basin of that start; its integer zero point is a coin flip at 2 bit. At the same storage
//! (codes and two numbers per channel) Beacon+
//!
//! 1. scans damped GPTQ solutions over start scales and zero points ([`SCALE_FACTORS`]) and keeps,
//!    per channel, the one with the best *Beacon objective* — scale and offset refitted, so the scan
//!    needs no accurate scale;
//! 2. runs Beacon's sweeps on it, on the Gram matrix with the direction `X~ 1` projected out
//!    ([`Statistics::deflated`]), which is exact for a free offset;
//! 3. fits scale and offset by least squares: `w = c k + d`.
//!
//! Heavy-tailed layers decide the error of the whole model, so the scan reaches up to twice the
//! typical scale and includes the min-max zero point, which keeps outlier weights on the grid.

use burn::tensor::Tensor;
use fresnel_runtime::Error;

use super::QuantizedLinear;
use super::alphabet::Alphabet;
use super::beacon::objective::{Problem, State};
use super::beacon::refinement;
use super::gptq::{RoundingOrder, Solver};
use super::pieces;
use crate::calibration::Statistics;
use crate::device::{Device, read};
use crate::linear_algebra::product;

/// Start scales tried, as multiples of a typical scale for the number of levels.
pub const SCALE_FACTORS: [f64; 9] = [0.5, 0.63, 0.8, 0.9, 1.0, 1.12, 1.25, 1.5, 2.0];

/// What the user may choose.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Sweeps after the scan.
    pub sweeps: u32,
    /// Damping as a share of the mean of `G`'s diagonal: shrinks towards the float weights.
    pub damping: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self { sweeps: 4, damping: 0.03 }
    }
}

/// Beacon+'s answer for one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// Codes of the best start, N x C row-major.
    pub start_codes: Vec<u8>,
    /// Zero point of the best start per channel.
    pub start_zero: Vec<f64>,
    /// Codes `k`, N x C row-major.
    pub codes: Vec<u8>,
    /// Scale `c` per channel, never negative.
    pub scale: Vec<f64>,
    /// Offset `d` per channel.
    pub offset: Vec<f64>,
    /// Relative error on the damped statistics after the scan and after each sweep.
    pub relative_errors: Vec<f64>,
}

impl Solution {
    /// The answer in the form that files store.
    pub fn into_linear(self) -> QuantizedLinear {
        QuantizedLinear::new(&self.codes, &self.scale, &self.offset)
    }
}

/// Typical scale of the best solution as a share of the min-max scale.
fn typical_scale(levels: u32) -> f64 {
    match levels {
        3 => 0.4,
        4 => 0.5,
        8 => 0.68,
        16 => 0.82,
        _ => 0.95,
    }
}

/// Quantizes `weights` (N x C row-major) to `levels` levels per channel; `statistics` are centred
/// where a bias absorbs the mean.
///
/// # Errors
/// [`fresnel_runtime::ErrorKind::Invalid`] when the statistics are not finite or all inputs are
/// zero, and [`fresnel_runtime::ErrorKind::Device`] when the device fails.
pub fn solve(
    device: &Device,
    statistics: &Statistics,
    weights: &[f64],
    levels: u32,
    options: &Options,
) -> Result<Solution, Error> {
    statistics.check(weights.len())?;
    let inputs = statistics.inputs();
    let channels = weights.len() / inputs;
    let narrow: Vec<f32> = weights.iter().map(|&weight| weight as f32).collect();
    let damped = statistics.clone().damped(options.damping);
    let deflated = damped.clone().deflated();

    let min_max = Alphabet::asymmetric(&narrow, channels, levels);
    let gptq = Solver::new(device, &damped, RoundingOrder::DecreasingNorm, 0.0)?;
    // What GPTQ rounds: the least-squares weights for the target, the float ones if M = G.
    let targets = if damped.has_cross() {
        let right = product(damped.cross_matrix(), weights, channels);
        gptq.solve(&right, channels).into_iter().map(|target| target as f32).collect()
    } else {
        narrow.clone()
    };
    let problem = Problem::new(device, &deflated, &narrow, &min_max, gptq.order());
    let parts = pieces::solve(device, channels, |piece| {
        let alphabet = min_max.part(piece.clone());
        let problem = problem.part(piece.clone(), &alphabet);
        let target = problem.target();
        let targets = gptq.upload(&pieces::columns(&targets, channels, &piece));
        let best = scan(device, &problem, &gptq, &targets, &target)?;
        improve(device, &problem, best, &target, options.sweeps)
    })?;

    let fit = Fit::new(device, &damped, weights, &narrow)?;
    let join = |codes: fn(&Part) -> &[u8]| pieces::join(parts.iter().map(codes), inputs);
    let (start_codes, codes) = (join(|part| &part.start_codes), join(|part| &part.codes));
    let phases = parts.iter().map(|part| part.explained.len()).max().unwrap_or(0);
    let relative_errors = (0..phases)
        .map(|phase| {
            // A part that stopped before stays as it is.
            let own = |part: &Part| part.explained[phase.min(part.explained.len() - 1)].clone();
            fit.relative_error(&parts.iter().flat_map(own).collect::<Vec<_>>())
        })
        .collect();
    let (start_zero, scale): (Vec<_>, Vec<_>) =
        parts.into_iter().map(|part| (part.start_zero, part.scale)).unzip();
    let scale = scale.concat();
    let offset = fit.offset(&codes, &scale);
    Ok(Solution {
        start_codes,
        start_zero: start_zero.concat(),
        codes,
        scale,
        offset,
        relative_errors,
    })
}

/// The answer for some of the channels.
struct Part {
    start_codes: Vec<u8>,
    start_zero: Vec<f64>,
    codes: Vec<u8>,
    scale: Vec<f64>,
    /// [`objective`] after the scan and after each sweep.
    explained: Vec<Vec<f64>>,
}

/// The best start of each channel, its min-max grid being that of `problem`. `targets` are what GPTQ
/// rounds and `target` is [`Problem::target`], both in the problem's order.
fn scan(
    device: &Device,
    problem: &Problem,
    gptq: &Solver,
    targets: &Tensor<2>,
    target: &Tensor<2>,
) -> Result<Start, Error> {
    let &Alphabet { levels, ref scale, ref zero } = problem.alphabet;
    let mut best = Start::none(device, problem);
    for zero in [&vec![f64::from(levels - 1) / 2.0; scale.len()], zero] {
        for factor in SCALE_FACTORS {
            let factor = typical_scale(levels) * factor;
            let scale = scale.iter().map(|scale| scale * factor).collect();
            let alphabet = Alphabet { levels, scale, zero: zero.clone() };
            let codes = gptq.round(targets, &alphabet)?;
            let state = problem.on(&alphabet).state(codes, target)?;
            best.keep_better(device, &state, &alphabet.zero)?;
        }
    }
    Ok(best)
}

/// Sweeps from the best starts, until none changes.
fn improve(
    device: &Device,
    problem: &Problem,
    best: Start,
    target: &Tensor<2>,
    sweeps: u32,
) -> Result<Part, Error> {
    let alphabet = Alphabet { zero: best.zero, ..problem.alphabet.clone() };
    let problem = problem.on(&alphabet);
    let start_codes = problem.to_layer_order(&read(best.codes.clone())?);
    let mut state = problem.state(best.codes, target)?;
    let mut explained = vec![objective(&state)?];
    for _ in 0..sweeps {
        let (next, changed) = refinement::sweep(device, &problem, state)?;
        state = problem.state(next, target)?;
        explained.push(objective(&state)?);
        if !changed {
            break;
        }
    }
    let scale = problem.optimal_scale(&state)?;
    let codes = problem.to_layer_order(&read(state.codes)?);
    Ok(Part { start_codes, start_zero: alphabet.zero, codes, scale, explained })
}

/// `s / sqrt(n)` per channel: the cosine up to the target's norm.
fn objective(state: &State) -> Result<Vec<f64>, Error> {
    let (s, n) = (read(state.s.clone())?, read(state.n.clone())?);
    Ok(s.iter()
        .zip(&n)
        .map(|(&s, &n)| if n > 0.0 { f64::from(s) / f64::from(n).sqrt() } else { 0.0 })
        .collect())
}

/// The best start of each channel so far.
struct Start {
    /// N x C in the problem's order.
    codes: Tensor<2>,
    zero: Vec<f64>,
    objective: Vec<f64>,
}

impl Start {
    fn none(device: &Device, problem: &Problem) -> Self {
        let channels = problem.alphabet.channels();
        Self {
            codes: Tensor::zeros([problem.inputs(), channels], device.burn()),
            zero: vec![0.0; channels],
            objective: vec![f64::NEG_INFINITY; channels],
        }
    }

    /// Takes the channels over that `state`, of codes with the zero points `zero`, does better.
    fn keep_better(&mut self, device: &Device, state: &State, zero: &[f64]) -> Result<(), Error> {
        let mut better = vec![0.0; zero.len()];
        for (channel, objective) in objective(state)?.into_iter().enumerate() {
            if objective > self.objective[channel] {
                self.objective[channel] = objective;
                self.zero[channel] = zero[channel];
                better[channel] = 1.0;
            }
        }
        if better.contains(&1.0) {
            // Exact, since codes are small whole numbers.
            let change = state.codes.clone() - self.codes.clone();
            let better = device.matrix(better, 1, zero.len());
            self.codes = self.codes.clone() + change * better;
        }
        Ok(())
    }
}

/// Least squares for the offset, `d = (1'B - c g'k) / gamma` with `g = G 1` and `gamma = 1'g`, and
/// the error that is left.
struct Fit {
    row_sums: Vec<f64>,
    total: f64,
    /// `1'B` per channel.
    target_sums: Vec<f64>,
    /// `||X_t w||^2` per channel.
    energy: Vec<f64>,
}

impl Fit {
    fn new(
        device: &Device,
        statistics: &Statistics,
        weights: &[f64],
        narrow: &[f32],
    ) -> Result<Self, Error> {
        let inputs = statistics.inputs();
        let row_sums: Vec<f64> =
            statistics.gram_matrix().chunks_exact(inputs).map(|row| row.iter().sum()).collect();
        let mut column_sums = vec![0.0; inputs];
        for row in statistics.cross_matrix().chunks_exact(inputs) {
            column_sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        let channels = weights.len() / inputs;
        Ok(Self {
            total: row_sums.iter().sum(),
            row_sums,
            target_sums: product(&column_sums, weights, channels),
            energy: statistics.target_energy(device, narrow)?,
        })
    }

    fn offset(&self, codes: &[u8], scale: &[f64]) -> Vec<f64> {
        let mut coupled = vec![0.0; scale.len()];
        for (row, &sum) in codes.chunks_exact(scale.len()).zip(&self.row_sums) {
            coupled.iter_mut().zip(row).for_each(|(total, &code)| *total += sum * f64::from(code));
        }
        coupled
            .iter()
            .zip(scale)
            .zip(&self.target_sums)
            .map(|((coupled, scale), target)| {
                let offset = (target - scale * coupled) / self.total;
                if offset.is_finite() { offset } else { 0.0 }
            })
            .collect()
    }

    /// What scale and offset leave: `||X_t w||^2 - (1'b)^2/gamma - s^2/n`, over all channels.
    /// `explained` is [`objective`].
    fn relative_error(&self, explained: &[f64]) -> f64 {
        let left: f64 = (0..self.energy.len())
            .map(|channel| {
                let constant =
                    self.target_sums[channel].powi(2) / self.total.max(f64::MIN_POSITIVE);
                (self.energy[channel] - constant - explained[channel].powi(2)).max(0.0)
            })
            .sum();
        let total: f64 = self.energy.iter().sum();
        if total > 0.0 { (left / total).sqrt() } else { 0.0 }
    }
}
