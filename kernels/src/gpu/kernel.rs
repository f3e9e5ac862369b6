//! Compiled shaders and their arguments.

use std::sync::Arc;

use wgpu::{BindingType, BufferBindingType, ShaderStages};

use super::buffer::Binding;
use super::{Gpu, GpuError};

/// What a kernel does with a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It reads: `var<storage, read>`.
    Read,
    /// It writes, and may read: `var<storage, read_write>`.
    Write,
}

/// A shader with one compute entry point, `main`.
#[derive(Clone, Copy, Debug)]
pub struct KernelSource<'a> {
    /// Names it in messages.
    pub name: &'a str,
    /// Its text; see [`shader`](super::shader) for how parameters are declared.
    pub text: &'a str,
    /// Its buffers, `@group(0) @binding(0)` and so on.
    pub buffers: &'a [Access],
    /// Bytes of its parameters, a multiple of four and at most 64; none if zero.
    pub parameter_bytes: u32,
}

/// A compiled shader. Clones are the same kernel.
#[derive(Clone, Debug)]
pub struct Kernel(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    name: String,
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
    parameter_bytes: u32,
}

impl Kernel {
    /// Its name in messages.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub(super) fn pipeline(&self) -> &wgpu::ComputePipeline {
        &self.0.pipeline
    }

    pub(super) fn parameter_bytes(&self) -> u32 {
        self.0.parameter_bytes
    }
}

/// The buffers that a kernel works on, bound once and used for any number of dispatches.
#[derive(Clone, Debug)]
pub struct Arguments {
    pub(super) kernel: Kernel,
    pub(super) group: wgpu::BindGroup,
}

impl Gpu {
    /// Compiles a shader with the checks that keep it inside its buffers, or returns the kernel of the same text.
    ///
    /// # Errors
    /// [`GpuError::Limit`] when it has too many buffers, [`GpuError::Refused`] when it is not valid.
    pub fn kernel(&self, source: &KernelSource<'_>) -> Result<Kernel, GpuError> {
        self.compile(source, |descriptor| self.device().create_shader_module(descriptor))
    }

    /// As [`Gpu::kernel`], without those checks, which cost a good part of the rate of a product.
    ///
    /// # Safety
    /// Whatever its parameters, as far as they are ever passed to it, the shader accesses its buffers and arrays within their
    /// lengths only, all its loops end, and it divides by nothing that is zero.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn kernel_unchecked(
        &self,
        source: &KernelSource<'_>,
    ) -> Result<Kernel, GpuError> {
        self.compile(source, |descriptor| {
            let checks = wgpu::ShaderRuntimeChecks::unchecked();
            // SAFETY: the caller's.
            unsafe { self.device().create_shader_module_trusted(descriptor, checks) }
        })
    }

    fn compile(
        &self,
        source: &KernelSource<'_>,
        module: impl FnOnce(wgpu::ShaderModuleDescriptor<'_>) -> wgpu::ShaderModule,
    ) -> Result<Kernel, GpuError> {
        if let Some(kernel) = self.kernels().get(source.text) {
            return Ok(kernel.clone());
        }
        let capabilities = self.capabilities();
        let available = capabilities.limits.max_storage_buffers_per_shader_stage;
        if source.buffers.len() > available as usize {
            return Err(GpuError::Limit {
                what: "buffers of a kernel",
                needed: source.buffers.len() as u64,
                available: u64::from(available),
            });
        }
        let device = self.device();
        let kernel = self.guarded(source.name, || {
            let buffer = |binding, ty, has_dynamic_offset| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: ShaderStages::COMPUTE,
                ty: BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
                count: None,
            };
            let entries: Vec<_> = (0..)
                .zip(source.buffers)
                .map(|(binding, access)| {
                    let read_only = *access == Access::Read;
                    buffer(binding, BufferBindingType::Storage { read_only }, false)
                })
                .collect();
            let layout = |entries: &[_]| {
                device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                    label: Some(source.name),
                    entries,
                })
            };
            let arguments = layout(&entries);
            let uniform = (source.parameter_bytes > 0 && !capabilities.immediates)
                .then(|| layout(&[buffer(0, BufferBindingType::Uniform, true)]));
            let mut layouts = vec![Some(&arguments)];
            layouts.extend(uniform.as_ref().map(Some));
            let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(source.name),
                bind_group_layouts: &layouts,
                immediate_size: if capabilities.immediates { source.parameter_bytes } else { 0 },
            });
            let module = module(wgpu::ShaderModuleDescriptor {
                label: Some(source.name),
                source: wgpu::ShaderSource::Wgsl(source.text.into()),
            });
            let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(source.name),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &[],
                    // Our shaders write before they read.
                    zero_initialize_workgroup_memory: false,
                },
                cache: None,
            });
            Kernel(Arc::new(Compiled {
                name: source.name.to_owned(),
                pipeline,
                layout: arguments,
                parameter_bytes: source.parameter_bytes,
            }))
        })?;
        self.kernels().insert(source.text.to_owned(), kernel.clone());
        Ok(kernel)
    }

    /// Binds buffers to a kernel, in the order of [`KernelSource::buffers`].
    ///
    /// # Errors
    /// [`GpuError::Refused`] when they are too many, too few, or begin at no multiple of the alignment.
    pub fn bind(&self, kernel: &Kernel, buffers: &[Binding<'_>]) -> Result<Arguments, GpuError> {
        let entries: Vec<_> = (0..)
            .zip(buffers)
            .map(|(binding, part)| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: part.buffer,
                    offset: part.range.start,
                    size: wgpu::BufferSize::new(part.range.end.saturating_sub(part.range.start)),
                }),
            })
            .collect();
        let group = self.guarded(kernel.name(), || {
            self.device().create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(kernel.name()),
                layout: &kernel.0.layout,
                entries: &entries,
            })
        })?;
        Ok(Arguments { kernel: kernel.clone(), group })
    }
}
