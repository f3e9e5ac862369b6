//! The shader that quantises activations.

use super::{Element, ParameterSpace, Template};

/// Invocations of a workgroup, which quantises a row.
const THREADS: u32 = 128;

/// The text of the shader that puts rows of numbers on grids of signed bytes.
pub fn quantize_text(numbers: Element, space: ParameterSpace) -> String {
    Template::new(space, &[include_str!("wgsl/quantize.wgsl")])
        .define("THREADS", format!("{THREADS}u"))
        .flag("ACTIVATIONS_F16", numbers == Element::F16)
        .render()
}
