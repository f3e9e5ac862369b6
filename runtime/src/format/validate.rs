//! The rules that a manifest and its tensors must obey: one validator for reading and writing.

use std::collections::{BTreeMap, BTreeSet};

use fresnel_kernels::{Width, pack};
use half::f16;

use super::header::ALIGNMENT;
use super::limits;
use super::manifest::{Encoding, Manifest, Preprocessing, TensorEntry};
use crate::error::{Error, ErrorKind};
use crate::model::config::{Role, TensorSpec, VitConfig, check_tensor_set};

/// The suffix of the companion that holds the scales of a tensor stored as codes.
pub(super) const SCALE: &str = ".scale";
/// The suffix of the companion that holds its offsets.
pub(super) const OFFSET: &str = ".offset";
/// Values looked at between two chances to stop.
const BLOCK: usize = 1024;

/// Checks everything that can be told without the tensors' data, which is `data_len` bytes long.
pub(super) fn manifest(manifest: &Manifest, data_len: u64) -> Result<(), Error> {
    manifest.config.validate()?;
    preprocessing(&manifest.preprocessing, &manifest.config)?;
    texts(manifest)?;
    for entry in &manifest.tensors {
        self::entry(entry)
            .map_err(|error| error.at_tensor(entry.name.escape_debug().to_string()))?;
    }
    tensor_set(manifest)?;
    layout(&manifest.tensors, data_len)
}

/// Checks the data of one tensor of a manifest that [`manifest`] accepted.
pub(super) fn tensor(entry: &TensorEntry, bytes: &[u8]) -> Result<(), Error> {
    checksum(entry, crc32fast::hash(bytes))
        .and_then(|()| values(entry, 0, bytes))
        .map_err(|error| error.at_tensor(&entry.name))
}

/// Compares the checksum `found` of a tensor's data with the one stated.
pub(super) fn checksum(entry: &TensorEntry, found: u32) -> Result<(), Error> {
    if found == entry.crc32 {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Corrupt,
        format!(
            "the checksum does not match: expected {:08x}, found {found:08x}; the file is damaged",
            entry.crc32
        ),
    ))
}

/// Checks `bytes`, whole values or whole rows of codes, which stand behind the first `before` bytes of the tensor.
pub(super) fn values(entry: &TensorEntry, before: u64, bytes: &[u8]) -> Result<(), Error> {
    match entry.encoding {
        Encoding::F32 => singles(entry, before, bytes),
        Encoding::F16 => halves(entry, before, bytes),
        Encoding::Codes(width) => codes(entry, width.into(), before, bytes),
    }
}

/// Length in bytes of a tensor, from its shape and encoding; [`None`] when it overflows.
pub(super) fn encoded_length(shape: &[u32], encoding: Encoding) -> Option<u64> {
    match encoding {
        Encoding::F32 => product(shape)?.checked_mul(4),
        Encoding::F16 => product(shape)?.checked_mul(2),
        Encoding::Codes(width) => {
            let (rows, columns) = shape.split_first()?;
            let columns = usize::try_from(product(columns)?).ok()?;
            let row_bytes = u64::try_from(Width::from(width).row_bytes(columns)).ok()?;
            u64::from(*rows).checked_mul(row_bytes)
        }
    }
}

fn product(shape: &[u32]) -> Option<u64> {
    shape.iter().try_fold(1_u64, |product, &dimension| product.checked_mul(dimension.into()))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

fn limit(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Limit, message)
}

fn preprocessing(preprocessing: &Preprocessing, config: &VitConfig) -> Result<(), Error> {
    let wrong = |message: String| Err(invalid(format!("wrong preprocessing: {message}")));
    if preprocessing.input_size != config.image_size {
        return wrong(format!(
            "input_size must equal the configuration's image_size {:?}, found {:?}",
            config.image_size, preprocessing.input_size
        ));
    }
    let crop = preprocessing.crop_pct;
    if !(limits::MIN_CROP_PCT..=1.0).contains(&crop) {
        return wrong(format!("crop_pct must be in {}..=1, found {crop}", limits::MIN_CROP_PCT));
    }
    for (mean, std) in preprocessing.mean.into_iter().zip(preprocessing.std) {
        let mean_ok = mean.abs() <= limits::MAX_PIXEL_STATISTIC;
        let std_ok = (limits::MIN_PIXEL_STD..=limits::MAX_PIXEL_STATISTIC).contains(&std);
        if !mean_ok || !std_ok {
            return wrong(format!(
                "mean must be within +-{0} and std within {1}..={0}, found mean {mean}, std {std}",
                limits::MAX_PIXEL_STATISTIC,
                limits::MIN_PIXEL_STD
            ));
        }
    }
    Ok(())
}

