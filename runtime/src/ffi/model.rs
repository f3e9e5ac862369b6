//! Models: opening, describing, preparing pictures, freeing.

use std::ffi::{CString, c_char};
use std::ptr::null_mut;
use std::sync::Arc;

use super::arguments::{Place, handle, slice, store, text};
use super::status::{self, Status, guard};
use crate::error::Error;
use crate::image::{ColorMode, Image};
use crate::model::Model;

/// A loaded model. Nothing changes it, so any number of threads may use one at once.
#[derive(Debug)]
pub struct ModelHandle {
    pub(super) model: Arc<Model>,
    architecture: CString,
    class_names: Vec<CString>,
}

impl ModelHandle {
    fn new(model: Arc<Model>) -> *mut Self {
        let architecture = status::text(&model.config().architecture);
        let class_names = model.class_names().iter().map(|name| status::text(name)).collect();
        Box::into_raw(Box::new(Self { model, architecture, class_names }))
    }
}

/// Opens the .fresnel file at `path` (UTF-8, ends with a zero) and stores the model in `*model`, null on failure.
///
/// # Safety
/// `path` is null or ends with a zero; `model` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fresnel_model_open(
    path: *const c_char,
    model: *mut *mut ModelHandle,
) -> Status {
    guard(|| {
        // SAFETY: the caller promises what these need.
        let (place, path) =
            unsafe { (Place::new(model, null_mut(), "model")?, text(path, "path")?) };
        place.fill(ModelHandle::new(Model::open(path)?));
        Ok(())
    })
}

/// Loads a model from the `length` bytes of a .fresnel file in memory, which are not needed afterwards, and stores it in `*model`,
/// null on failure.
///
/// # Safety
/// `bytes` is null or readable for `length` bytes; `model` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fresnel_model_from_memory(
    bytes: *const u8,
    length: usize,
    model: *mut *mut ModelHandle,
) -> Status {
    guard(|| {
        // SAFETY: the caller promises what these need.
        let (place, bytes) =
            unsafe { (Place::new(model, null_mut(), "model")?, slice(bytes, length, "bytes")?) };
        place.fill(ModelHandle::new(Model::from_bytes(bytes)?));
        Ok(())
    })
}

/// Frees a model; null is allowed. Sessions on it live on.
///
/// # Safety
/// `model` is null or was not freed before, and no other call on it is under way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fresnel_model_free(model: *mut ModelHandle) {
    guard(|| {
        if !model.is_null() {
            // SAFETY: made by `Box::into_raw` and not freed before, as the caller promises.
            drop(unsafe { Box::from_raw(model) });
        }
        Ok(())
    });
}

/// Channels of the input; 0 for a null model.
///
/// # Safety
/// `model` is null or a live model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fresnel_model_channels(model: *const ModelHandle) -> usize {
    // SAFETY: the caller promises it.
    unsafe { model.as_ref() }.map_or(0, |model| model.model.input_shape()[0])
}

/// Height of the input in pixels; 0 for a null model.
///
/// # Safety
/// `model` is null or a live model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fresnel_model_height(model: *const ModelHandle) -> usize {
    // SAFETY: the caller promises it.
    unsafe { model.as_ref() }.map_or(0, |model| model.model.input_shape()[1])
}

/// Width of the input in pixels; 0 for a null model.
///
/// # Safety
/// `model` is null or a live model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fresnel_model_width(model: *const ModelHandle) -> usize {
    // SAFETY: the caller promises it.
    unsafe { model.as_ref() }.map_or(0, |model| model.model.input_shape()[2])
}

/// Numbers that come out for one image: logits, or features of a model without classes; 0 for a null model.
///
/// # Safety
/// `model` is null or a live model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fresnel_model_outputs(model: *const ModelHandle) -> usize {
    // SAFETY: the caller promises it.
    unsafe { model.as_ref() }.map_or(0, |model| model.model.output_len())
}

/// Number of classes; 0 for a model without classes and for a null model.
///
/// # Safety
/// `model` is null or a live model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fresnel_model_classes(model: *const ModelHandle) -> usize {
    // SAFETY: the caller promises it.
    unsafe { model.as_ref() }.map_or(0, |model| model.model.config().num_classes as usize)
}

/// Name of a class in UTF-8; null where the file has none, and for a null model. The text lives as long as the model.
///
/// # Safety
/// `model` is null or a live model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fresnel_model_class_name(
    model: *const ModelHandle,
    class_index: usize,
) -> *const c_char {
    // SAFETY: the caller promises it.
    let name = unsafe { model.as_ref() }.and_then(|model| model.class_names.get(class_index));
    name.map_or(std::ptr::null(), |name| name.as_ptr())
}

/// Name of the architecture, such as "deit_tiny_patch16_224"; null for a null model. The text lives as long as the model.
///
/// # Safety
/// `model` is null or a live model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fresnel_model_architecture(model: *const ModelHandle) -> *const c_char {
    // SAFETY: the caller promises it.
    unsafe { model.as_ref() }.map_or(std::ptr::null(), |model| model.architecture.as_ptr())
}

/// Resizes, crops and normalises a picture of 8-bit RGB into one image of input for fresnel_session_run.
///
/// `rgb` holds `height` rows of `width` pixels of three bytes, without gaps: `length` is `width * height * 3`. `pixels` has room for
/// `pixels_length` numbers, at least channels * height * width of the model.
///
/// # Safety
/// `model` is null or a live model; `rgb` is null or readable for `length` bytes; `pixels` is null or writable for `pixels_length`
/// numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fresnel_model_preprocess_rgb8(
    model: *const ModelHandle,
    rgb: *const u8,
    length: usize,
    width: u32,
    height: u32,
    pixels: *mut f32,
    pixels_length: usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller promises what these need.
        let (model, rgb) = unsafe { (handle(model, "model")?, slice(rgb, length, "rgb")?) };
        let values = model.model.preprocessor()?.apply(&rgb8(rgb, width, height)?)?;
        // SAFETY: as above.
        unsafe { store(&values, pixels, pixels_length, "pixels") }
    })
}

/// The picture in `rgb`, copied.
pub(super) fn rgb8(rgb: &[u8], width: u32, height: u32) -> Result<Image, Error> {
    Image::new(width, height, ColorMode::Rgb, rgb.to_vec())
}
