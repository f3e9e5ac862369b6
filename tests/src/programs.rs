//! Running the built programs as a user does.

use std::path::PathBuf;
use std::process::{Command, Output};

use fresnel_kernels::Isa;
use serde_json::Value;

/// The path of a program of this workspace, built beside the running test.
///
/// # Panics
/// Panics if it has not been built.
pub fn program(name: &str) -> PathBuf {
    let mut folder = std::env::current_exe().expect("the test's own path");
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    let path = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.is_file(), "{} is not built: run `cargo build --release` first", path.display());
    path
}

/// What a program printed and how it ended.
#[derive(Debug)]
pub struct Finished {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs `fresnel` with `arguments`.
///
/// # Panics
/// Panics if the program can't be started or is killed by a signal.
pub fn fresnel<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Finished {
    run("fresnel", arguments)
}

/// Runs a program of this workspace with `arguments`.
///
/// # Panics
/// As [`fresnel`].
pub fn run<S: AsRef<std::ffi::OsStr>>(name: &str, arguments: &[S]) -> Finished {
    finish(Command::new(program(name)).args(arguments))
}

/// Runs `fresnel` with `arguments` on the instruction set `isa`.
///
/// # Panics
/// As [`fresnel`].
pub fn fresnel_on<S: AsRef<std::ffi::OsStr>>(isa: Isa, arguments: &[S]) -> Finished {
    finish(Command::new(program("fresnel")).args(arguments).env(Isa::VARIABLE, isa.name()))
}

pub(crate) fn finish(command: &mut Command) -> Finished {
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8 output");
    let stderr = text(stderr);
    Finished {
        code: status.code().unwrap_or_else(|| panic!("killed by a signal: {stderr}")),
        stdout: text(stdout),
        stderr,
    }
}

impl Finished {
    /// The standard output of a successful run.
    ///
    /// # Panics
    /// Panics with the program's messages if it failed.
    pub fn success(self) -> String {
        assert_eq!(self.code, 0, "failed: {}{}", self.stderr, self.stdout);
        self.stdout
    }

    /// The JSON that a successful run printed.
    ///
    /// # Panics
    /// Panics if it failed or printed something else.
    pub fn json(self) -> Value {
        let stdout = self.success();
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
    }

    /// Asserts that the run failed with `code` and one line on standard error that contains every
    /// one of `parts`.
    ///
    /// # Panics
    /// Panics if it did not.
    pub fn assert_fails(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "exit code; stderr: {}", self.stderr);
        let errors: Vec<&str> =
            self.stderr.lines().filter(|line| line.starts_with("error:")).collect();
        assert_eq!(errors.len(), 1, "one error line expected: {}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        for part in parts {
            assert!(errors[0].contains(part), "expected `{part}` in: {}", errors[0]);
        }
    }
}
