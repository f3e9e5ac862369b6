//! Beacon (arXiv 2508.20293): quantization with integrated grid selection.
//!
//! For one channel `w` Beacon minimises `||Xw - c X~q||^2` over codes `q` *and* the scale `c`
//! (equation 3). With the optimal scale (equation 4) put in, the problem becomes: choose `q` so
//! that `X~q` points in the direction of `Xw` — no scale appears, so none needs tuning. Codes are
//! built greedily ([`initialization`]), improved one coordinate at a time ([`refinement`]), and the
//! scale is read off at the end ([`objective`]).
//!
//! All channels advance together. Coordinates go in blocks: inside a block the changes of one
//! coordinate reach the others by rank-1 updates ([`super::block`]); between blocks one matrix product
//! carries them, so nearly all work is burn matmul and no device sees a launch per coordinate.
//! State is f32, Gram matrices are accumulated in f64.

pub mod initialization;
pub mod objective;
pub mod order;
pub mod refinement;

use fresnel_runtime::Error;

use self::objective::Problem;
pub use self::order::ColumnOrder;
use super::QuantizedLinear;
use super::alphabet::Alphabet;
use super::lanes::on_pool;
use super::pieces;
use crate::calibration::Statistics;
use crate::device::Device;

/// How far the scale that breaks the first coordinate's tie lies below the min-max scale.
///
/// At the first coordinate every level of the right sign has cosine 1, and the choice sets the
/// scale of the whole path; levels nearest to `w/(0.75 c0)` measured best at 3 and 4 bit.
pub const REFERENCE_FACTOR: f64 = 0.75;

/// Above this number of levels nothing is gained by clipping, and the path starts at the min-max
/// scale itself.
const FEW_LEVELS: u32 = 16;

/// What the paper leaves to the user.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Number of refinement sweeps K; the paper uses 4 to 6.
    pub sweeps: u32,
    /// Symmetric alphabet (the paper's first version) instead of the asymmetric one.
    pub symmetric: bool,
    /// Order of coordinates in both phases.
    pub order: ColumnOrder,
    /// Reference scale of the first coordinate as a multiple of the min-max scale; `None` takes
    /// the level of smallest magnitude.
    pub reference_factor: Option<f64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sweeps: 6,
            symmetric: false,
            order: ColumnOrder::Norm,
            reference_factor: Some(REFERENCE_FACTOR),
        }
    }
}

/// Codes after one phase, and how well they point in the target's direction.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    /// Codes `k`, N x C row-major in the layer's own coordinate order.
    pub codes: Vec<u8>,
    /// Cosine between `Xw` and `X~q` per channel; 0 for a zero channel.
    pub cosine: Vec<f64>,
}

/// Beacon's answer for one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// The levels used.
    pub alphabet: Alphabet,
    /// After the initialization, then after each sweep that ran; the last one is the answer.
    pub phases: Vec<Phase>,
    /// Optimal scale per channel (equation 4), never negative.
    pub scale: Vec<f64>,
    /// `||X_t w||^2` per channel.
    pub energy: Vec<f64>,
}

impl Solution {
    /// Codes `k` of the last phase, N x C row-major.
    pub fn codes(&self) -> &[u8] {
        self.phases.last().map_or(&[], |phase| &phase.codes)
    }

    /// `||X_t W - X~ W^|| / ||X_t W||` after each phase, over all channels: with the optimal scale a
    /// channel's squared error is `||X_t w||^2 (1 - cos^2)`.
    pub fn relative_errors(&self) -> Vec<f64> {
        let total: f64 = self.energy.iter().sum();
        self.phases
            .iter()
            .map(|phase| {
                let error: f64 = phase
                    .cosine
                    .iter()
                    .zip(&self.energy)
                    .map(|(cosine, energy)| energy * (1.0 - cosine.clamp(0.0, 1.0).powi(2)))
                    .sum();
                if total > 0.0 { (error / total).sqrt() } else { 0.0 }
            })
            .collect()
    }

