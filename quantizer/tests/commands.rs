//! Every command explains itself, with examples that name it.

use std::process::Command;

fn help(arguments: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_fresnel")).args(arguments).output().expect("it starts");
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn every_command_has_help_with_an_example() {
    let overview = help(&["--help"]);
    for command in [
        "quantize", "compare", "report", "demo", "synth", "eval", "run", "classify", "inspect",
        "diff", "edit", "export", "verify", "bench", "man",
    ] {
        assert!(overview.contains(command), "{command} in the overview");
        let text = help(&[command, "--help"]);
        assert!(text.contains(&format!("  fresnel {command} ")), "an example of {command}: {text}");
        for flag in ["--json", "--quiet"] {
            assert!(text.contains(flag), "{command} {flag}");
        }
    }
    assert!(overview.contains("Exit codes:"), "{overview}");
}
