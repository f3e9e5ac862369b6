//! Writing: the same bytes for the same content, and either the whole file or none.
//!
//! How that is done is the business of [`new_file`](crate::new_file).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::header::{ALIGNMENT, HEADER_BYTES, Header, MINOR};
use super::limits::{MAX_FILE_BYTES, MAX_MANIFEST_BYTES};
use super::manifest::{Encoding, Manifest, Preprocessing, TensorEntry};
use super::validate::{self, OFFSET, SCALE};
use crate::error::{Error, ErrorKind};
use crate::model::config::VitConfig;
use crate::new_file::{NewFile, is_replaceable};

/// A manifest without its tensor table, which follows from the tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct ManifestParts {
    /// The model's hyper-parameters.
    pub config: VitConfig,
    /// How an image becomes the model's input.
    pub preprocessing: Preprocessing,
    /// The names of the classes, or nothing.
    pub class_names: Vec<String>,
    /// How the weights were quantized.
    pub recipe: Vec<(String, String)>,
    /// What the file was made from.
    pub provenance: Vec<(String, String)>,
    /// What was measured on the finished model.
    pub measured: Vec<(String, f64)>,
    /// Anything else.
    pub metadata: Vec<(String, String)>,
}

impl ManifestParts {
    /// The manifest with this tensor table.
    pub(super) fn manifest(&self, tensors: Vec<TensorEntry>) -> Manifest {
        Manifest {
            config: self.config.clone(),
            preprocessing: self.preprocessing.clone(),
            tensors,
            class_names: self.class_names.clone(),
            recipe: self.recipe.clone(),
            provenance: self.provenance.clone(),
            measured: self.measured.clone(),
            metadata: self.metadata.clone(),
        }
    }
}

/// A tensor to be written.
#[derive(Clone, Debug)]
pub struct TensorData<'a> {
    /// timm's name, or a companion's.
    pub name: String,
    /// Dimensions, outermost first.
    pub shape: Vec<u32>,
    /// How `bytes` encode the values.
    pub encoding: Encoding,
    /// The encoded values: codes in the layout of [`fresnel_kernels::pack`], floats little-endian.
    pub bytes: Cow<'a, [u8]>,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSummary {
    /// Length of the file.
    pub file_bytes: u64,
    /// Length of the manifest.
    pub manifest_bytes: u64,
    /// Length of the data section, padding between the tensors included.
    pub data_bytes: u64,
}

