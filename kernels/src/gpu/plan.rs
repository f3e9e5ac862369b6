//! Which kernel computes a product.

use std::fmt;
use std::str::FromStr;

use super::shader::{CooperativeTiling, MatmulShader, ParameterSpace, TileSize, Tiling};
use super::{Capabilities, GpuError, wgpu};
use crate::Arithmetic;

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
    /// The plan for a product of `rows` rows and `n` output features, without measuring: the same on every run.
    ///
    /// [`Arithmetic::Half`] is computed in f32 where there are no cooperative matrices, [`Arithmetic::Int8`] expects codes on
    /// both sides. The tile is the largest of three which the device has and which leaves a good many of its multiprocessors
    /// something to do, or else the smallest; the other [`TileSize`]s have to be measured.
    pub fn choose(
        capabilities: &Capabilities,
        arithmetic: Arithmetic,
        [rows, n]: [usize; 2],
    ) -> Plan {
        let variant = match arithmetic {
            Arithmetic::Int8 => Variant::Integer,
            Arithmetic::Half if capabilities.cooperative.is_some() => Variant::Cooperative,
            Arithmetic::Half | Arithmetic::F32 => Variant::Tiled,
        };
        // How many there are no interface tells.
        let enough =
            if capabilities.device_type == wgpu::DeviceType::DiscreteGpu { 96 } else { 16 };
        let busy = |plan: &Plan| {
            let [tile_rows, tile_columns] = plan.tile(capabilities).map(|edge| edge as usize);
            rows.div_ceil(tile_rows) * n.div_ceil(tile_columns) >= enough
        };
        let sizes = [TileSize::Large, TileSize::Medium, TileSize::Small].into_iter();
        let plans = sizes.map(|size| Plan { variant, size });
        let smallest = Plan { variant, size: TileSize::Small };
        plans.filter(|plan| plan.check(capabilities).is_ok()).find(busy).unwrap_or(smallest)
    }

    /// The plans by which a device can compute in an arithmetic: half precision in f32 as well, which is more exact and, where a
    /// product is small, may be faster.
    pub fn candidates(capabilities: &Capabilities, arithmetic: Arithmetic) -> Vec<Plan> {
        let variants: &[Variant] = match arithmetic {
            Arithmetic::Int8 => &[Variant::Integer],
            Arithmetic::Half => &[Variant::Cooperative, Variant::Tiled],
            Arithmetic::F32 => &[Variant::Tiled],
        };
        let plans = variants
            .iter()
            .flat_map(|&variant| TileSize::ALL.map(move |size| Plan { variant, size }));
        plans.filter(|plan| plan.check(capabilities).is_ok()).collect()
    }

    /// Whether a device can run it.
    ///
    /// # Errors
    /// [`GpuError::Limit`] when it cannot.
    pub fn check(self, capabilities: &Capabilities) -> Result<(), GpuError> {
        let limits = &capabilities.limits;
        let (threads, bytes) = match self.variant {
            Variant::Cooperative => {
                let Some(matrices) = capabilities.cooperative else {
                    return Err(GpuError::Limit {
                        what: "cooperative matrices of f16",
                        needed: 1,
                        available: 0,
                    });
                };
                let tiling = CooperativeTiling::of(self.size, matrices);
                (tiling.threads(), tiling.workgroup_bytes())
            }
            Variant::Integer | Variant::Tiled => {
                let tiling = Tiling::of(self.size);
                (tiling.threads(), tiling.workgroup_bytes())
            }
        };
        for (what, needed, available) in [
            ("invocations of a workgroup", threads, limits.max_compute_invocations_per_workgroup),
            ("bytes of workgroup memory", bytes, limits.max_compute_workgroup_storage_size),
        ] {
            if needed > available {
                let (needed, available) = (u64::from(needed), u64::from(available));
                return Err(GpuError::Limit { what, needed, available });
            }
        }
        Ok(())
    }

    /// Rows and columns of its tile.
    pub(super) fn tile(self, capabilities: &Capabilities) -> [u32; 2] {
        match (self.variant, capabilities.cooperative) {
            (Variant::Cooperative, Some(matrices)) => {
                let tiling = CooperativeTiling::of(self.size, matrices);
                [tiling.rows, tiling.columns]
            }
            _ => {
                let tiling = Tiling::of(self.size);
                [tiling.rows, tiling.columns]
            }
        }
    }

    /// The text of a product.
    pub(super) fn text(
        self,
        shader: &MatmulShader,
        capabilities: &Capabilities,
        space: ParameterSpace,
    ) -> String {
        match (self.variant, capabilities.cooperative) {
            (Variant::Cooperative, Some(matrices)) => {
                CooperativeTiling::of(self.size, matrices).text(shader, space)
            }
            _ => Tiling::of(self.size).text(shader, space),
        }
    }
}

/// `"{variant}-{size}"`, as `"cooperative-large"`.
impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = match self.size {
            TileSize::Small => "small",
            TileSize::Deep => "deep",
            TileSize::Medium => "medium",
            TileSize::Tall => "tall",
            TileSize::Large => "large",
            TileSize::Huge => "huge",
        };
        write!(formatter, "{}-{size}", self.variant)
    }
}

/// A text that names no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown plan {0:?}: expected one as \"cooperative-large\"")]
pub struct UnknownPlan(String);

impl FromStr for Plan {
    type Err = UnknownPlan;

    fn from_str(text: &str) -> Result<Plan, UnknownPlan> {
        let variants = [Variant::Cooperative, Variant::Integer, Variant::Tiled].into_iter();
        variants
            .flat_map(|variant| TileSize::ALL.map(|size| Plan { variant, size }))
            .find(|plan| plan.to_string() == text)
            .ok_or_else(|| UnknownPlan(text.to_owned()))
    }
}
