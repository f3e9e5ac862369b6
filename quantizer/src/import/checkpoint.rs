//! The tensors of a checkpoint, widened to f32 and checked against the configuration.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

use fresnel_runtime::format::limits::MAX_FILE_BYTES;
use fresnel_runtime::model::config::VitConfig;
use fresnel_runtime::{Error, ErrorKind, input_file};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use super::unique_names;
use crate::digest::hexadecimal;

/// One float tensor in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct FloatTensor {
    /// Extent of each dimension, outermost first.
    pub shape: Vec<usize>,
    /// `shape`'s product values.
    pub values: Vec<f32>,
}

/// All tensors of a float model by timm name: exactly those that its configuration demands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checkpoint {
    tensors: BTreeMap<String, FloatTensor>,
}

impl Checkpoint {
    /// Reads a safetensors file of f32, f16 or bf16 tensors; also returns the SHA-256 of its bytes.
    ///
    /// # Errors
    /// Fails when the file can't be read or is no safetensors file, when tensors are missing,
    /// unused or of another shape than `config` demands (all of them are listed in one error), and
    /// when a value is not finite.
    pub fn read(path: &Path, config: &VitConfig) -> Result<(Self, String), Error> {
        let bytes = input_file::read(path, MAX_FILE_BYTES)?;
        let digest = hexadecimal(&Sha256::digest(&bytes));
        let checkpoint = Self::parse(&bytes, config).map_err(|error| error.at_path(path))?;
        Ok((checkpoint, digest))
    }

    /// Parses the bytes of a safetensors file.
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub fn parse(bytes: &[u8], config: &VitConfig) -> Result<Self, Error> {
        let no_checkpoint = |error: &dyn Display| {
            Error::new(ErrorKind::Invalid, format!("expected a safetensors file: {error}"))
        };
        let file = SafeTensors::deserialize(bytes).map_err(|error| no_checkpoint(&error))?;
        unique_names::check(bytes).map_err(|error| no_checkpoint(&error))?;
        let shapes: Vec<(&str, Vec<u32>)> = file
            .iter()
            // No model's extent comes near the limit, so a larger one is mis-shaped either way.
            .map(|(name, view)| {
                let extent = |&extent: &usize| u32::try_from(extent).unwrap_or(u32::MAX);
                (name, view.shape().iter().map(extent).collect())
            })
            .collect();
        config.check_tensors(shapes.iter().map(|(name, shape)| (*name, shape.as_slice())))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter() {
            let values = widen(view.dtype(), view.data()).map_err(|error| error.at_tensor(name))?;
            if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    format!("expected finite weights, found {} at element {index}", values[index]),
                )
                .at_tensor(name));
            }
            tensors.insert(name.to_owned(), FloatTensor { shape: view.shape().to_vec(), values });
        }
        Ok(Self { tensors })
    }

    /// The tensor of this name, if the model has it.
    pub fn get(&self, name: &str) -> Option<&FloatTensor> {
        self.tensors.get(name)
    }

    /// Gives the tensor of this name other values, as many as it has; no effect where the model
    /// lacks it.
    pub fn replace(&mut self, name: &str, values: Vec<f32>) {
        if let Some(tensor) = self.tensors.get_mut(name) {
            debug_assert_eq!(tensor.values.len(), values.len());
            tensor.values = values;
        }
    }

    /// All tensors in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &FloatTensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }
}

impl FromIterator<(String, FloatTensor)> for Checkpoint {
    /// Tensors that are known to be those of a model, such as those of a file that was read.
    fn from_iter<I: IntoIterator<Item = (String, FloatTensor)>>(tensors: I) -> Self {
        Self { tensors: tensors.into_iter().collect() }
    }
}

fn widen(dtype: Dtype, data: &[u8]) -> Result<Vec<f32>, Error> {
    let pairs = || data.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    match dtype {
        Dtype::F32 => Ok(data
            .chunks_exact(4)
            .map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            .collect()),
        Dtype::F16 => Ok(pairs().map(|bits| f16::from_bits(bits).to_f32()).collect()),
        Dtype::BF16 => Ok(pairs().map(|bits| bf16::from_bits(bits).to_f32()).collect()),
        other => Err(Error::new(
            ErrorKind::Invalid,
            format!("expected f32, f16 or bf16 values, found {other:?}"),
        )),
    }
}
