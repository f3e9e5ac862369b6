//! What a device offers, as far as kernels are chosen by it.

use wgpu::{CooperativeScalarType, DeviceType, Features, Limits};

use super::shader::Matrices;

/// What a device offers, as far as kernels are chosen by it.
#[derive(Clone, Debug)]
pub struct Capabilities {
    /// Half-precision arithmetic in shaders. Storing it needs no capability.
    pub half: bool,
    /// Cooperative matrices, f16 x f16 + f32: of edge 16, or 8 on Metal.
    pub cooperative: Option<Matrices>,
    /// Invocations of a subgroup, where all subgroups have as many.
    pub subgroup_size: Option<u32>,
    /// Subgroup operations in shaders.
    pub subgroups: bool,
    /// Parameters of a dispatch come as immediates; otherwise in a uniform buffer.
    pub immediates: bool,
    /// Timestamps at the ends of a pass.
    pub timestamps: bool,
    /// The kind of device.
    pub device_type: DeviceType,
    /// Limits of the device.
    pub limits: Limits,
}

/// The optional features that are asked for wherever they are offered.
pub(super) const OPTIONAL: Features = Features::SHADER_F16
    .union(Features::EXPERIMENTAL_COOPERATIVE_MATRIX)
    .union(Features::SUBGROUP)
    .union(Features::IMMEDIATES)
    .union(Features::TIMESTAMP_QUERY);

/// Bytes of the largest parameters of a dispatch.
pub(super) const PARAMETER_BYTES: u32 = 64;

impl Capabilities {
    /// Of the features and limits that are offered, those that a device of these has; `matrices` are the adapter's cooperative
    /// matrices.
    pub(super) fn new(
        info: &wgpu::AdapterInfo,
        features: Features,
        limits: Limits,
        matrices: &[wgpu::CooperativeMatrixProperties],
    ) -> Capabilities {
        let (smallest, largest) = (info.subgroup_min_size, info.subgroup_max_size);
        let subgroup_size = (smallest == largest && smallest > 0).then_some(smallest);
        let half = features.contains(Features::SHADER_F16);
        let subgroups = features.contains(Features::SUBGROUP);
        let edge = |edge| {
            matrices.iter().any(|matrix| {
                [matrix.m_size, matrix.n_size, matrix.k_size] == [edge; 3]
                    && matrix.ab_type == CooperativeScalarType::F16
                    && matrix.cr_type == CooperativeScalarType::F32
                    && !matrix.saturating_accumulation
            })
        };
        // Which invocations make up a subgroup must be known to give each its tile.
        let offered =
            half && subgroups && features.contains(Features::EXPERIMENTAL_COOPERATIVE_MATRIX);
        let cooperative = subgroup_size.filter(|_| offered).and_then(|subgroup| {
            let edge = [16, 8].into_iter().find(|&size| edge(size))?;
            Some(Matrices { edge, subgroup, emulated: false })
        });
        let immediates =
            features.contains(Features::IMMEDIATES) && limits.max_immediate_size >= PARAMETER_BYTES;
        Capabilities {
            half,
            cooperative,
            subgroup_size,
            subgroups,
            immediates,
            timestamps: features.contains(Features::TIMESTAMP_QUERY),
            device_type: info.device_type,
            limits,
        }
    }

    /// Whether the device computes on the host's cores.
    pub fn is_software(&self) -> bool {
        self.device_type == DeviceType::Cpu
    }

    /// Multiply-adds that one dispatch and one submission may have. Operating systems reset a device that is busy with one of
    /// them for seconds.
    pub fn work_per_dispatch(&self) -> u64 {
        match self.device_type {
            DeviceType::DiscreteGpu => 1 << 40,
            DeviceType::IntegratedGpu | DeviceType::VirtualGpu | DeviceType::Other => 1 << 34,
            DeviceType::Cpu => 1 << 30,
        }
    }
}