/// Class names, recipe, provenance, measured values and metadata.
fn texts(manifest: &Manifest) -> Result<(), Error> {
    let names = manifest.class_names.len();
    let classes = manifest.config.num_classes;
    if names != 0 && u32::try_from(names) != Ok(classes) {
        return Err(invalid(format!(
            "expected a class name for each of the {classes} classes or none at all, found {names}"
        )));
    }
    if names > limits::MAX_CLASS_NAMES {
        return Err(limit(format!(
            "at most {} class names are allowed, found {names}",
            limits::MAX_CLASS_NAMES
        )));
    }
    for name in &manifest.class_names {
        line("a class name", name, limits::MAX_CLASS_NAME_BYTES)?;
    }
    for (list, pairs, most) in [
        ("recipe", &manifest.recipe, limits::MAX_PAIRS),
        ("provenance", &manifest.provenance, limits::MAX_PAIRS),
        ("metadata", &manifest.metadata, limits::MAX_METADATA_PAIRS),
    ] {
        keys(list, pairs.iter().map(|(key, _)| key), most)?;
        for (key, value) in pairs {
            if value.len() > limits::MAX_VALUE_BYTES {
                return Err(limit(format!(
                    "the value of {list} \"{key}\" has {} bytes, at most {} are allowed",
                    value.len(),
                    limits::MAX_VALUE_BYTES
                )));
            }
            if value.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
                return Err(invalid(format!(
                    "the value of {list} \"{key}\" contains a control character"
                )));
            }
        }
    }
    let measured = &manifest.measured;
    keys("measured", measured.iter().map(|(key, _)| key), limits::MAX_PAIRS)?;
    for (key, value) in measured {
        if !value.is_finite() {
            return Err(invalid(format!("measured \"{key}\" must be finite, found {value}")));
        }
    }
    Ok(())
}

/// Checks the keys of a list of pairs: their number, their form, and that none repeats.
fn keys<'a>(
    list: &str,
    keys: impl ExactSizeIterator<Item = &'a String>,
    most: usize,
) -> Result<(), Error> {
    if keys.len() > most {
        return Err(limit(format!(
            "at most {most} {list} entries are allowed, found {}",
            keys.len()
        )));
    }
    let mut seen = BTreeSet::new();
    for key in keys {
        line(&format!("a {list} key"), key, limits::MAX_NAME_BYTES)?;
        if !seen.insert(key) {
            return Err(invalid(format!("the {list} key \"{key}\" appears twice")));
        }
    }
    Ok(())
}

/// Checks a text that must be one printable line.
fn line(what: &str, text: &str, most: usize) -> Result<(), Error> {
    if text.len() > most {
        return Err(limit(format!("{what} has {} bytes, at most {most} are allowed", text.len())));
    }
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(invalid(format!(
            "{what} must be one line of printable text, found \"{}\"",
            text.escape_debug()
        )));
    }
    Ok(())
}

/// Checks one row of the tensor table by itself.
fn entry(entry: &TensorEntry) -> Result<(), Error> {
    line("a tensor name", &entry.name, limits::MAX_NAME_BYTES)?;
    let shape = &entry.shape;
    if shape.is_empty() || shape.len() > limits::MAX_RANK {
        return Err(limit(format!(
            "a tensor must have 1 to {} dimensions, found {}",
            limits::MAX_RANK,
            shape.len()
        )));
    }
    if shape.contains(&0) {
        return Err(invalid(format!("no dimension may be zero, found {shape:?}")));
    }
    if shape.iter().any(|&dimension| dimension > limits::MAX_DIMENSION) {
        return Err(limit(format!(
            "a dimension must be at most {}, found {shape:?}",
            limits::MAX_DIMENSION
        )));
    }
    let Some(expected) = encoded_length(shape, entry.encoding) else {
        return Err(limit(format!("the size of shape {shape:?} is not representable")));
    };
    if entry.length != expected {
        return Err(invalid(format!(
            "shape {shape:?} as {:?} takes {expected} bytes, found {}",
            entry.encoding, entry.length
        )));
    }
    Ok(())
}

