//! Which kernel computes a product.

use std::fmt;

use super::Capabilities;

/// A kernel for products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// Half precision on cooperative matrices (tensor cores), sums in f32.
    Cooperative,
    /// Integer dot products of activations quantised to 8 bit.
    Integer,
    /// f32, on any device.
    Tiled,
}

impl Variant {
    /// The kernels that a device can run, fastest first.
    pub fn offered(capabilities: &Capabilities) -> Vec<Variant> {
        let cooperative = capabilities.cooperative.map(|_| Variant::Cooperative);
        cooperative.into_iter().chain([Variant::Integer, Variant::Tiled]).collect()
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Variant::Cooperative => "cooperative",
            Variant::Integer => "integer",
            Variant::Tiled => "tiled",
        })
    }
}
