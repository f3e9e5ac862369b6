//! Results that were measured before, as one page: accuracy against size and time, answers that changed,
//! widths and errors by layer, machine and settings.
//!
//! ```text
//! source   what the commands wrote: json, csv, predictions, model files
//! entry    rows of one model in one mode, put together; the best of them
//! changes  answers that differ from the baseline's
//! charts   which numbers go into which chart
//! page     the page
//! ```
//!
//! Nothing is measured here, and nothing is assumed about what was not given: a part of the page for which there is
//! nothing to show is left out.

pub mod changes;
mod charts;
pub mod entry;
pub mod page;
pub mod source;
#[cfg(test)]
mod tests;
