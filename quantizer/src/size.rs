//! Sizes of files before they are made: per layer, the arithmetic bound, and the whole file.

use std::collections::BTreeMap;

use fresnel_kernels::Width;
use fresnel_runtime::Error;
use fresnel_runtime::format::float::fits_f16;
use fresnel_runtime::format::header::ALIGNMENT;
use fresnel_runtime::format::{CodeWidth, Encoding, TensorEntry, file_size_limit, size_bound};
use fresnel_runtime::model::config::{Role, TensorSpec, VitConfig};

use crate::import::FloatModel;
use crate::recipe::Recipe;
use crate::widths::StoredWidth;

/// The weights of the blocks' linear layers, in the order of the file.
pub fn linear_weights(config: &VitConfig) -> Vec<TensorSpec> {
    config.tensors().into_iter().filter(|spec| spec.role == Role::Linear).collect()
}

/// Number of values of a tensor.
pub fn values(spec: &TensorSpec) -> u64 {
    spec.shape.iter().map(|&extent| u64::from(extent)).product()
}

/// Bytes of a weight's codes, without scales and offsets.
pub fn code_bytes(spec: &TensorSpec, width: CodeWidth) -> u64 {
    let rows = spec.shape.first().map_or(1, |&rows| u64::from(rows));
    let columns = values(spec) / rows.max(1);
    rows * Width::from(width).row_bytes(columns as usize) as u64
}

/// As [`code_bytes`], with the padding behind them.
pub fn padded_code_bytes(spec: &TensorSpec, width: CodeWidth) -> u64 {
    code_bytes(spec, width).next_multiple_of(ALIGNMENT)
}

/// A file that need not exist.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedFile {
    /// Its tensors, companions included, in order; without offsets and checksums.
    pub tensors: Vec<TensorEntry>,
    /// The arithmetic bound.
    pub bound_bytes: u64,
    /// Its length, to a few bytes that it may be shorter. It becomes longer only if the biases,
    /// scales and offsets that are yet to be found don't fit 16 bits, which is rare.
    pub file_bytes: u64,
}

/// The file that `recipe` makes of `model` with `images` calibration images.
///
/// # Errors
/// Fails when a width is given to a layer that is not there, and when the file is too long.
pub fn planned(model: &FloatModel, recipe: &Recipe, images: usize) -> Result<PlannedFile, Error> {
    let widths = recipe.widths(&model.config)?;
    let float = |spec: &TensorSpec, width: StoredWidth| {
        let values = model.weights.get(&spec.name).map_or(&[][..], |tensor| &tensor.values);
        if width != StoredWidth::Float32 && fits_f16(values) {
            Encoding::F16
        } else {
            Encoding::F32
        }
    };
    let mut tensors = Vec::new();
    for spec in model.config.tensors() {
        let encoding = match (spec.role, &widths) {
            (Role::Linear, Some(widths)) => Encoding::Codes(widths.of(&spec.name)),
            (Role::Linear | Role::Other, None) => float(&spec, recipe.bits),
            (Role::Other, Some(_)) => float(&spec, StoredWidth::Float16),
            (Role::Edge, _) => match recipe.edge_bits {
                StoredWidth::Codes(width) => Encoding::Codes(width),
                width => float(&spec, width),
            },
        };
        let entry = |name: String, shape: Vec<u32>, encoding| TensorEntry {
            name,
            shape,
            encoding,
            offset: 0,
            length: 0,
            crc32: 0,
        };
        let companions = match encoding {
            Encoding::Codes(_) => &[".scale", ".offset"][..],
            Encoding::F16 | Encoding::F32 => &[],
        };
        let rows = spec.shape.first().copied().unwrap_or_default();
        let named = |suffix: &&str| format!("{}{suffix}", spec.name);
        let companions: Vec<String> = companions.iter().map(named).collect();
        tensors.push(entry(spec.name, spec.shape, encoding));
        tensors.extend(companions.into_iter().map(|name| entry(name, vec![rows], Encoding::F16)));
    }
    let parts = recipe.planned_parts(model, images)?;
    Ok(PlannedFile {
        bound_bytes: size_bound(&model.config, &tensors),
        file_bytes: file_size_limit(&parts, &tensors)?,
        tensors,
    })
}

/// Bytes of each weight with its scales and offsets, by timm's name.
pub fn weight_bytes(file: &PlannedFile, config: &VitConfig) -> BTreeMap<String, u64> {
    let encodings: BTreeMap<&str, Encoding> =
        file.tensors.iter().map(|entry| (entry.name.as_str(), entry.encoding)).collect();
    config
        .tensors()
        .into_iter()
        .filter(|spec| spec.role != Role::Other)
        .map(|spec| {
            let rows = spec.shape.first().map_or(0, |&rows| u64::from(rows));
            let bytes = match encodings.get(spec.name.as_str()) {
                Some(Encoding::Codes(width)) => code_bytes(&spec, *width) + 4 * rows,
                Some(Encoding::F16) => 2 * values(&spec),
                Some(Encoding::F32) | None => 4 * values(&spec),
            };
            (spec.name, bytes)
        })
        .collect()
}
