//! Column orders (section 3): by increasing norm of `X~_j` while the path is built, so that the
//! strong inputs are decided last and can correct the weak ones; by decreasing norm in the sweeps.

use crate::calibration::Statistics;

/// Which order coordinates are visited in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ColumnOrder {
    /// Increasing norm for the initialization, decreasing norm for the sweeps: the paper's.
    #[default]
    Norm,
    /// The layer's own order in both phases.
    Natural,
}

/// One order per phase: position to coordinate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orders {
    /// Order of the greedy initialization.
    pub initialization: Vec<usize>,
    /// Order of every sweep.
    pub refinement: Vec<usize>,
}

impl ColumnOrder {
    /// The orders for a layer's statistics; equal norms keep the lower coordinate first.
    pub fn orders(self, statistics: &Statistics) -> Orders {
        let natural: Vec<usize> = (0..statistics.inputs()).collect();
        match self {
            Self::Natural => Orders { initialization: natural.clone(), refinement: natural },
            Self::Norm => {
                let energy: Vec<f64> =
                    natural.iter().map(|&j| statistics.column_energy(j)).collect();
                let mut increasing = natural.clone();
                increasing.sort_by(|&a, &b| energy[a].total_cmp(&energy[b]));
                let mut decreasing = natural;
                decreasing.sort_by(|&a, &b| energy[b].total_cmp(&energy[a]));
                Orders { initialization: increasing, refinement: decreasing }
            }
        }
    }
}
