//! The examples, on the digits model.

use std::path::Path;
use std::process::Command;

#[test]
fn quantize_and_compare_keeps_what_the_float_model_says() {
    // Examples are built beside the folder of the tests.
    let own = std::env::current_exe().expect("the test's own path");
    let folder = own.ancestors().nth(2).expect("a build folder").join("examples");
    let program = folder.join(format!("quantize_and_compare{}", std::env::consts::EXE_SUFFIX));
    assert!(program.is_file(), "{} is not built: run cargo test without --test", program.display());
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/digits");
    let output = Command::new(program)
        .args([&digits, &digits.join("samples")])
        .args(["4", "2"])
        .output()
        .expect("it starts");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{messages}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].contains("5 images calibrate, 5 judge"), "{text}");
    for (line, bits) in lines[1..].iter().zip(["4 bit: ", "2 bit: "]) {
        assert!(line.starts_with(bits) && line.ends_with("% agree with float"), "{text}");
    }
    // Of five clear digits, 4 bit may spoil one.
    let agreement: f64 = lines[1]
        .rsplit(", ")
        .next()
        .and_then(|part| part.split(' ').next()?.parse().ok())
        .expect("a percentage");
    assert!(agreement >= 80.0, "{text}");
}
