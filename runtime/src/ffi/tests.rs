//! What the types of Rust can't say: every wrong pointer and length is refused, with a status and a text. The same from C, and with
//! several threads: `tests/c`.

use std::ffi::CStr;
use std::ptr::{null, null_mut};

use super::model::*;
use super::session::*;
use super::status::{Failure, Status, fresnel_last_error, guard};
use super::{FRESNEL_ABI_VERSION, fresnel_abi_version, fresnel_version};
use crate::exec::synthetic::{file, pixels, plain_config};
use crate::format::Encoding;
use crate::session::{Session, SessionOptions};

fn last_error() -> String {
    // SAFETY: the text ends with a zero and lives until the next call of this thread.
    unsafe { CStr::from_ptr(fresnel_last_error()) }.to_str().unwrap().to_owned()
}

fn model() -> *mut ModelHandle {
    let bytes = file(&plain_config(), Encoding::F32, Encoding::F16, &[]);
    let mut model = null_mut();
    // SAFETY: a slice and a place on the stack.
    let status = unsafe { fresnel_model_from_memory(bytes.as_ptr(), bytes.len(), &mut model) };
    assert_eq!(status, Status::Ok, "{}", last_error());
    model
}

fn session(model: *const ModelHandle) -> *mut SessionHandle {
    let options = Options { size: size_of::<Options>(), threads: 1, compute: 1 };
    let mut session = null_mut();
    // SAFETY: a live model and places on the stack.
    let status = unsafe { fresnel_session_new(model, &options, &mut session) };
    assert_eq!(status, Status::Ok, "{}", last_error());
    session
}

#[test]
fn versions_are_those_of_the_crate() {
    assert_eq!(fresnel_abi_version(), FRESNEL_ABI_VERSION);
    // SAFETY: a constant that ends with a zero.
    let version = unsafe { CStr::from_ptr(fresnel_version()) };
    assert_eq!(version.to_str().unwrap(), env!("CARGO_PKG_VERSION"));
}

#[test]
fn runs_give_what_the_rust_interface_gives() {
    let (model, input) = (model(), pixels(&plain_config(), 2));
    let session = session(model);
    // SAFETY: live handles, slices with their lengths.
    unsafe {
        let shape = [
            fresnel_model_channels(model),
            fresnel_model_height(model),
            fresnel_model_width(model),
        ];
        assert_eq!(shape, [3, 12, 20]);
        assert_eq!((fresnel_model_outputs(model), fresnel_model_classes(model)), (7, 7));
        let name = CStr::from_ptr(fresnel_model_class_name(model, 6));
        assert_eq!(name, c"name 6");
        assert!(fresnel_model_class_name(model, 7).is_null());
        assert_eq!(CStr::from_ptr(fresnel_model_architecture(model)), c"synthetic");
        assert_eq!(fresnel_session_compute(session), ComputeMode::F32);
        assert_eq!(fresnel_session_threads(session), 1);

        let mut outputs = [0.0; 14];
        let status =
            fresnel_session_run(session, input.as_ptr(), input.len(), 2, outputs.as_mut_ptr(), 14);
        assert_eq!(status, Status::Ok);
        assert_eq!(last_error(), "");
        let mut own = Session::new(&(*model).model, SessionOptions::default()).unwrap();
        assert_eq!(outputs[..], own.run(&input, 2).unwrap());

        let rgb: Vec<u8> = (0..33 * 21 * 3).map(|index| (index * 7) as u8).collect();
        let mut found = [Prediction { class_index: 99, probability: -1.0 }; 9];
        let mut count = 99;
        let status = fresnel_session_classify_rgb8(
            session,
            rgb.as_ptr(),
            rgb.len(),
            33,
            21,
            found.as_mut_ptr(),
            9,
            &mut count,
        );
        assert_eq!((status, count), (Status::Ok, 7));
        assert_eq!(found[7].class_index, 99, "nothing is written behind the last class");

        // The same in two steps.
        let mut prepared = vec![0.0; 3 * 12 * 20];
        let status = fresnel_model_preprocess_rgb8(
            model,
            rgb.as_ptr(),
            rgb.len(),
            33,
            21,
            prepared.as_mut_ptr(),
            prepared.len(),
        );
        assert_eq!(status, Status::Ok);
        let logits = own.run(&prepared, 1).unwrap();
        let best = crate::Prediction::top(&logits, 1).unwrap()[0];
        assert_eq!((found[0].class_index, found[0].probability), (best.class, best.probability));
        // A session outlives its model.
        fresnel_model_free(model);
        let status =
            fresnel_session_run(session, input.as_ptr(), input.len(), 2, outputs.as_mut_ptr(), 14);
        assert_eq!(status, Status::Ok);
        fresnel_session_free(session);
    }
}

