//! Guides: pages about the whole rather than about an item.

#[doc = include_str!("../docs/algorithm.md")]
pub mod algorithm {}

#[doc = include_str!("../docs/choosing_bits.md")]
pub mod choosing_bits {}

#[doc = include_str!("../docs/model_family.md")]
pub mod model_family {}
