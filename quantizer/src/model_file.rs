//! From float tensors and codes to the tensors of a `.fresnel` file.

use std::borrow::Cow;

use fresnel_kernels::{Width, pack};
use fresnel_runtime::format::float::encode_f32;
use fresnel_runtime::format::{CodeWidth, Encoding, TensorData, encode_float};
use fresnel_runtime::model::config::Role;
use fresnel_runtime::{Error, ErrorKind};

use crate::algorithm::QuantizedLinear;
use crate::import::FloatModel;
use crate::widths::StoredWidth;

/// Rounds scales and offsets to the precision that the file will store, so that calibration of the
/// following layers sees the weights that the runtime will see.
///
/// # Errors
/// Fails when a value is not finite.
pub fn round_to_stored(linear: &mut QuantizedLinear) -> Result<(), Error> {
    stored_values(&mut linear.scale)?;
    stored_values(&mut linear.offset)
}

/// Rounds a float tensor to the precision that the file will store.
///
/// # Errors
/// Fails when a value is not finite.
pub fn stored_values(values: &mut [f32]) -> Result<(), Error> {
    if encode_float(values)?.0 == Encoding::F16 {
        for value in values {
            *value = half::f16::from_f32(*value).to_f32();
        }
    }
    Ok(())
}

/// The tensors that store `linear` under `name`, whose shape in the model is `shape`: packed codes
/// and their companions.
///
/// # Errors
/// Fails when a code exceeds the width, or a scale or offset is not finite.
pub fn code_tensors(
    name: &str,
    shape: &[u32],
    width: CodeWidth,
    linear: &QuantizedLinear,
) -> Result<Vec<TensorData<'static>>, Error> {
    let packed = pack::pack(Width::from(width), linear.outputs, linear.inputs, &linear.codes)
        .map_err(|error| {
            Error::new(ErrorKind::Invalid, "the codes can't be packed".to_owned())
                .at_tensor(name)
                .with_source(error)
        })?;
    let outputs = shape.first().copied().unwrap_or_default();
    let companion = |suffix: &str, values: &[f32]| -> Result<TensorData<'static>, Error> {
        let (encoding, bytes) = encode_float(values).map_err(|error| error.at_tensor(name))?;
        Ok(TensorData {
            name: format!("{name}.{suffix}"),
            shape: vec![outputs],
            encoding,
            bytes: Cow::Owned(bytes),
        })
    };
    Ok(vec![
        TensorData {
            name: name.to_owned(),
            shape: shape.to_vec(),
            encoding: Encoding::Codes(width),
            bytes: Cow::Owned(packed),
        },
        companion("scale", &linear.scale)?,
        companion("offset", &linear.offset)?,
    ])
}

/// A float tensor in 16 bits where that costs no accuracy, or in 32.
///
/// # Errors
/// Fails when a value is not finite.
pub fn float_tensor(
    name: &str,
    shape: &[u32],
    values: &[f32],
    full_precision: bool,
) -> Result<TensorData<'static>, Error> {
    let (encoding, bytes) = if full_precision {
        (Encoding::F32, encode_f32(values))
    } else {
        encode_float(values).map_err(|error| error.at_tensor(name))?
    };
    Ok(TensorData {
        name: name.to_owned(),
        shape: shape.to_vec(),
        encoding,
        bytes: Cow::Owned(bytes),
    })
}

/// All tensors of `model` in float: the linear layers of the blocks and the edges at their own
/// width of 16 or 32 bit, the rest in 32 where `linear` is, else in 16 where that costs nothing.
///
/// # Errors
/// Fails when a value is not finite.
pub fn float_tensors(
    model: &FloatModel,
    linear: StoredWidth,
    edge: StoredWidth,
) -> Result<Vec<TensorData<'static>>, Error> {
    let full = |width: StoredWidth| width == StoredWidth::Float32;
    model
        .config
        .tensors()
        .iter()
        .map(|spec| {
            let full_precision = match spec.role {
                Role::Linear | Role::Other => full(linear),
                Role::Edge => full(edge),
            };
            let values = model.weights.get(&spec.name).map_or(&[][..], |tensor| &tensor.values);
            float_tensor(&spec.name, &spec.shape, values, full_precision)
        })
        .collect()
}
