//! COMQ's flag of `quantize`.

use clap::Args;

use crate::algorithm::comq::ScaleRule;

/// What only COMQ takes.
#[derive(Debug, Clone, Args)]
pub(super) struct ComqArgs {
    /// COMQ: scale as a fixed multiple of the min-max scale, or `updated` by least squares after
    /// every iteration [default: updated]
    #[arg(long, value_name = "S")]
    pub(super) comq_scale: Option<ScaleRule>,
}
