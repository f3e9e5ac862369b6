//! `bench`: models and kernels. No test looks at a time, only at what was measured and how it is reported.

use fresnel_kernels::{Arithmetic, Isa};
use serde_json::Value;

use crate::folder::{Folder, config};

/// The lines of JSON that a command prints with FRESNEL_ISA set, or unset.
fn lines(folder: &Folder, isa: Option<Isa>, arguments: &[&str]) -> Vec<Value> {
    let mut command = folder.command(arguments);
    command.args(["--json", "--threads", "1"]).env_remove(Isa::VARIABLE);
    if let Some(isa) = isa {
        command.env(Isa::VARIABLE, isa.name());
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{isa:?} {arguments:?}: {output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text<'a>(line: &'a Value, key: &str) -> &'a str {
    line[key].as_str().unwrap_or_else(|| panic!("{key} of {line}"))
}

fn number(line: &Value, key: &str) -> f64 {
    line[key].as_f64().unwrap_or_else(|| panic!("{key} of {line}"))
}

#[test]
fn bench_reports_one_object_per_model_and_mode() {
    let folder = Folder::new();
    let arguments = [
        "bench",
        "model.fresnel",
        "model.fresnel",
        "--compute",
        "f32,int8",
        "--threads",
        "1",
        "--batch",
        "2",
        "--iterations",
        "3",
        "--json",
    ];
    let output = folder.run(&arguments);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4, "{text}");
    for (line, compute) in lines.iter().zip(["f32", "int8", "f32", "int8"]) {
        assert_eq!(line["compute"], compute);
        assert_eq!(line["threads"], 1);
        assert_eq!(line["infer_batch_size"], 2);
        for key in [
            "median_ms",
            "min_ms",
            "p90_ms",
            "infer_samples_per_sec",
            "infer_step_time",
            "speedup",
            "first_logits_ms",
            "file_bytes",
            "resident_bytes",
        ] {
            assert!(number(line, key) > 0.0, "{key}: {line}");
        }
        assert_eq!(line["peak_rss_bytes"].is_u64(), cfg!(target_os = "linux"));
        assert!(line["kernel"].as_str().unwrap().contains("-w32a32-"), "{line}");
        assert_eq!(line["isa"], Isa::from_env().unwrap().name());
    }
}

/// The cells of each line of a Markdown table.
fn cells(table: &str) -> Vec<Vec<&str>> {
    let lines = table.lines().map(|line| line.trim_matches('|').split('|').map(str::trim));
    lines.map(Iterator::collect).collect()
}

#[test]
fn csv_begins_with_the_columns_of_timm() {
    let folder = Folder::new();
    let arguments = ["bench", "coded.fresnel", "--iterations", "2", "--format", "csv", "--quiet"];
    let output = folder.run(&arguments);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    let [header, row] = lines.as_slice() else { panic!("{text}") };
    assert_eq!(
        header[..8].join(","),
        "model,infer_samples_per_sec,infer_step_time,infer_batch_size,infer_img_size,infer_gmacs,\
         infer_macts,param_count"
    );
    assert_eq!((header.len(), row[0], row[3], row[4]), (row.len(), "tiny", "1", "8"));
    let value = |name: &str| row[header.iter().position(|found| *found == name).unwrap()];
    assert_eq!([value("method"), value("bits"), value("speedup")], ["none", "2", "1.0"]);
}

/// The baseline comes first, once, and speed-ups are relative to it.
#[test]
fn the_table_has_a_row_for_the_baseline() {
    let folder = Folder::new();
    let arguments = [
        "bench",
        "coded.fresnel",
        "model.fresnel",
        "--baseline",
        "model.fresnel",
        "--compute",
        "f32",
        "--iterations",
        "2",
        "--format",
        "markdown",
    ];
    let output = folder.run(&arguments);
    let table = String::from_utf8(output.stdout).unwrap();
    let cells = cells(&table);
    let column = |name: &str| cells[0].iter().position(|found| *found == name).unwrap();
    let of = |row: usize, name: &str| cells[row][column(name)];
    assert_eq!(cells.len(), 4, "a header, a rule and two rows: {table}");
    assert_eq!([of(2, "file"), of(2, "bits"), of(2, "method")], ["model.fresnel", "32", "float"]);
    assert_eq!([of(3, "file"), of(3, "bits"), of(3, "method")], ["coded.fresnel", "2", "none"]);
    assert_eq!(of(2, "speed-up"), "1.00");
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("relative to the first row"), "{message}");
}

