//! Sessions: making, running, cancelling, freeing.

use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard};

use super::arguments::{Place, handle, slice, store};
use super::model::{ModelHandle, rgb8};
use super::status::{Failure, Status, guard, input};
use crate::cancel::CancelFlag;
use crate::error::{Error, ErrorKind};
use crate::image::Image;
use crate::session::{Compute, Session, SessionOptions};

/// Longest options of any version: a larger `size` was never set.
const MAX_OPTIONS_BYTES: usize = 4096;

/// Arithmetic of the activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ComputeMode {
    /// The fastest on this machine of F32 and those which the file records to agree with it.
    Auto = 0,
    /// Float.
    F32 = 1,
    /// Rounded to bfloat16.
    Half = 2,
    /// Quantised to 8 bit.
    Int8 = 3,
}

/// How a session computes. Zero is the default of every field but `size`, so set that and what should differ:
/// `fresnel_session_options options = {.size = sizeof options, .threads = 1};`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Options {
    /// sizeof(fresnel_session_options), by which later versions know which fields the caller has.
    pub size: usize,
    /// Threads; 0: one per core; 1: the caller's own. Results do not depend on it.
    pub threads: u32,
    /// A fresnel_compute.
    pub compute: u32,
}

/// A class with its probability; fresnel_model_class_name has its name.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Prediction {
    /// Index of the class among the logits.
    pub class_index: usize,
    /// Its softmax, 0 to 1.
    pub probability: f64,
}

/// What runs a model: its threads and buffers. Calls from several threads wait for each other; to run at once, make one session for
/// each thread.
#[derive(Debug)]
pub struct SessionHandle {
    session: Mutex<Session>,
    cancel: CancelFlag,
    compute: ComputeMode,
    threads: usize,
}

impl SessionHandle {
    fn lock(&self) -> Result<MutexGuard<'_, Session>, Failure> {
        self.session.lock().map_err(|_| Failure::Internal("the session broke in an earlier call"))
    }
}

/// Makes a session on `model` and stores it in `*session`, null on failure. `options` may be null.
///
/// # Safety
/// `model` is null or a live model; `options` is null or readable for the `size` in it; `session` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fresnel_session_new(
    model: *const ModelHandle,
    options: *const Options,
    session: *mut *mut SessionHandle,
) -> Status {
    guard(|| {
        // SAFETY: the caller promises what these need.
        let (place, model, options) = unsafe {
            let place = Place::new(session, null_mut(), "session")?;
            (place, handle(model, "model")?, read_options(options)?)
        };
        let session = Session::new(&model.model, options)?;
        let handle = SessionHandle {
            cancel: session.cancel_flag(),
            compute: match session.compute() {
                Compute::Auto => ComputeMode::Auto,
                Compute::F32 => ComputeMode::F32,
                Compute::Half => ComputeMode::Half,
                Compute::Int8 => ComputeMode::Int8,
            },
            threads: session.threads(),
            session: Mutex::new(session),
        };
        place.fill(Box::into_raw(Box::new(handle)));
        Ok(())
    })
}

/// Frees a session; null is allowed.
///
/// # Safety
/// `session` is null or was not freed before, and no other call on it is under way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fresnel_session_free(session: *mut SessionHandle) {
    guard(|| {
        if !session.is_null() {
            // SAFETY: made by `Box::into_raw` and not freed before, as the caller promises.
            drop(unsafe { Box::from_raw(session) });
        }
        Ok(())
    });
}

/// The arithmetic in use, never AUTO for a session; AUTO for null.
///
/// # Safety
/// `session` is null or a live session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fresnel_session_compute(session: *const SessionHandle) -> ComputeMode {
    // SAFETY: the caller promises it.
    unsafe { session.as_ref() }.map_or(ComputeMode::Auto, |session| session.compute)
}

/// Threads in use; 0 for null.
///
/// # Safety
/// `session` is null or a live session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fresnel_session_threads(session: *const SessionHandle) -> usize {
    // SAFETY: the caller promises it.
    unsafe { session.as_ref() }.map_or(0, |session| session.threads)
}

/// Runs `batch` images: numbers in, numbers out.
///
/// `pixels` is [batch, channels, height, width], prepared as the model wants it (fresnel_model_preprocess_rgb8 does so);
/// `pixels_length` counts all of its numbers. `outputs` receives [batch, outputs of the model]; `outputs_length` numbers have room
/// there.
///
/// # Safety
/// `session` is null or a live session; `pixels` is null or readable for `pixels_length` numbers; `outputs` is null or writable for
/// `outputs_length` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fresnel_session_run(
    session: *const SessionHandle,
    pixels: *const f32,
    pixels_length: usize,
    batch: usize,
    outputs: *mut f32,
    outputs_length: usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller promises what these need.
        let (session, pixels) =
            unsafe { (handle(session, "session")?, slice(pixels, pixels_length, "pixels")?) };
        let result = session.lock()?.run(pixels, batch)?;
        // SAFETY: as above.
        unsafe { store(&result, outputs, outputs_length, "outputs") }
    })
}

