//! Writes `runtime/include/fresnel.h` from `runtime/src/ffi`, or with `--check` tells whether it is current.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let check = match env::args().nth(1).as_deref() {
        None => false,
        Some("--check") => true,
        Some(other) => return Err(format!("expected --check or nothing, found {other}").into()),
    };
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let runtime = here.join("../../runtime");
    // The modules below it follow.
    let builder = cbindgen::Builder::new()
        .with_config(cbindgen::Config::from_file(here.join("cbindgen.toml"))?)
        .with_src(runtime.join("src/ffi/mod.rs"));
    let mut header = Vec::new();
    builder.generate()?.write(&mut header);
    let path = runtime.join("include/fresnel.h");
    if !check {
        return Ok(fs::write(path, header)?);
    }
    if fs::read(&path)? != header {
        let hint = "cargo run --manifest-path .ci/header/Cargo.toml";
        return Err(format!("runtime/include/fresnel.h is not current: {hint}").into());
    }
    Ok(())
}