/// Every instruction set that is forced shows in the name of every kernel, of codes and of floats.
#[test]
fn models_run_on_the_instruction_set_that_is_forced() {
    let folder = Folder::new();
    for isa in Isa::available() {
        let mut modes = vec![("f32", "-w2a32-"), ("int8", "-w2a8-")];
        if isa.supports(Arithmetic::Half) {
            modes.push(("half", "-w2a16-"));
        }
        for (compute, suffix) in modes {
            let line = |model: &str| {
                let arguments = ["bench", model, "--compute", compute, "--iterations", "1"];
                let lines = lines(&folder, Some(isa), &arguments);
                assert_eq!((lines.len(), text(&lines[0], "isa")), (1, isa.name()));
                assert_eq!(lines[0]["compute"], compute);
                text(&lines[0], "kernel").to_owned()
            };
            let kernel = line("coded.fresnel");
            assert!(kernel.starts_with(&format!("{isa}{suffix}")), "{isa} {compute}: {kernel}");
            if compute != "half" {
                let kernel = line("model.fresnel");
                assert!(kernel.starts_with(&format!("{isa}-w32a32-")), "{isa} {compute}: {kernel}");
            }
        }
    }
}

/// The instructions that each kernel's peak is that of.
#[cfg(target_arch = "x86_64")]
fn instruction(isa: &str, arithmetic: &str) -> &'static str {
    match (isa, arithmetic) {
        ("scalar", "f32") => "mulps + addps xmm",
        ("scalar", "int8") => "pmaddwd + paddd xmm",
        ("avx2", "f32") => "vfmadd231ps ymm",
        ("avx2", "int8") => "vpmaddubsw + vpaddw ymm",
        ("avxvnni", "f32") => "vfmadd231ps ymm",
        ("avxvnni", "int8") => "vpdpbusd ymm",
        ("avx512vnni", "f32") => "vfmadd231ps zmm",
        ("avx512vnni", "int8") => "vpdpbusd zmm",
        ("amx", "f32") => "vfmadd231ps zmm",
        ("amx", "half") => "tdpbf16ps",
        ("amx", "int8") => "tdpbsud",
        other => panic!("no instruction is known for {other:?}"),
    }
}

#[test]
fn kernels_of_a_forced_instruction_set_are_measured_at_every_width() {
    let folder = Folder::new();
    for isa in Isa::available() {
        let arguments = [
            "bench",
            "--kernels",
            "--rows",
            "3",
            "--shape",
            "20x9",
            "--shape",
            "8x40",
            "--iterations",
            "2",
        ];
        let lines = lines(&folder, Some(isa), &arguments);
        let mut kernels = Vec::new();
        for line in &lines {
            assert_eq!((text(line, "kind"), text(line, "isa")), ("matmul", isa.name()));
            assert_eq!(
                (&line["m"], &line["threads"], &line["runs"]),
                (&3.into(), &1.into(), &2.into())
            );
            for key in ["median_ms", "min_ms", "gops"] {
                assert!(number(line, key) > 0.0, "{key} of {line}");
            }
            #[cfg(target_arch = "x86_64")]
            {
                assert_eq!(
                    line["peak_instruction"],
                    instruction(isa.name(), text(line, "arithmetic"))
                );
                for key in ["peak_gops", "peak_max_gops", "share_of_peak", "best_share_of_peak"] {
                    assert!(number(line, key) > 0.0, "{key} of {line}");
                }
            }
            let (set, rest) = text(line, "kernel").split_once('-').unwrap();
            assert_eq!(set, isa.name());
            kernels.push(format!(
                "{}x{} {}",
                line["k"],
                line["n"],
                rest.rsplit_once('-').unwrap().0
            ));
        }
        let codes: &[&str] = &["w1.58", "w2", "w3", "w4", "w8"];
        let mut arithmetics = vec![("a32", [codes, &["w16", "w32"]].concat())];
        if isa.supports(Arithmetic::Half) {
            arithmetics.push(("a16", codes.to_vec()));
        }
        arithmetics.push(("a8", codes.to_vec()));
        let expected: Vec<String> = ["20x9", "8x40"]
            .into_iter()
            .flat_map(|shape| {
                arithmetics.iter().flat_map(move |(activations, widths)| {
                    widths.iter().map(move |width| format!("{shape} {width}{activations}"))
                })
            })
            .collect();
        assert_eq!(kernels, expected);
    }
}

