//! Promises about what the programs do not do, asked of their sources.

use std::fs;
use std::path::{Path, PathBuf};

/// The sources of the crates that users run.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders: Vec<PathBuf> =
        ["kernels/src", "runtime/src", "quantizer/src"].map(|folder| root.join(folder)).into();
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source");
                sources.push((path, text));
            }
        }
    }
    assert!(sources.len() > 100);
    sources
}

#[test]
fn promise_20_no_network_no_programs_and_no_other_environment() {
    for (path, text) in sources() {
        // Tests run programs; what is tested does not.
        let is_test = path.components().any(|part| part.as_os_str() == "tests")
            || path.file_name().is_some_and(|name| name == "tests.rs");
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for forbidden in ["std::net", "TcpStream", "UdpSocket", "libloading", "dlopen"] {
            assert!(!text.contains(forbidden), "{}: {forbidden}", path.display());
        }
        if is_test {
            continue;
        }
        assert!(!text.contains("process::Command"), "{}", path.display());
        for (at, _) in text.match_indices("env::var") {
            // The variables are named by constants; only the documented ones are read.
            let line = text[at..].lines().next().unwrap_or_default();
            let known = ["Isa::VARIABLE", "Self::VARIABLE"].iter().any(|name| line.contains(name));
            assert!(known, "{}: {line}", path.display());
        }
    }
}
