//! The demo: what a new user sees first.

use std::fs;

use fresnel_tests::programs::fresnel;
use serde_json::Value;

#[test]
fn the_demo_compares_methods_and_widths_with_float() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let folder = scratch.path().to_str().expect("a UTF-8 path");
    let arguments = ["demo", "--device", "cpu", "--json", "-o", folder];
    let stdout = fresnel(&arguments).success();
    let rows: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(rows.len(), 13, "float, and three methods at four widths");
    let row = |method: &str, bits: &str| {
        rows.iter()
            .find(|row| row["method"] == method && row["bits"] == bits)
            .unwrap_or_else(|| panic!("no row {method} {bits}"))
    };
    let top1 = |method: &str, bits: &str| row(method, bits)["top1"].as_f64().expect("top-1");
    let bytes = |row: &Value| row["file_bytes"].as_u64().expect("a size");
    assert!(top1("float", "32") >= 98.0, "float: {}", top1("float", "32"));
    assert!(top1("beacon", "4") >= 97.0, "Beacon at 4 bit: {}", top1("beacon", "4"));
    for bits in ["4", "3", "2", "1.58"] {
        assert!(
            top1("beacon", bits) >= top1("rtn", bits) - 1.0,
            "Beacon falls behind at {bits} bit"
        );
    }
    assert!(top1("beacon", "1.58") >= top1("rtn", "1.58") + 3.0, "Beacon leads at 1.58 bit");
    assert!(bytes(row("float", "32")) > 7 * bytes(row("beacon", "2")), "files shrink");
    for row in &rows {
        let file = row["file"].as_str().expect("a path");
        assert_eq!(fs::metadata(file).expect("the file").len(), bytes(row), "{file}");
        fresnel(&["verify", file]).success();
    }
    // Run again, the files are the same and stay.
    fresnel(&arguments).success();
    let first = rows[1]["file"].as_str().expect("a path");
    fs::write(first, "something else").expect("written");
    fresnel(&arguments).assert_fails(4, &["--force"]);
}