/// Checks names, shapes and encodings against what the configuration demands.
fn tensor_set(manifest: &Manifest) -> Result<(), Error> {
    let tensors = &manifest.tensors;
    if tensors.len() > limits::MAX_TENSORS {
        return Err(limit(format!(
            "at most {} tensors are allowed, found {}",
            limits::MAX_TENSORS,
            tensors.len()
        )));
    }
    let encodings: BTreeMap<&str, Encoding> =
        tensors.iter().map(|entry| (entry.name.as_str(), entry.encoding)).collect();
    let is_codes = |name: &str| matches!(encodings.get(name), Some(Encoding::Codes(_)));
    let mut demanded = Vec::new();
    for spec in manifest.config.tensors() {
        if is_codes(&spec.name) {
            if spec.role == Role::Other {
                return Err(invalid("this tensor may not be stored as codes").at_tensor(spec.name));
            }
            for suffix in [SCALE, OFFSET] {
                let name = format!("{}{suffix}", spec.name);
                if is_codes(&name) {
                    return Err(invalid("this tensor may not be stored as codes").at_tensor(name));
                }
                demanded.push(TensorSpec {
                    name,
                    shape: spec.shape.iter().take(1).copied().collect(),
                    role: Role::Other,
                });
            }
        }
        demanded.push(spec);
    }
    let found = tensors.iter().map(|entry| (entry.name.as_str(), entry.shape.as_slice()));
    check_tensor_set(demanded, found)
}

/// Checks that the tensors follow one another, aligned, without gaps or overlaps, up to the very end.
fn layout(tensors: &[TensorEntry], data_len: u64) -> Result<(), Error> {
    let mut end = 0_u64;
    for entry in tensors {
        let expected = end.checked_next_multiple_of(ALIGNMENT);
        if expected != Some(entry.offset) {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!(
                    "the data must start at byte {} of the data section, found {}",
                    expected.unwrap_or(u64::MAX),
                    entry.offset
                ),
            )
            .at_tensor(&entry.name));
        }
        let Some(next) = entry.offset.checked_add(entry.length) else {
            return Err(limit("the data's end is not representable").at_tensor(&entry.name));
        };
        end = next;
    }
    if end != data_len {
        return Err(Error::new(
            ErrorKind::Corrupt,
            format!("the tensors take {end} bytes, the header states {data_len} bytes of data"),
        ));
    }
    Ok(())
}

/// Checks that all values are finite, and that none of a scale's is negative.
fn singles(entry: &TensorEntry, before: u64, bytes: &[u8]) -> Result<(), Error> {
    let is_scale = entry.name.ends_with(SCALE);
    let is_bad = |value: f32| !value.is_finite() || (is_scale && value < 0.0);
    match first(before, bytes, |value| is_bad(f32::from_le_bytes(value))) {
        Some((at, value)) => Err(bad_value(at, f32::from_le_bytes(value))),
        None => Ok(()),
    }
}

/// As [`singles`], of binary16.
fn halves(entry: &TensorEntry, before: u64, bytes: &[u8]) -> Result<(), Error> {
    let is_scale = entry.name.ends_with(SCALE);
    let is_bad = |value: f16| !value.is_finite() || (is_scale && value < f16::ZERO);
    match first(before, bytes, |value| is_bad(f16::from_le_bytes(value))) {
        Some((at, value)) => Err(bad_value(at, f16::from_le_bytes(value).to_f32())),
        None => Ok(()),
    }
}

/// Index in the tensor and bytes of the first value of `N` bytes for which `is_bad` holds.
///
/// A block at a time is looked through without an early exit, which the compiler can vectorise.
fn first<const N: usize>(
    before: u64,
    bytes: &[u8],
    is_bad: impl Fn([u8; N]) -> bool,
) -> Option<(usize, [u8; N])> {
    let (values, _) = bytes.as_chunks::<N>();
    let (block, values) = values
        .chunks(BLOCK)
        .enumerate()
        .find(|(_, values)| values.iter().fold(false, |found, value| found | is_bad(*value)))?;
    let at = values.iter().position(|value| is_bad(*value))?;
    let before = usize::try_from(before).ok()?.checked_div(N)?;
    let index = before.saturating_add(block.saturating_mul(BLOCK)).saturating_add(at);
    Some((index, *values.get(at)?))
}

fn bad_value(index: usize, value: f32) -> Error {
    invalid(if value.is_finite() {
        format!("a scale must not be negative, found {value} at index {index}")
    } else {
        format!("all values must be finite, found {value} at index {index}")
    })
}

fn codes(entry: &TensorEntry, width: Width, before: u64, bytes: &[u8]) -> Result<(), Error> {
    let too_large = || limit("the matrix is too large for this machine");
    let columns = entry.shape.split_first().and_then(|(_, columns)| product(columns));
    let columns = columns.and_then(|columns| usize::try_from(columns).ok());
    let columns = columns.ok_or_else(too_large)?;
    let row_bytes = width.row_bytes(columns);
    let rows = |bytes: usize| bytes.checked_div(row_bytes).ok_or_else(too_large);
    let first_row = rows(usize::try_from(before).map_err(|_| too_large())?)?;
    pack::validate(width, rows(bytes.len())?, columns, bytes).map_err(|source| {
        invalid("the packed codes are not valid").with_source(source.behind(first_row))
    })
}
