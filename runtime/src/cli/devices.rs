//! `devices`: what models can run on, and by which kernels.

use clap::Args;
use fresnel_kernels::{Arithmetic, Isa};
use serde_json::{Value, json};

use super::{Failure, Output, ReportArgs};
use crate::session::Compute;

/// Show the devices that models can run on
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fresnel-run devices
  fresnel-run devices --json

The number before a GPU is its INDEX for --device gpu:INDEX.")]
pub struct DevicesArgs {
    /// How to report
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Runs `devices`.
///
/// # Errors
/// When `FRESNEL_ISA` names an instruction set that is unknown or that this machine lacks.
pub fn devices(args: &DevicesArgs) -> Result<(), Failure> {
    let output = Output::new(args.report);
    let isa = Isa::from_env()
        .map_err(|error| Failure::new(super::Exit::Device, "device", error.to_string()))?;
    let available: Vec<&str> = Isa::available().into_iter().map(Isa::name).collect();
    let modes = |isa: Isa| {
        let modes = Arithmetic::ALL.into_iter().filter(|&arithmetic| isa.supports(arithmetic));
        modes.map(mode).collect::<Vec<_>>()
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let gpus = gpus();
    if output.json() {
        return output.line(json!({
            "cpu": { "isa": isa.name(), "available": available, "modes": modes(isa), "cores": cores },
            "gpu_support": cfg!(feature = "gpu"),
            "gpus": gpus.iter().map(|gpu| gpu.object.clone()).collect::<Vec<Value>>(),
        }));
    }
    output.line(format_args!(
        "cpu    {} cores, {} ({}); of {}",
        cores,
        isa.name(),
        modes(isa).join(", "),
        available.join(", ")
    ))?;
    for (index, gpu) in gpus.iter().enumerate() {
        output.line(format_args!("gpu:{index}  {}", gpu.line))?;
    }
    if !cfg!(feature = "gpu") {
        output.line("this build has no GPU support: build with --features gpu")?;
    } else if gpus.is_empty() {
        output.line("no GPU adapter")?;
    }
    Ok(())
}

fn mode(arithmetic: Arithmetic) -> &'static str {
    Compute::from(arithmetic).name()
}

/// A GPU, for people and as JSON.
struct Listed {
    line: String,
    object: Value,
}

#[cfg(not(feature = "gpu"))]
fn gpus() -> Vec<Listed> {
    Vec::new()
}

#[cfg(feature = "gpu")]
fn gpus() -> Vec<Listed> {
    use fresnel_kernels::gpu::{AdapterSummary, Plan, Variant, adapters};

    let listed = |(index, adapter): (usize, AdapterSummary)| {
        let capabilities = &adapter.capabilities;
        let variants = Arithmetic::ALL
            .map(|arithmetic| (arithmetic, Plan::choose(capabilities, arithmetic, [1, 1]).variant));
        let named = |(arithmetic, variant): (Arithmetic, Variant)| {
            format!("{} {variant}", mode(arithmetic))
        };
        let features = [
            (capabilities.half, "f16"),
            (capabilities.subgroups, "subgroups"),
            (capabilities.immediates, "immediates"),
        ];
        let features: Vec<&str> =
            features.into_iter().filter(|(has, _)| *has).map(|(_, name)| name).collect();
        Listed {
            line: format!(
                "{adapter}, {}: {}; {}",
                adapter.driver,
                variants.map(named).join(", "),
                features.join(", ")
            ),
            object: json!({
                "index": index,
                "name": adapter.name,
                "backend": adapter.backend.to_str(),
                "type": format!("{:?}", adapter.device_type),
                "driver": adapter.driver,
                "software": capabilities.is_software(),
                "f16": capabilities.half,
                "cooperative_matrix": capabilities.cooperative.map(|matrices| matrices.edge),
                "subgroup_size": capabilities.subgroup_size,
                "max_buffer_bytes": capabilities.limits.max_buffer_size,
                "max_binding_bytes": capabilities.limits.max_storage_buffer_binding_size,
                "workgroup_bytes": capabilities.limits.max_compute_workgroup_storage_size,
                "kernels": variants
                    .into_iter()
                    .map(|(arithmetic, variant)| {
                        (mode(arithmetic).to_owned(), json!(variant.to_string()))
                    })
                    .collect::<serde_json::Map<String, Value>>(),
            }),
        }
    };
    adapters().into_iter().enumerate().map(listed).collect()
}