/// Runs `$call` and expects `$status` with a text that contains `$text`.
macro_rules! refused {
    ($status:ident, $text:expr, $call:expr) => {
        assert_eq!($call, Status::$status, "{}", last_error());
        assert!(last_error().contains($text), "{} for {}", last_error(), stringify!($call));
    };
}

#[test]
fn null_and_wrong_lengths_are_refused() {
    let (model, input) = (model(), pixels(&plain_config(), 1));
    let session = session(model);
    let (rgb, mut outputs, mut count) = ([0_u8; 12], [0.0_f32; 7], 7_usize);
    let mut place = Prediction { class_index: 0, probability: 0.0 };
    let (pixels, length, out) = (input.as_ptr(), input.len(), outputs.as_mut_ptr());
    let mut other_model = null_mut();
    let mut other = null_mut();
    // SAFETY: every pointer is null, or valid for the length beside it.
    unsafe {
        let run = fresnel_session_run;
        refused!(Input, "session is null", run(null(), pixels, length, 1, out, 7));
        refused!(Input, "pixels is null", run(session, null(), length, 1, out, 7));
        refused!(Input, "outputs is null", run(session, pixels, length, 1, null_mut(), 7));
        refused!(Input, "room for 6, expected 7", run(session, pixels, length, 1, out, 6));
        refused!(Input, "[1, 3, 12, 20]", run(session, pixels, length - 1, 1, out, 7));
        refused!(Input, "found 720", run(session, pixels, length, usize::MAX, out, 7));
        refused!(Input, "cannot have", run(session, pixels, usize::MAX, 1, out, 7));
        let odd = pixels.byte_add(1);
        refused!(Input, "not aligned to 4", run(session, odd, length - 1, 1, out, 7));

        let classify = fresnel_session_classify_rgb8;
        let bytes = rgb.as_ptr();
        let null_count = null_mut();
        refused!(Input, "session", classify(null(), bytes, 12, 2, 2, &mut place, 1, &mut count));
        assert_eq!(count, 0, "a count is there even so");
        refused!(Input, "rgb", classify(session, null(), 12, 2, 2, &mut place, 1, &mut count));
        refused!(Input, "12 bytes", classify(session, bytes, 11, 2, 2, &mut place, 1, &mut count));
        refused!(Input, "empty", classify(session, bytes, 0, 0, 2, &mut place, 1, &mut count));
        let huge = u32::MAX;
        refused!(
            Input,
            "found 12 bytes",
            classify(session, bytes, 12, huge, huge, &mut place, 1, &mut count)
        );
        refused!(Input, "count", classify(session, bytes, 12, 2, 2, &mut place, 1, null_count));
        refused!(
            Input,
            "predictions is null",
            classify(session, bytes, 12, 2, 2, null_mut(), 1, &mut count)
        );
        let status = classify(session, bytes, 12, 2, 2, null_mut(), 0, &mut count);
        assert_eq!((status, count), (Status::Ok, 0));

        let prepare = fresnel_model_preprocess_rgb8;
        refused!(Input, "model is null", prepare(null(), bytes, 12, 2, 2, out, 7));
        refused!(Input, "expected 720", prepare(model, bytes, 12, 2, 2, out, 7));

        let encoded = fresnel_session_classify_encoded;
        refused!(Input, "bytes is null", encoded(session, null(), 4, &mut place, 1, &mut count));
        let status = encoded(session, bytes, 12, &mut place, 1, &mut count);
        let expected = if cfg!(feature = "images") { Status::Image } else { Status::Unsupported };
        assert_eq!(status, expected);

        let (open, load) = (fresnel_model_open, fresnel_model_from_memory);
        refused!(Input, "path is null", open(null(), &mut other_model));
        refused!(Input, "model is null", open(c"missing".as_ptr(), null_mut()));
        refused!(Io, "missing", open(c"missing".as_ptr(), &mut other_model));
        refused!(Input, "UTF-8", open(c"\xff".as_ptr(), &mut other_model));
        refused!(Input, "bytes is null", load(null(), 9, &mut other_model));
        refused!(Truncated, "", load(null(), 0, &mut other_model));
        refused!(NotAFresnelFile, "", load([7; 64].as_ptr(), 64, &mut other_model));
        assert!(other_model.is_null());

        let new = fresnel_session_new;
        let good = Options { size: size_of::<Options>(), threads: 1, compute: 1 };
        refused!(Input, "model is null", new(null(), &good, &mut other));
        refused!(Input, "session is null", new(model, &good, null_mut()));
        for size in [0, 8, usize::MAX] {
            refused!(Input, "options.size", new(model, &Options { size, ..good }, &mut other));
        }
        let compute = 4;
        refused!(Input, "compute is 4", new(model, &Options { compute, ..good }, &mut other));
        refused!(Device, "256", new(model, &Options { threads: huge, ..good }, &mut other));
        assert!(other.is_null());

        for count in [
            fresnel_model_channels(null()),
            fresnel_model_height(null()),
            fresnel_model_width(null()),
            fresnel_model_outputs(null()),
            fresnel_model_classes(null()),
            fresnel_session_threads(null()),
        ] {
            assert_eq!(count, 0);
        }
        assert!(fresnel_model_class_name(null(), 0).is_null());
        assert!(fresnel_model_architecture(null()).is_null());
        fresnel_session_cancel(null());
        fresnel_session_reset(null());
        fresnel_session_free(null_mut());
        fresnel_model_free(null_mut());
        fresnel_session_free(session);
        fresnel_model_free(model);
    }
}