    /// The answer in the form that files store: C x N codes with scale and offset per channel.
    pub fn into_linear(self) -> QuantizedLinear {
        QuantizedLinear::on_grid(self.codes(), &self.scale, &self.alphabet.zero)
    }
}

/// Quantizes `weights` (N x C row-major) to `levels` levels per channel.
///
/// # Errors
/// Fails with [`fresnel_runtime::ErrorKind::Invalid`] when the statistics hold values that are not finite or are of
/// another width than the weights, and with [`fresnel_runtime::ErrorKind::Device`] when the device fails.
pub fn solve(
    device: &Device,
    statistics: &Statistics,
    weights: &[f32],
    levels: u32,
    options: &Options,
) -> Result<Solution, Error> {
    statistics.check(weights.len())?;
    on_pool(|| search(device, statistics, weights, levels, options))
}

/// Both phases, for statistics that fit the weights.
fn search(
    device: &Device,
    statistics: &Statistics,
    weights: &[f32],
    levels: u32,
    options: &Options,
) -> Result<Solution, Error> {
    let inputs = statistics.inputs();
    let channels = weights.len() / inputs;
    let alphabet = Alphabet::new(weights, channels, levels, options.symmetric);
    let orders = options.order.orders(statistics);

    let start = Problem::new(device, statistics, weights, &alphabet, &orders.initialization);
    // The min-max scale of the asymmetric grid, whichever grid is used.
    let min_max = if options.symmetric {
        Alphabet::asymmetric(weights, channels, levels).scale
    } else {
        alphabet.scale.clone()
    };
    let reference = options
        .reference_factor
        .map(|factor| if levels > FEW_LEVELS { 1.0 } else { factor })
        .map(|factor| min_max.iter().map(|&scale| (factor * scale) as f32).collect::<Vec<_>>());
    let problem = Problem::new(device, statistics, weights, &alphabet, &orders.refinement);
    let energy = statistics.target_energy(device, weights)?;
    let parts = pieces::solve(device, channels, |piece| {
        let alphabet = alphabet.part(piece.clone());
        let reference = reference.as_ref().map(|scale| scale[piece.clone()].to_vec());
        let start = start.part(piece.clone(), &alphabet);
        let codes = start.to_layer_order(&initialization::run(device, &start, reference)?);
        let problem = problem.part(piece.clone(), &alphabet);
        improve(device, &problem, &codes, &energy[piece], options.sweeps)
    })?;
    let phases = parts.iter().map(|part| part.phases.len()).max().unwrap_or(0);
    let phases = (0..phases).map(|phase| Part::join_phase(&parts, phase, inputs)).collect();
    let scale = parts.into_iter().flat_map(|part| part.scale).collect();
    drop((start, problem));
    Ok(Solution { alphabet, phases, scale, energy })
}

/// The answer for some of the channels.
struct Part {
    phases: Vec<Phase>,
    scale: Vec<f64>,
}

impl Part {
    /// All parts after one phase; a part that stopped before stays as it is.
    fn join_phase(parts: &[Self], phase: usize, inputs: usize) -> Phase {
        let own = parts.iter().filter_map(|part| part.phases.get(phase).or(part.phases.last()));
        Phase {
            codes: pieces::join(own.clone().map(|phase| phase.codes.as_slice()), inputs),
            cosine: own.flat_map(|phase| &phase.cosine).copied().collect(),
        }
    }
}

/// Sweeps over `codes` (N x C in the layer's order) until none changes; `energy` is `||X_t w||^2`.
fn improve(
    device: &Device,
    problem: &Problem,
    codes: &[u8],
    energy: &[f64],
    sweeps: u32,
) -> Result<Part, Error> {
    let target = problem.target();
    let mut phases = Vec::new();
    let mut state = problem.state(problem.upload_codes(codes), &target)?;
    phases.push(problem.phase(&state, energy)?);
    for _ in 0..sweeps {
        let (next, changed) = refinement::sweep(device, problem, state)?;
        state = problem.state(next, &target)?;
        phases.push(problem.phase(&state, energy)?);
        if !changed {
            break;
        }
    }
    Ok(Part { phases, scale: problem.optimal_scale(&state)? })
}
