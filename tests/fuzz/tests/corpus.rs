//! Every committed input through its target: what fuzzing has reached, and every finding there ever was.

use std::path::{Path, PathBuf};

/// Runs `target` on its inputs in `corpus/`.
fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let inputs = std::fs::read_dir(&folder).expect("a corpus");
    let mut inputs: Vec<PathBuf> = inputs.map(|entry| entry.expect("an entry").path()).collect();
    inputs.sort();
    assert!(inputs.len() >= 10, "{} inputs", inputs.len());
    for input in inputs {
        // Shown where the target panics.
        println!("{}", input.display());
        target(&std::fs::read(input).expect("an input"));
    }
}

macro_rules! corpora {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            replay(stringify!($name), fresnel_fuzz::$name);
        }
    )*};
}

corpora! {
    config_json
    image_decode
    import_safetensors
    load_bytes
    load_struct
    matmul
    round_trip
    unpack
}
