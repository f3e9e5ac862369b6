//! Python scripts beside the tests, run where Python has what they import.

use std::path::Path;
use std::process::Command;

use crate::programs::{Finished, finish};

/// The Python that `FRESNEL_PYTHON` names, or `python3`, if it can import `modules`.
///
/// Returns `None`, and says that `test` is skipped, where it can't.
///
/// # Panics
/// Panics where it can't and `required` names an environment variable that is set.
pub fn python(test: &str, modules: &str, required: &str) -> Option<Python> {
    let program = std::env::var("FRESNEL_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let import = format!("import {modules}");
    let found = Command::new(&program).args(["-c", &import]).output();
    if found.is_ok_and(|output| output.status.success()) {
        return Some(Python { program });
    }
    let missing = format!("{program} (FRESNEL_PYTHON) can't import {modules}");
    assert!(std::env::var_os(required).is_none(), "{test}: {required} is set, but {missing}");
    crate::skipped(test, &missing);
    None
}

/// A Python interpreter.
#[derive(Debug)]
pub struct Python {
    program: String,
}

impl Python {
    /// Runs the script `tests/<name>` with `arguments`.
    ///
    /// # Panics
    /// Panics if it can't be started or is killed by a signal.
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, name: &str, arguments: &[S]) -> Finished {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        finish(Command::new(&self.program).arg(script).args(arguments))
    }
}