/// Finds the most probable classes of a picture of 8-bit RGB of any size.
///
/// `rgb` holds `height` rows of `width` pixels of three bytes, without gaps: `length` is `width * height * 3`. Up to `capacity`
/// classes are stored in `predictions`, the most probable first, and their number in `*count`.
///
/// # Safety
/// `session` is null or a live session; `rgb` is null or readable for `length` bytes; `predictions` is null or writable for
/// `capacity` elements; `count` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fresnel_session_classify_rgb8(
    session: *const SessionHandle,
    rgb: *const u8,
    length: usize,
    width: u32,
    height: u32,
    predictions: *mut Prediction,
    capacity: usize,
    count: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller promises what these need.
        let (count, session, rgb) = unsafe {
            let count = Place::new(count, 0, "count")?;
            (count, handle(session, "session")?, slice(rgb, length, "rgb")?)
        };
        let image = rgb8(rgb, width, height)?;
        // SAFETY: as above.
        unsafe { classify(session, &image, predictions, capacity, count) }
    })
}

/// Finds the most probable classes of a JPEG or PNG in memory, as fresnel_session_classify_rgb8 does. UNSUPPORTED in a library built
/// without the feature `images`.
///
/// # Safety
/// `session` is null or a live session; `bytes` is null or readable for `length` bytes; `predictions` is null or writable for
/// `capacity` elements; `count` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fresnel_session_classify_encoded(
    session: *const SessionHandle,
    bytes: *const u8,
    length: usize,
    predictions: *mut Prediction,
    capacity: usize,
    count: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller promises what these need.
        let (count, session, bytes) = unsafe {
            let count = Place::new(count, 0, "count")?;
            (count, handle(session, "session")?, slice(bytes, length, "bytes")?)
        };
        let image = decode(session, bytes)?;
        // SAFETY: as above.
        unsafe { classify(session, &image, predictions, capacity, count) }
    })
}

/// Stops the session: the run under way ends before its next block with CANCELLED, and so do all later ones until
/// fresnel_session_reset. Returns at once, from any thread; null is allowed.
///
/// # Safety
/// `session` is null or a live session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fresnel_session_cancel(session: *const SessionHandle) {
    // SAFETY: the caller promises it.
    if let Some(session) = unsafe { session.as_ref() } {
        session.cancel.cancel();
    }
}

/// Lets a session run again after fresnel_session_cancel; null is allowed.
///
/// # Safety
/// `session` is null or a live session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fresnel_session_reset(session: *const SessionHandle) {
    // SAFETY: the caller promises it.
    if let Some(session) = unsafe { session.as_ref() } {
        session.cancel.reset();
    }
}

/// Options of any version: those that the caller has, the default of the others.
///
/// # Safety
/// `options` is null or readable for the `size` in it, and for `size` itself.
unsafe fn read_options(options: *const Options) -> Result<SessionOptions, Failure> {
    if options.is_null() {
        return Ok(SessionOptions::default());
    }
    // SAFETY: readable, as the caller promises; `size` comes first.
    let size = unsafe { options.cast::<usize>().read_unaligned() };
    let own = size_of::<Options>();
    if !(own..=MAX_OPTIONS_BYTES).contains(&size) {
        return Err(input(format!("options.size is {size}, expected sizeof options ({own})")));
    }
    // SAFETY: readable for `size` bytes, as the caller promises, which are at least these.
    let known = unsafe { options.read_unaligned() };
    // SAFETY: the same bytes, all of them.
    let bytes = unsafe { slice(options.cast::<u8>(), size, "options")? };
    if bytes[own..].iter().any(|&byte| byte != 0) {
        let message = "the options set a field that this version of the library does not know";
        return Err(Error::new(ErrorKind::Unsupported, message).into());
    }
    let compute = match known.compute {
        0 => Compute::Auto,
        1 => Compute::F32,
        2 => Compute::Half,
        3 => Compute::Int8,
        found => return Err(input(format!("options.compute is {found}, expected 0 to 3"))),
    };
    Ok(SessionOptions { threads: known.threads as usize, compute, ..SessionOptions::default() })
}

/// Runs the session and stores what comes first.
///
/// # Safety
/// `predictions` is null or writable for `capacity` elements.
unsafe fn classify(
    session: &SessionHandle,
    image: &Image,
    predictions: *mut Prediction,
    capacity: usize,
    count: Place<usize>,
) -> Result<(), Failure> {
    let top = session.lock()?.classify(image, capacity)?;
    let found: Vec<Prediction> = top
        .into_iter()
        .map(|top| Prediction { class_index: top.class, probability: top.probability })
        .collect();
    // SAFETY: the caller promises it.
    unsafe { store(&found, predictions, capacity, "predictions")? };
    count.fill(found.len());
    Ok(())
}

#[cfg(feature = "images")]
fn decode(session: &SessionHandle, bytes: &[u8]) -> Result<Image, Failure> {
    use crate::image::{DecodeLimits, decode_bytes};

    let color = session.lock()?.model().preprocessor()?.color();
    Ok(decode_bytes(bytes, color, &DecodeLimits::default())?)
}

#[cfg(not(feature = "images"))]
fn decode(_: &SessionHandle, _: &[u8]) -> Result<Image, Failure> {
    let message = "this library was built without the feature `images`: decode the picture and use \
                   fresnel_session_classify_rgb8";
    Err(Error::new(ErrorKind::Unsupported, message).into())
}
