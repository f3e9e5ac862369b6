//! Results of calibration that do not depend on widths or methods, kept in a folder between runs:
//! the tokens' Fisher information, and the statistics of the float model's inputs (those of the
//! quantized model's inputs change with every code before them and are never kept).
//!
//! A folder per model, images and device, named by a hash of all that the results depend on; a
//! safetensors file per layer in it, each with the hash of its values, written whole or not at all.
//! What is missing, damaged or of another version is made anew.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use fresnel_runtime::cli::write_file;
use fresnel_runtime::format::limits::MAX_FILE_BYTES;
use fresnel_runtime::{Error, ErrorKind, input_file};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use sha2::{Digest, Sha256};

use super::{CalibrationImages, Information, Statistics, TokenWeights};
use crate::device::{Device, DeviceKind};
use crate::digest::hexadecimal;
use crate::import::FloatModel;

/// Part of the key: results change when the code that makes them does.
const VERSION: &str = concat!("fresnel ", env!("CARGO_PKG_VERSION"), ", cache 1");

/// Name of the metadata entry that holds the hash of the values.
const DIGEST: &str = "sha256";

/// A folder of one model's results.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The folder within `root` for `model` calibrated with `images` on `device`; made if missing.
    ///
    /// # Errors
    /// Fails when the folder can't be made or an image can't be read.
    pub fn open(
        root: &Path,
        model: &FloatModel,
        images: &CalibrationImages,
        device: &Device,
    ) -> Result<Self, Error> {
        let kind = match device.kind() {
            DeviceKind::Cpu => "cpu",
            DeviceKind::Gpu => "gpu",
        };
        let key = [
            VERSION.to_owned(),
            model.source_sha256.clone(),
            format!("{:?}", model.config),
            format!("{:?}", model.preprocessing),
            images.sha256()?,
            format!("{kind} {device}"),
        ];
        let folder = root.join(&hexadecimal(&Sha256::digest(key.join("\n")))[..32]);
        std::fs::create_dir_all(&folder)
            .map_err(|error| Error::io("can't make the cache's folder", error).at_path(&folder))?;
        Ok(Self { folder })
    }

    /// The tokens' information, if it is there.
    pub fn information(&self) -> Option<Information> {
        let mut layers = Vec::new();
        let bytes = self.read("fisher")?;
        let file = SafeTensors::deserialize(&bytes).ok()?;
        while let Ok(view) = file.tensor(&layers.len().to_string()) {
            let words = view.data().chunks_exact(4);
            layers.push(words.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect());
        }
        Some(Information { layers })
    }

    /// Keeps the tokens' information.
    ///
    /// # Errors
    /// Fails when the file can't be written.
    pub fn keep_information(&self, information: &Information) -> Result<(), Error> {
        let layers: Vec<(String, Vec<u8>)> = information
            .layers
            .iter()
            .enumerate()
            .map(|(index, layer)| {
                (index.to_string(), layer.iter().flat_map(|value| value.to_le_bytes()).collect())
            })
            .collect();
        self.write("fisher", Dtype::F32, &layers)
    }

    /// Statistics of the float model's inputs of `layer`, if they are there.
    pub fn statistics(&self, layer: &str, weights: TokenWeights) -> Option<Statistics> {
        let bytes = self.read(&format!("{layer} {weights}"))?;
        let file = SafeTensors::deserialize(&bytes).ok()?;
        let values = |name: &str| -> Option<Vec<f64>> {
            let words = file.tensor(name).ok()?.data().chunks_exact(8).map(<[u8; 8]>::try_from);
            words
                .collect::<Result<Vec<_>, _>>()
                .ok()
                .map(|words| words.into_iter().map(f64::from_le_bytes).collect())
        };
        let rows = values("rows")?.first().copied()?;
        Statistics::of_float_inputs(rows, values("sums")?, values("gram")?)
    }

    /// Keeps statistics of the float model's inputs of `layer`.
    ///
    /// # Errors
    /// Fails when the file can't be written.
    pub fn keep_statistics(
        &self,
        layer: &str,
        weights: TokenWeights,
        statistics: &Statistics,
    ) -> Result<(), Error> {
        let bytes = |values: &[f64]| values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensors = [
            ("rows".to_owned(), bytes(&[statistics.rows()])),
            ("sums".to_owned(), bytes(statistics.sums())),
            ("gram".to_owned(), bytes(statistics.gram_matrix())),
        ];
        self.write(&format!("{layer} {weights}"), Dtype::F64, &tensors)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{}.safetensors", name.replace([' ', ':'], "-")))
    }

    /// The bytes of a file whose values still have the hash that they were written with.
    fn read(&self, name: &str) -> Option<Vec<u8>> {
        let bytes = input_file::read(&self.path(name), MAX_FILE_BYTES).ok()?;
        let (_, header) = SafeTensors::read_metadata(&bytes).ok()?;
        let expected = header.metadata().as_ref()?.get(DIGEST)?.clone();
        let file = SafeTensors::deserialize(&bytes).ok()?;
        (digest(file.iter().map(|(name, view)| (name, view.data()))) == expected).then_some(bytes)
    }

    fn write(&self, name: &str, dtype: Dtype, tensors: &[(String, Vec<u8>)]) -> Result<(), Error> {
        let path = self.path(name);
        let views = tensors.iter().map(|(name, bytes)| {
            let shape = vec![bytes.len() * 8 / dtype.bitsize()];
            TensorView::new(dtype, shape, bytes).map(|view| (name.as_str(), view))
        });
        let digest = digest(tensors.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
        let metadata = HashMap::from([(DIGEST.to_owned(), digest)]);
        views
            .collect::<Result<Vec<_>, _>>()
            .and_then(|views| safetensors::serialize(views, Some(metadata)))
            .map_err(|error| {
                Error::new(ErrorKind::Invalid, format!("a result can't be kept: {error}"))
            })
            .and_then(|bytes| {
                write_file(&path, &bytes, true)
                    .map_err(|error| Error::io("can't write to the cache", error))
            })
            .map_err(|error| error.at_path(&path))
    }
}

/// Hash of named values, whatever order they come in.
fn digest<'a>(values: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    let mut hash = Sha256::new();
    for (name, bytes) in values {
        hash.update(name);
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    }
    hexadecimal(&hash.finalize())
}
