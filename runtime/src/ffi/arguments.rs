//! What C passes, checked as far as a pointer can be.

use std::ffi::{CStr, c_char};
use std::slice;

use super::status::{Failure, input};

/// The handle behind a pointer.
///
/// # Safety
/// `pointer` is null or points to a live `T` for the whole of `'a`.
pub(super) unsafe fn handle<'a, T>(pointer: *const T, name: &str) -> Result<&'a T, Failure> {
    // SAFETY: null is told apart by `as_ref`, the rest is the caller's promise.
    unsafe { pointer.as_ref() }.ok_or_else(|| input(format!("{name} is null")))
}

/// `length` numbers at `pointer`, which may be null where the length is 0.
///
/// # Safety
/// `pointer` is null, or the numbers are readable and do not change for the whole of `'a`.
pub(super) unsafe fn slice<'a, T>(
    pointer: *const T,
    length: usize,
    name: &str,
) -> Result<&'a [T], Failure> {
    if length == 0 {
        return Ok(&[]);
    }
    check(pointer, length, name)?;
    // SAFETY: not null, aligned and of a possible length, as just checked; readable, as the caller promises.
    Ok(unsafe { slice::from_raw_parts(pointer, length) })
}

/// Copies `values` to `pointer`, where there is room for `room` of them.
///
/// # Safety
/// `pointer` is null or `room` values may be written there.
pub(super) unsafe fn store<T: Copy>(
    values: &[T],
    pointer: *mut T,
    room: usize,
    name: &str,
) -> Result<(), Failure> {
    if values.is_empty() {
        return Ok(());
    }
    check(pointer, room, name)?;
    if values.len() > room {
        return Err(input(format!("{name} has room for {room}, expected {}", values.len())));
    }
    // SAFETY: not null and aligned, as just checked; writable for `room` values, as the caller promises, which are no fewer; and
    // apart from `values`, which are the library's own.
    unsafe { pointer.copy_from_nonoverlapping(values.as_ptr(), values.len()) };
    Ok(())
}

/// A place for a result.
pub(super) struct Place<T>(*mut T);

impl<T> Place<T> {
    /// Checks `pointer`, and writes `initial` there, so that it is never left undefined.
    ///
    /// # Safety
    /// `pointer` is null or may be written to as long as the place is used.
    pub(super) unsafe fn new(pointer: *mut T, initial: T, name: &str) -> Result<Self, Failure> {
        check(pointer, 1, name)?;
        // SAFETY: not null and aligned, as just checked; writable, as the caller promises.
        unsafe { pointer.write(initial) };
        Ok(Self(pointer))
    }

    /// Writes the result.
    pub(super) fn fill(self, value: T) {
        // SAFETY: as in `new`, whose caller promised it for as long as the place is used.
        unsafe { self.0.write(value) };
    }
}

/// A text that ends with a zero byte.
///
/// # Safety
/// `pointer` is null, or points to bytes that end with a zero and do not change for the whole of `'a`.
pub(super) unsafe fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str, Failure> {
    if pointer.is_null() {
        return Err(input(format!("{name} is null")));
    }
    // SAFETY: not null, as just checked; ends with a zero, as the caller promises.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|_| input(format!("{name} is not UTF-8")))
}

fn check<T>(pointer: *const T, length: usize, name: &str) -> Result<(), Failure> {
    if pointer.is_null() {
        return Err(input(format!("{name} is null")));
    }
    if !pointer.is_aligned() {
        return Err(input(format!("{name} is not aligned to {} bytes", align_of::<T>())));
    }
    let bytes = length.checked_mul(size_of::<T>());
    if bytes.is_none_or(|bytes| isize::try_from(bytes).is_err()) {
        return Err(input(format!("{name} cannot have {length} elements")));
    }
    Ok(())
}
