//! How a call failed: a number that is returned, and a text that waits for the thread to ask.

use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Error, ErrorKind};

/// What became of a call. fresnel_last_error has the details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// The operating system refused to read.
    Io = 1,
    /// The bytes do not begin like a .fresnel file.
    NotAFresnelFile = 2,
    /// The file has a version or a flag that this library does not know.
    UnsupportedVersion = 3,
    /// The file or the picture ends early.
    Truncated = 4,
    /// The file is damaged.
    Corrupt = 5,
    /// A number exceeds a stated limit, or memory cannot be had.
    Limit = 6,
    /// The file is well formed but wrong.
    Invalid = 7,
    /// A picture cannot be decoded or has an unusable form.
    Image = 8,
    /// An argument is null, misaligned, out of range, or does not fit the model.
    Input = 9,
    /// Not available in this build or on this machine.
    Unsupported = 10,
    /// Threads cannot be started, or an accelerator is missing, lost or out of memory.
    Device = 11,
    /// The run was stopped by fresnel_session_cancel.
    Cancelled = 12,
    /// A fault in the library itself. The handle concerned can only be freed; others stay usable.
    Internal = 13,
}

impl From<ErrorKind> for Status {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Io => Self::Io,
            ErrorKind::NotAFresnelFile => Self::NotAFresnelFile,
            ErrorKind::UnsupportedVersion => Self::UnsupportedVersion,
            ErrorKind::Truncated => Self::Truncated,
            ErrorKind::Corrupt => Self::Corrupt,
            ErrorKind::Limit => Self::Limit,
            ErrorKind::Invalid => Self::Invalid,
            ErrorKind::Image => Self::Image,
            ErrorKind::Input => Self::Input,
            ErrorKind::Unsupported => Self::Unsupported,
            ErrorKind::Device => Self::Device,
            ErrorKind::Cancelled => Self::Cancelled,
        }
    }
}

/// Why a call failed: an error of this crate, or a fault that it must not pass on as a panic.
#[derive(Debug)]
pub(super) enum Failure {
    Error(Error),
    Internal(&'static str),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// A failure of [`Status::Input`].
pub(super) fn input(message: impl Into<String>) -> Failure {
    Error::new(ErrorKind::Input, message).into()
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Runs the body of an exported function, keeps the message of its failure, and stops panics.
pub(super) fn guard(body: impl FnOnce() -> Result<(), Failure>) -> Status {
    let panicked = Failure::Internal("the library has a fault: please report it");
    // What a panic leaves behind is out of reach afterwards: sessions are behind a lock that remembers it.
    let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or(Err(panicked));
    let (status, message) = match result {
        Ok(()) => (Status::Ok, String::new()),
        Err(Failure::Error(error)) => (error.kind().into(), error.to_string()),
        Err(Failure::Internal(message)) => (Status::Internal, message.to_owned()),
    };
    // Late in a thread's end its messages are gone already; the status still tells.
    let _ = LAST_ERROR.try_with(|last| last.replace(text(&message)));
    status
}

/// `text` for C. Zero bytes, which would end it early, are left out.
pub(super) fn text(text: &str) -> CString {
    let bytes: Vec<u8> = text.bytes().filter(|&byte| byte != 0).collect();
    CString::new(bytes).unwrap_or_default()
}

/// What went wrong in the last call of this thread that returned a status, in one line of UTF-8; empty after success. The text is
/// valid until the thread's next such call.
#[unsafe(no_mangle)]
pub extern "C" fn fresnel_last_error() -> *const c_char {
    // The text lives in the thread-local, not in the borrow.
    LAST_ERROR.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}
