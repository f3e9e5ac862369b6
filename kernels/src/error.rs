//! Errors of this crate, one type per operation.

use crate::{Isa, Width};

/// Why codes could not be packed, or packed bytes not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// `rows * cols`, or the packed size, does not fit in the address space.
    #[error("{rows} x {cols} codes are more than can be addressed")]
    TooLarge {
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        cols: usize,
    },
    /// The number of codes or bytes given does not belong to the shape.
    #[error("expected {expected} {unit} for this shape, found {found}")]
    Length {
        /// What is counted: `"codes"` or `"packed bytes"`.
        unit: &'static str,
        /// Number that the shape demands.
        expected: usize,
        /// Number given.
        found: usize,
    },
    /// A code is not below the number of levels of its width.
    #[error("code {code} at row {row}, column {col} is not below {levels}, the number of levels at {} bit", .width.label())]
    CodeOutOfRange {
        /// Row of the code.
        row: usize,
        /// Column of the code.
        col: usize,
        /// The code.
        code: u8,
        /// The width it should fit.
        width: Width,
        /// `width.levels()`.
        levels: u32,
    },
    /// One of the 13 byte values which no five ternary digits produce.
    #[error(
        "byte {byte:#04x} at row {row}, byte {index} of the row stands for no five ternary digits"
    )]
    UnusedByte {
        /// Row of the byte.
        row: usize,
        /// Index of the byte in its row.
        index: usize,
        /// The byte.
        byte: u8,
    },
    /// The bits or digits after the last code of a row are not zero.
    #[error("the padding after the last code of row {row} is not zero")]
    Padding {
        /// The row.
        row: usize,
    },
}

impl PackError {
    /// The same error, its row counted from the first of the `rows` rows in front of those that it is about.
    #[must_use]
    pub fn behind(mut self, rows: usize) -> PackError {
        match &mut self {
            PackError::CodeOutOfRange { row, .. }
            | PackError::UnusedByte { row, .. }
            | PackError::Padding { row } => *row += rows,
            PackError::TooLarge { .. } | PackError::Length { .. } => {}
        }
        self
    }
}

/// Why an instruction set cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IsaError {
    /// The name is none of those this crate knows.
    #[error("unknown instruction set {name:?}: expected one of {}", names(&Isa::ALL))]
    Unknown {
        /// The name given.
        name: String,
    },
    /// This machine lacks the instructions.
    #[error("this machine has no {} instructions: choose one of {}", .isa.name(), names(.available))]
    Unavailable {
        /// The instruction set asked for.
        isa: Isa,
        /// Those that this machine has.
        available: Vec<Isa>,
    },
}

fn names(isas: &[Isa]) -> String {
    let names: Vec<&str> = isas.iter().map(|isa| isa.name()).collect();
    names.join(", ")
}

/// Why a [`Matrix`](crate::Matrix) could not be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MatrixError {
    /// The instruction set is not available on this machine.
    #[error(transparent)]
    Isa(#[from] IsaError),
    /// The packed codes are not valid.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// A matrix needs at least one output and one input feature.
    #[error(
        "expected at least one output and one input feature, found {out_features} x {in_features}"
    )]
    Empty {
        /// Output features given.
        out_features: usize,
        /// Input features given.
        in_features: usize,
    },
    /// The shape does not fit in the address space.
    #[error("a matrix of {out_features} x {in_features} is more than can be addressed")]
    TooLarge {
        /// Output features given.
        out_features: usize,
        /// Input features given.
        in_features: usize,
    },
    /// The system does not have the memory.
    #[error("no memory for a matrix of {out_features} x {in_features}")]
    Memory {
        /// Output features given.
        out_features: usize,
        /// Input features given.
        in_features: usize,
    },
    /// A slice has another length than the shape demands.
    #[error("expected {expected} {what}, found {found}")]
    Length {
        /// What is counted: `"weights"`, `"rows"`, `"bytes in whole rows"`, `"scales"` or `"offsets"`.
        what: &'static str,
        /// Length that the shape demands.
        expected: usize,
        /// Length given.
        found: usize,
    },
}

/// Why a [`Pool`](crate::Pool) could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The instruction set asked for cannot be used.
    #[error(transparent)]
    Isa(#[from] IsaError),
    /// More threads than a pool may have.
    #[error("expected at most {} threads, found {threads}", crate::Pool::MAX_THREADS)]
    TooMany {
        /// Number of threads asked for.
        threads: usize,
    },
    /// The operating system gave no threads.
    #[error("could not start {threads} threads")]
    Threads {
        /// Number of threads asked for.
        threads: usize,
        /// The cause.
        source: std::io::Error,
    },
    /// More than one thread, in a build without the feature `threads`.
    #[error("this build has no threads (feature `threads`): expected 0 or 1, found {threads}")]
    NoThreads {
        /// Number of threads asked for.
        threads: usize,
    },
}