/// The bytes of the file with these parts and tensors.
///
/// The order of `tensors` does not matter: they are written in the order of
/// [`VitConfig::tensors`], each followed by its companions.
///
/// # Errors
/// [`ErrorKind::Invalid`] or [`ErrorKind::Limit`] for content that the reader would refuse.
pub fn encode(parts: &ManifestParts, tensors: &[TensorData<'_>]) -> Result<Vec<u8>, Error> {
    let plan = Plan::new(parts, tensors)?;
    let mut bytes = Vec::new();
    plan.write_to(&mut bytes).map_err(|source| Error::io("cannot write", source))?;
    Ok(bytes)
}

/// Writes the file at `path`, whole or not at all. An existing file is replaced only if `force` is set.
///
/// # Errors
/// [`ErrorKind::Invalid`] or [`ErrorKind::Limit`] for content that the reader would refuse,
/// [`ErrorKind::Io`] when the file exists and `force` is not set, or when it cannot be written. The
/// destination is then as it was before.
pub fn write(
    path: impl AsRef<Path>,
    force: bool,
    parts: &ManifestParts,
    tensors: &[TensorData<'_>],
) -> Result<FileSummary, Error> {
    let path = path.as_ref();
    let plan = Plan::new(parts, tensors).map_err(|error| error.at_path(path))?;
    plan.write_file(path, force).map_err(|error| error.at_path(path))?;
    Ok(plan.summary())
}

/// A file whose content has been checked and laid out.
struct Plan<'a> {
    header: Header,
    manifest: Vec<u8>,
    /// Offset in the data section and bytes of each tensor, ascending.
    blobs: Vec<(u64, &'a [u8])>,
}

impl<'a> Plan<'a> {
    fn new(parts: &ManifestParts, tensors: &'a [TensorData<'a>]) -> Result<Plan<'a>, Error> {
        let (entries, blobs, data_len) = lay_out(&parts.config, tensors)?;
        let manifest = parts.manifest(entries);
        validate::manifest(&manifest, data_len)?;
        for (entry, (_, bytes)) in manifest.tensors.iter().zip(&blobs) {
            validate::tensor(entry, bytes)?;
        }
        let manifest = manifest.encode()?;
        let manifest_len = u32::try_from(manifest.len())
            .ok()
            .filter(|&length| length <= MAX_MANIFEST_BYTES)
            .ok_or_else(|| {
                let message = format!(
                    "the manifest takes {} bytes, at most {MAX_MANIFEST_BYTES} are allowed: shorten the \
                     recipe, the metadata or the class names",
                    manifest.len()
                );
                Error::new(ErrorKind::Limit, message)
            })?;
        let header = Header {
            minor: MINOR,
            flags: 0,
            manifest_len,
            manifest_crc32: crc32fast::hash(&manifest),
            data_len,
        };
        if header.file_len() > MAX_FILE_BYTES {
            return Err(Error::new(
                ErrorKind::Limit,
                format!(
                    "the file takes {} bytes, at most {MAX_FILE_BYTES} are allowed",
                    header.file_len()
                ),
            ));
        }
        Ok(Plan { header, manifest, blobs })
    }

    fn summary(&self) -> FileSummary {
        FileSummary {
            file_bytes: self.header.file_len(),
            manifest_bytes: self.header.manifest_len.into(),
            data_bytes: self.header.data_len,
        }
    }

    fn write_to(&self, writer: &mut impl Write) -> io::Result<()> {
        writer.write_all(&self.header.encode())?;
        writer.write_all(&self.manifest)?;
        let header_bytes = u64::try_from(HEADER_BYTES).unwrap_or(u64::MAX);
        let mut at = header_bytes.saturating_add(self.header.manifest_len.into());
        for &(offset, bytes) in &self.blobs {
            let start = self.header.data_offset().saturating_add(offset);
            // Less than one alignment unit.
            let padding = start.saturating_sub(at).min(ALIGNMENT);
            io::copy(&mut io::Read::take(io::repeat(0), padding), writer)?;
            writer.write_all(bytes)?;
            at = start.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    fn write_file(&self, path: &Path, force: bool) -> Result<(), Error> {
        let exists = || {
            Error::new(ErrorKind::Io, "the file exists: choose another name, or force overwriting")
        };
        if !is_replaceable(path) {
            return Err(Error::new(ErrorKind::Io, "not a regular file: it will not be replaced"));
        }
        // For an early and clear refusal; the rename below refuses again, without a race.
        if !force && path.symlink_metadata().is_ok() {
            return Err(exists());
        }
        let failed = |source| Error::io("cannot write", source);
        let mut file = NewFile::create(path).map_err(failed)?;
        let mut buffered = BufWriter::new(&mut file);
        self.write_to(&mut buffered).map_err(failed)?;
        buffered.flush().map_err(failed)?;
        drop(buffered);
        file.finish(force).map_err(|error| {
            if !force && error.kind() == io::ErrorKind::AlreadyExists {
                exists()
            } else {
                failed(error)
            }
        })
    }
}

type Layout<'a> = (Vec<TensorEntry>, Vec<(u64, &'a [u8])>, u64);

/// Puts the tensors in canonical order and gives each its place. Tensors that the configuration does not
/// know come last, for the validator to name.
fn lay_out<'a>(config: &VitConfig, tensors: &'a [TensorData<'a>]) -> Result<Layout<'a>, Error> {
    let mut rank: BTreeMap<String, usize> = BTreeMap::new();
    for spec in config.tensors() {
        let companions = [SCALE, OFFSET].map(|suffix| format!("{}{suffix}", spec.name));
        for name in std::iter::once(spec.name).chain(companions) {
            let next = rank.len();
            rank.insert(name, next);
        }
    }
    let mut order: Vec<&TensorData<'_>> = tensors.iter().collect();
    order.sort_by_key(|tensor| {
        (rank.get(&tensor.name).copied().unwrap_or(usize::MAX), &tensor.name)
    });

    let mut entries = Vec::with_capacity(order.len());
    let mut blobs = Vec::with_capacity(order.len());
    let mut end = 0_u64;
    for tensor in order {
        let too_large = || {
            Error::new(ErrorKind::Limit, "the tensors' data is too large").at_tensor(&tensor.name)
        };
        let offset = end.checked_next_multiple_of(ALIGNMENT).ok_or_else(too_large)?;
        let length = u64::try_from(tensor.bytes.len()).map_err(|_| too_large())?;
        end = offset.checked_add(length).ok_or_else(too_large)?;
        entries.push(TensorEntry {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            encoding: tensor.encoding,
            offset,
            length,
            crc32: crc32fast::hash(&tensor.bytes),
        });
        blobs.push((offset, tensor.bytes.as_ref()));
    }
    Ok((entries, blobs, end))
}
