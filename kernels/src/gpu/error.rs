//! What can go wrong on a GPU.

use std::time::Duration;

use crate::MatrixError;

/// Why an operation on a GPU failed. After [`GpuError::Lost`] every later operation of the same [`Gpu`](super::Gpu) fails with
/// it; after any other error the device is as usable as before.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// No adapter was found, or none that was asked for.
    #[error("no GPU adapter for {selector:?}: {}", found_adapters(.found))]
    NoAdapter {
        /// What was asked for.
        selector: String,
        /// Names of the adapters that there are.
        found: Vec<String>,
    },
    /// The adapter was found, but its driver opened no device.
    #[error("could not open {adapter}: {reason}")]
    Open {
        /// Name of the adapter.
        adapter: String,
        /// What the driver says.
        reason: String,
    },
    /// The device offers less than is needed.
    #[error("{what}: {needed} needed, the device offers {available}")]
    Limit {
        /// What there is too little of.
        what: &'static str,
        /// How much is needed.
        needed: u64,
        /// How much the device offers.
        available: u64,
    },
    /// The device has no memory left.
    #[error("the device has no memory for {what}")]
    OutOfMemory {
        /// What the memory was for.
        what: String,
    },
    /// The device was lost: it was reset or removed, or its driver failed. Open it again.
    #[error("the device was lost: {reason}")]
    Lost {
        /// What the driver says.
        reason: String,
    },
    /// The device or its driver refused an operation: a defect of this crate or of the driver.
    #[error("{what} was refused: {reason}")]
    Refused {
        /// The operation.
        what: String,
        /// What the driver or the validation says.
        reason: String,
    },
    /// The device did not finish in the time allowed.
    #[error("the device did not finish within {} s", .after.as_secs())]
    Timeout {
        /// The time allowed.
        after: Duration,
    },
    /// A slice or buffer has another length than the shape demands.
    #[error("expected {expected} {what}, found {found}")]
    Length {
        /// What is counted.
        what: &'static str,
        /// Length that the shape demands.
        expected: u64,
        /// Length given.
        found: u64,
    },
    /// The weights of a matrix are not valid.
    #[error(transparent)]
    Matrix(#[from] MatrixError),
}

fn found_adapters(found: &[String]) -> String {
    if found.is_empty() {
        "this machine has none".to_owned()
    } else {
        format!("there are {}", found.join(", "))
    }
}
