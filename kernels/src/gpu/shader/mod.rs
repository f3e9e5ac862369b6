//! The texts of the shaders, put together from templates.
//!
//! The templates are WGSL with two additions: `$NAME` stands for a text that the host defines, and lines between `#if FLAG` (or
//! `#if !FLAG`), `#else` and `#endif` stay only where the host sets the flag (or does not). `$PARAMETERS` declares the variable
//! `parameters` of the shader's `struct Parameters`, where the device expects it.

mod all;
mod cooperative;
mod matmul;
pub mod operations;
mod template;

pub use all::{Shader, all};
pub use cooperative::{CooperativeTiling, Matrices};
pub use matmul::{
    ActivationKind, Element, EpilogueKind, MatmulBuffer, MatmulShader, OutputKind, ResidualKind,
    TileSize, Tiling, WeightKind,
};
pub use template::{ParameterSpace, Template};
