//! Which kernel computes a product.

use std::fmt;

use super::shader::{MatmulShader, ParameterSpace, TileSize, Tiling};
use super::{Capabilities, GpuError};

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

/// The kernel for a product, and its tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Plan {
    /// The kernel.
    pub variant: Variant,
    /// Its tile.
    pub size: TileSize,
}

impl Plan {
    /// Whether a device can run it.
    pub(super) fn check(self, _: &Capabilities) -> Result<(), GpuError> {
        Ok(())
    }

    /// Rows and columns of its tile.
    pub(super) fn tile(self, _: &Capabilities) -> [u32; 2] {
        let tiling = Tiling::of(self.size);
        [tiling.rows, tiling.columns]
    }

    /// The text of a product.
    pub(super) fn text(
        self,
        shader: &MatmulShader,
        _: &Capabilities,
        space: ParameterSpace,
    ) -> String {
        Tiling::of(self.size).text(shader, space)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = match self.size {
            TileSize::Small => "small",
            TileSize::Medium => "medium",
            TileSize::Large => "large",
        };
        write!(formatter, "{}-{size}", self.variant)
    }
}
