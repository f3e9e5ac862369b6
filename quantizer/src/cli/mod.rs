//! The commands of the program `fresnel` that need the quantizer; the others are those of
//! [`fresnel_runtime::cli`].

mod compare;
mod completions;
mod demo;
mod man;
mod model_args;
mod preparation;
mod quantize;
mod report;
mod synth;
mod tuning;

pub use compare::{CompareArgs, compare};
pub use completions::{CompletionsArgs, completions};
pub use demo::{DemoArgs, demo};
pub use man::{ManArgs, man};
pub use quantize::{QuantizeArgs, quantize};
pub use report::{ReportPageArgs, report};
pub use synth::{SynthArgs, synth};
