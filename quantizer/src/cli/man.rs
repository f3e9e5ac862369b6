//! `man`: manual pages of both programs and all their commands, made from what `--help` says.
//!
//! A page is called after its program and command, `fresnel-quantize.1`. That of `fresnel run` would have the name
//! of the program `fresnel-run`, which takes the same command: its pages stand for both.

use std::fs;
use std::io;
use std::path::PathBuf;

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use fresnel_runtime::cli::{Failure, Output, Program, ReportArgs, check_output, write_file};
use serde_json::json;

/// Write manual pages of both programs
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fresnel man -o ~/.local/share/man/man1
  fresnel man -o pages --force --json

Afterwards `man fresnel` lists the commands, and `man fresnel-quantize` describes one.")]
pub struct ManArgs {
    /// Folder for the pages; created if it is missing
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Overwrite pages that exist
    #[arg(long)]
    force: bool,
    /// How to report
    #[command(flatten)]
    pub report: ReportArgs,
}

/// A page and its file name.
type Page = (String, Vec<u8>);

/// Runs `man`; `fresnel` is the command line of that program.
///
/// # Errors
/// When a page can't be written.
pub fn man(args: &ManArgs, fresnel: Command) -> Result<(), Failure> {
    let output = Output::new(args.report);
    let device = Program::command();
    let shared = device.get_name().to_owned();
    let mut all = pages(fresnel).map_err(|error| Failure::io(&args.output, &error))?;
    all.retain(|(name, _)| *name != format!("{shared}.1"));
    all.extend(pages(device).map_err(|error| Failure::io(&args.output, &error))?);
    fs::create_dir_all(&args.output).map_err(|error| Failure::io(&args.output, &error))?;
    for (name, _) in &all {
        check_output(&args.output.join(name), &[], args.force)?;
    }
    for (name, page) in &all {
        let path = args.output.join(name);
        write_file(&path, page, args.force).map_err(|error| Failure::io(&path, &error))?;
    }
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    if output.json() {
        return output.line(json!({ "directory": args.output, "pages": names }));
    }
    output.line(format_args!("{}: {} pages", args.output.display(), names.len()))
}

/// The pages of a program and its commands.
fn pages(program: Command) -> io::Result<Vec<Page>> {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let commands: Vec<Command> = program.get_subcommands().cloned().collect();
    commands.into_iter().chain([program]).map(page).collect()
}

fn page(command: Command) -> io::Result<Page> {
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let has_commands = command.has_subcommands();
    let version = concat!("fresnel ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command).source(version).manual("fresnel");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    if has_commands {
        man.render_subcommands_section(&mut text)?;
    }
    man.render_options_section(&mut text)?;
    sections(&after).to_writer(&mut text)?;
    Ok((man.get_filename(), text))
}

/// The paragraphs behind the options as sections, lines as they are.
fn sections(after_help: &str) -> Roff {
    let mut roff = Roff::new();
    let mut heading = "";
    for paragraph in after_help.split("\n\n") {
        let own = match paragraph.split_whitespace().next() {
            Some("Example:" | "Examples:") => "EXAMPLES",
            Some("Exit") => "EXIT STATUS",
            _ => "NOTES",
        };
        if own != heading {
            roff.control("SH", [own]);
            heading = own;
        } else {
            roff.control("PP", []);
        }
        roff.control("nf", []);
        let skipped = usize::from(own == "EXAMPLES");
        for line in paragraph.lines().skip(skipped) {
            roff.text([roman(line)]);
        }
        roff.control("fi", []);
    }
    roff
}