#[test]
fn kernels_of_every_instruction_set_are_measured_unless_one_is_forced() {
    let folder = Folder::new();
    let arguments = ["bench", "--kernels", "--rows", "2", "--shape", "4x4", "--iterations", "1"];
    let lines = lines(&folder, None, &arguments);
    let mut isas: Vec<&str> = lines.iter().map(|line| text(line, "isa")).collect();
    isas.dedup();
    assert_eq!(isas, Isa::available().iter().map(|isa| isa.name()).collect::<Vec<_>>());
}

/// A model lends its shapes, its number of tokens and the sizes of the other operations.
#[test]
fn kernels_are_measured_at_the_shapes_of_a_model() {
    let folder = Folder::new();
    let arguments = ["bench", "--kernels", "model.fresnel", "--iterations", "1"];
    let lines = lines(&folder, Some(Isa::Scalar), &arguments);
    let (products, operations): (Vec<&Value>, Vec<&Value>) =
        lines.iter().partition(|line| text(line, "kind") == "matmul");
    let mut shapes: Vec<[u64; 3]> = products
        .iter()
        .map(|line| ["m", "k", "n"].map(|key| line[key].as_u64().unwrap()))
        .collect();
    shapes.dedup();
    assert_eq!(shapes, [[5, 8, 24], [5, 8, 8], [5, 8, 16], [5, 16, 8]]);
    let names: Vec<&str> = operations.iter().map(|line| text(line, "operation")).collect();
    for name in ["attention, 2 heads of 4", "layer norm, 8", "pack, 16, int8", "GeluErf, 16"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(operations.iter().all(|line| number(line, "median_ms") >= 0.0));
}

#[test]
fn a_profile_accounts_for_every_operation() {
    let folder = Folder::new();
    let arguments =
        ["bench", "coded.fresnel", "--profile", "--compute", "f32,int8", "--iterations", "3"];
    let depth = u64::from(config().depth);
    for line in lines(&folder, None, &arguments) {
        let profile = line["profile"].as_array().unwrap();
        let entry = |name: &str| {
            profile
                .iter()
                .find(|entry| entry["operation"] == name)
                .unwrap_or_else(|| panic!("{name}: {line}"))
        };
        let block = ["norm1", "qkv", "attention", "pack attention", "projection"];
        for name in block.into_iter().chain(["norm2", "fc1", "pack hidden", "fc2"]) {
            assert_eq!(entry(name)["calls"], depth, "{line}");
        }
        for name in ["patches", "patch embedding", "tokens", "pooling", "head"] {
            assert_eq!(entry(name)["calls"], 1, "{line}");
        }
        for name in ["patch embedding", "qkv", "attention", "projection", "fc1", "fc2", "head"] {
            assert!(number(entry(name), "gops") > 0.0, "{line}");
        }
        assert!(entry("norm1")["gops"].is_null());
        let shares: f64 = profile.iter().map(|entry| number(entry, "share")).sum();
        assert!((shares - 1.0).abs() < 1e-9, "{line}");
    }

    let table = folder.run(&["bench", "coded.fresnel", "--profile", "--iterations", "1"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("patch embedding") && table.contains("GOP/s"), "{table}");
    let without = lines(&folder, None, &["bench", "coded.fresnel", "--iterations", "1"]);
    assert!(without[0].get("profile").is_none());
}

#[test]
fn kernel_flags_that_make_no_sense_are_refused() {
    let folder = Folder::new();
    let two = ["bench", "--kernels", "model.fresnel", "coded.fresnel"];
    folder.fails(&two, 2, "shapes of one model at most");
    folder.fails(&["bench", "--kernels", "--rows", "0"], 2, "must be at least 1");
    folder.fails(&["bench", "--kernels", "--shape", "9999999x9999999"], 2, "elements");
    folder.fails(&["bench", "--kernels", "--rows", "9999999999999999"], 2, "elements");
    folder.fails(&["bench", "--kernels", "--rows", "16000"], 2, "elements");
    folder.fails(&["bench", "--kernels", "missing.fresnel"], 4, "missing.fresnel");
    for arguments in [
        &["bench"][..],
        &["bench", "model.fresnel", "--rows", "3"],
        &["bench", "--kernels", "--profile"],
        &["bench", "--kernels", "--shape", "0x8"],
        &["bench", "--kernels", "--shape", "8"],
        &["bench", "--kernels", "--format", "csv"],
        &["bench", "model.fresnel", "--format", "csv", "--json"],
    ] {
        assert_eq!(folder.run(arguments).status.code(), Some(2), "{arguments:?}");
    }
    let mut command = folder.command(&["bench", "--kernels"]);
    let output = command.env(Isa::VARIABLE, "sse9").output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{output:?}");
}
