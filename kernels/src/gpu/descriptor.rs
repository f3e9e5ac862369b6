//! What a product is made of: its operands, its epilogue, and where its rows go.

use super::shader::{ActivationKind, EpilogueKind, MatmulShader, OutputKind, ResidualKind};
use super::{Buffer, Matrix, Quantized, Rows};
use crate::Activation;

/// The left operand of a product.
#[derive(Clone, Copy, Debug)]
pub enum Operand<'a> {
    /// Numbers.
    Rows(&'a Rows),
    /// Codes, for integer products.
    Quantized(&'a Quantized),
}

impl Operand<'_> {
    /// Rows that there is room for.
    pub fn rows(&self) -> usize {
        match self {
            Operand::Rows(rows) => rows.rows(),
            Operand::Quantized(rows) => rows.rows(),
        }
    }

    /// Numbers or codes of a row.
    pub fn columns(&self) -> usize {
        match self {
            Operand::Rows(rows) => rows.columns(),
            Operand::Quantized(rows) => rows.columns(),
        }
    }

    /// What they are.
    pub(super) fn kind(&self) -> ActivationKind {
        match self {
            Operand::Rows(rows) => ActivationKind::Floats(rows.element()),
            Operand::Quantized(_) => ActivationKind::Int8,
        }
    }
}

impl<'a> From<&'a Rows> for Operand<'a> {
    fn from(rows: &'a Rows) -> Operand<'a> {
        Operand::Rows(rows)
    }
}

impl<'a> From<&'a Quantized> for Operand<'a> {
    fn from(rows: &'a Quantized) -> Operand<'a> {
        Operand::Quantized(rows)
    }
}

/// What is done with a product before it is stored: `residual + layer_scale[n] * activation(y + bias[n])`.
///
/// The default does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// Added to each row; `[N]`, f32.
    pub bias: Option<&'a Buffer>,
    /// Applied to each element.
    pub activation: Option<Activation>,
    /// Multiplies each row; `[N]`, f32.
    pub layer_scale: Option<&'a Buffer>,
    /// Added at the end.
    pub residual: Option<Residual<'a>>,
}

/// What is added to a product in the end.
#[derive(Clone, Copy, Debug)]
pub enum Residual<'a> {
    /// Row `m` modulo the number of its rows, of `N` columns: a matrix of `[M, N]`, or position embeddings that every image shares.
    /// It may not be the output.
    Rows(&'a Rows),
    /// What the output holds at the same place.
    InPlace,
}

/// Where the rows of a product go: row `m` to row `m / group * step + first + m % group` of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Rows that stay together, at least one.
    pub group: u32,
    /// Rows of the output from one group to the next.
    pub step: u32,
    /// Row of the output for row 0.
    pub first: u32,
}

impl Placement {
    /// Row `m` to row `m`.
    pub const IDENTITY: Placement = Placement { group: u32::MAX, step: 0, first: 0 };

    /// Rows that the output has at least, when rows below `count` are placed.
    pub(super) fn end(self, count: u64) -> u64 {
        let group = u64::from(self.group);
        let Some(last) = count.checked_sub(1) else { return 0 };
        // The last row of the last whole group may lie behind the last row.
        let place =
            |row: u64| row / group * u64::from(self.step) + u64::from(self.first) + row % group;
        let before = (last / group * group).checked_sub(1).map_or(0, place);
        // Within a group rows follow one another, and so do the groups.
        place(last).max(before) + 1
    }
}

/// What a product is made of.
#[derive(Clone, Copy, Debug)]
pub struct MatmulDescriptor<'a> {
    /// `[M, K]`.
    pub activations: Operand<'a>,
    /// `[N, K]`.
    pub weights: &'a Matrix,
    /// What is done with the product.
    pub epilogue: Epilogue<'a>,
    /// `[M, N]`, or more rows with a placement.
    pub output: &'a Rows,
    /// Where rows go.
    pub placement: Placement,
}

impl MatmulDescriptor<'_> {
    /// Its shader, when it is stored as numbers.
    pub(super) fn numbers(&self) -> MatmulShader {
        self.shader(OutputKind::Floats(self.output.element()))
    }

    pub(super) fn shader(&self, output: OutputKind) -> MatmulShader {
        MatmulShader {
            weights: self.weights.kind,
            activations: self.activations.kind(),
            output,
            epilogue: EpilogueKind {
                bias: self.epilogue.bias.is_some(),
                activation: self.epilogue.activation,
                layer_scale: self.epilogue.layer_scale.is_some(),
                residual: self.epilogue.residual.map(|residual| match residual {
                    Residual::Rows(rows) => ResidualKind::Other(rows.element()),
                    Residual::InPlace => ResidualKind::InPlace,
                }),
            },
            placed: self.placement != Placement::IDENTITY,
        }
    }
}
