//! Every command explains itself, with an example that names it.

use std::process::Command;

#[test]
fn every_command_has_help_with_an_example() {
    let help = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_fresnel"))
            .args(arguments)
            .output()
            .expect("it starts");
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let overview = help(&["--help"]);
    for command in [
        "quantize", "compare", "report", "demo", "synth", "eval", "run", "classify", "inspect",
        "verify", "bench",
    ] {
        assert!(overview.contains(command), "{command} in the overview");
        let text = help(&[command, "--help"]);
        assert!(text.contains(&format!("fresnel {command}")), "an example of {command}: {text}");
        for flag in ["--json", "--quiet"] {
            assert!(text.contains(flag), "{command} {flag}");
        }
    }
}
