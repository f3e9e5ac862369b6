//! `report`: results of `eval`, `bench` and `compare` as one page.

use std::path::{Path, PathBuf};

use clap::Args;
use fresnel_runtime::cli::{Failure, Output, ReportArgs, check_output, write_file};
use serde_json::json;

use crate::report::page;
use crate::report::source::Sources;

/// Make one page of results: accuracy against size and time, changed answers, layers, machine
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fresnel eval float.fresnel 2bit.fresnel --data evaluation.csv --predictions answers.csv --json > eval.json
  fresnel bench float.fresnel 2bit.fresnel --json > bench.json
  fresnel report eval.json bench.json answers.csv 2bit.fresnel -o report.html
  fresnel report comparison/compare.json -o report.html

The page needs no network and no scripts. Rows of eval and bench that are of the same file in the
same mode are put together. Files of predictions add the answers that changed; the JSON of compare and
quantize adds errors by layer, and model files add widths by layer, names of classes and recipes.")]
pub struct ReportPageArgs {
    /// Results as .json, .jsonl or .csv, predictions as .csv, models as .fresnel
    #[arg(value_name = "RESULT", required = true)]
    results: Vec<PathBuf>,
    /// The page to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace an existing page
    #[arg(long)]
    force: bool,
    /// How to report
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Runs `report`.
///
/// # Errors
/// When a file can't be read, is of no known kind or holds no results, or the page can't be written.
pub fn report(args: &ReportPageArgs) -> Result<(), Failure> {
    let output = Output::new(args.report);
    let inputs: Vec<&Path> = args.results.iter().map(PathBuf::as_path).collect();
    check_output(&args.output, &inputs, args.force)?;
    let sources = Sources::read(&args.results)?;
    let page = page::page(&sources);
    write_file(&args.output, page.as_bytes(), args.force)
        .map_err(|error| Failure::io(&args.output, &error))?;
    if output.json() {
        return output.line(json!({
            "file": args.output,
            "bytes": page.len(),
            "rows": sources.rows.len(),
        }));
    }
    output.message(format_args!(
        "{}: {} rows, {} bytes",
        args.output.display(),
        sources.rows.len(),
        page.len()
    ));
    Ok(())
}
