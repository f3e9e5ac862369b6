//! Writing and reading back.

use arbitrary::{Result, Unstructured};
use fresnel_runtime::format::{Container, Encoding, TensorData, encode};
use fresnel_runtime::{ErrorKind, Model};

use crate::files;

/// Writes a model of any values and reads it back.
///
/// # Panics
/// When anything comes back changed, when what was written is refused, or when finite values are not written.
pub fn round_trip(bytes: &[u8]) {
    let _ = write_and_read(&mut Unstructured::new(bytes));
}

fn write_and_read(u: &mut Unstructured<'_>) -> Result<()> {
    let config = files::config(u)?;
    // Mostly small numbers, now and then any bits.
    let value = |u: &mut Unstructured<'_>| {
        if u.ratio(1, 32)? { u.arbitrary() } else { Ok(f32::from(u.arbitrary::<i8>()?) / 8.0) }
    };
    let mut tensors = files::tensors(u, &config, value)?;
    let parts = files::parts(config);
    let written = encode(&parts, &tensors);
    let finite = tensors.iter().all(is_finite);
    let file = match written {
        Ok(file) => file,
        Err(error) => {
            assert!(!finite, "{error}");
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            return Ok(());
        }
    };
    assert!(finite, "a value that is not finite was written");

    let container = Container::from_bytes(&file).expect("what was written is read");
    Model::from_bytes(&file).expect("what was written is laid out");
    let manifest = container.manifest();
    assert_eq!(manifest.config, parts.config);
    assert_eq!(manifest.preprocessing, parts.preprocessing);
    assert_eq!(manifest.class_names, parts.class_names);
    assert_eq!(manifest.recipe, parts.recipe);
    assert_eq!(manifest.provenance, parts.provenance);
    assert_eq!(manifest.measured, parts.measured);
    assert_eq!(manifest.metadata, parts.metadata);
    assert_eq!(manifest.tensors.len(), tensors.len());
    for tensor in &tensors {
        let view = container.tensor(&tensor.name).expect("the tensor");
        assert_eq!((&view.entry.shape, view.entry.encoding), (&tensor.shape, tensor.encoding));
        assert_eq!(view.bytes, tensor.bytes.as_ref(), "{}", tensor.name);
    }
    tensors.reverse();
    assert_eq!(encode(&parts, &tensors).expect("the same tensors"), file);
    Ok(())
}

fn is_finite(tensor: &TensorData<'_>) -> bool {
    let bytes = tensor.bytes.as_ref();
    match tensor.encoding {
        Encoding::F32 => {
            bytes.as_chunks().0.iter().all(|value| f32::from_le_bytes(*value).is_finite())
        }
        Encoding::F16 => {
            bytes.as_chunks().0.iter().all(|value| half::f16::from_le_bytes(*value).is_finite())
        }
        Encoding::Codes(_) => true,
    }
}