#[test]
fn options_of_a_later_version_pass_unless_they_ask_for_more() {
    #[repr(C)]
    struct Later {
        known: Options,
        added: [u64; 2],
    }
    let model = model();
    let known = Options { size: size_of::<Later>(), threads: 1, compute: 3 };
    let mut session = null_mut();
    // SAFETY: live handles, and options of the size that they state.
    unsafe {
        let later = Later { known, added: [0; 2] };
        let status = fresnel_session_new(model, (&raw const later).cast(), &mut session);
        assert_eq!(status, Status::Ok);
        assert_eq!(fresnel_session_compute(session), ComputeMode::Int8);
        fresnel_session_free(session);
        let later = Later { known, added: [0, 1] };
        let new = fresnel_session_new;
        refused!(Unsupported, "does not know", new(model, (&raw const later).cast(), &mut session));
        assert!(session.is_null());
        fresnel_model_free(model);
    }
}

#[test]
fn more_threads_than_one_need_the_feature() {
    let (model, mut session) = (model(), null_mut());
    let options = Options { size: size_of::<Options>(), threads: 2, compute: 1 };
    // SAFETY: a live model, places on the stack, and a session that is null or live.
    unsafe {
        let status = fresnel_session_new(model, &options, &mut session);
        let expected = if cfg!(feature = "threads") { Status::Ok } else { Status::Unsupported };
        assert_eq!(status, expected);
        assert_eq!(fresnel_session_threads(session), if session.is_null() { 0 } else { 2 });
        fresnel_session_free(session);
        fresnel_model_free(model);
    }
}

#[test]
fn a_cancelled_session_runs_again_after_reset() {
    let (model, input) = (model(), pixels(&plain_config(), 1));
    let session = session(model);
    let mut outputs = [0.0; 7];
    // SAFETY: live handles, slices with their lengths.
    unsafe {
        let mut run = || {
            fresnel_session_run(session, input.as_ptr(), input.len(), 1, outputs.as_mut_ptr(), 7)
        };
        fresnel_session_cancel(session);
        refused!(Cancelled, "request", run());
        fresnel_session_reset(session);
        assert_eq!(run(), Status::Ok);
        fresnel_session_free(session);
        fresnel_model_free(model);
    }
}

#[test]
fn a_panic_becomes_a_status() {
    // Its own message on standard error is Rust's.
    let status = guard(|| panic!("on purpose"));
    assert_eq!(status, Status::Internal);
    assert!(last_error().contains("fault"));
    let long = |length| guard(|| Err(super::status::input("x".repeat(length))));
    assert_eq!((long(2_000), last_error().len()), (Status::Input, 2_000));
    assert_eq!(long(10_000), Status::Input);
    let text = last_error();
    assert!(text.contains("bytes left out") && text.starts_with('x') && text.ends_with('x'));
    assert_eq!(guard(|| Err(Failure::Internal("broken"))), Status::Internal);
    assert_eq!(guard(|| Ok(())), Status::Ok);
    assert_eq!(last_error(), "");
}
