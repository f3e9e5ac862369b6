//! `eval`: accuracy on labelled pictures.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;

use super::results::{self, Column, Format, FormatArgs, ModelFacts, Record, Stored};
use super::{
    Failure, MachineArgs, Output, Progress, ReportArgs, check_output, with_baseline, write_file,
};
use crate::csv::push_record;
use crate::device::DeviceChoice;
use crate::evaluation::{Answers, LabelledPictures};
use crate::image::dataset;
use crate::model::Model;
use crate::session::{Compute, Session};

/// Measure the accuracy of models on labelled pictures
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fresnel eval model.fresnel --data evaluation.csv
  fresnel eval 4bit.fresnel 2bit.fresnel --baseline float.fresnel --data evaluation.csv
  fresnel eval model.fresnel --data imagenet/val --limit 1000 --compute f32,int8 --format csv > eval.csv
  fresnel eval model.fresnel --data imagenet/val --device gpu --compute half

DATA is a csv file with columns `file,label` (paths relative to the csv's own folder), or a folder with
one sub-folder per class: named by the model's class names or by class indices, or one for each class,
numbered by their sorted names. The pictures are gone through once, for all files and modes together.

Csv begins with the columns of timm's tables of results. 95 % is half the interval that the choice of
the pictures leaves; that of a drop is of the pairs, as all rows see the same pictures. agree % is how
often the first class is that of the first row.")]
pub struct EvalArgs {
    /// Model files
    #[arg(value_name = "FILE", required = true)]
    pub models: Vec<PathBuf>,
    /// Labelled pictures: a csv file with columns file,label, or a folder with one folder per class
    #[arg(long, value_name = "DATA")]
    pub data: PathBuf,
    /// Use N pictures only: the first of a csv, evenly spread ones of a folder
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// The file that drops are relative to, in the first mode; it is evaluated as well [default: the first FILE]
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// Write the class that each model gives to each picture: a csv with a column per model and mode
    #[arg(long, value_name = "FILE")]
    pub predictions: Option<PathBuf>,
    /// Replace an existing file of predictions
    #[arg(long, requires = "predictions")]
    pub force: bool,
    /// Where to run: cpu, gpu, gpu:INDEX or gpu:NAME (see `devices`), or auto, the faster one
    #[arg(long, value_name = "DEVICE", default_value_t = DeviceChoice::Cpu)]
    pub device: DeviceChoice,
    /// Arithmetic of the activations; several, separated by commas, are compared
    #[arg(long, value_enum, value_delimiter = ',', default_value = "auto")]
    pub compute: Vec<Compute>,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
    /// How to report
    #[command(flatten)]
    pub report: ReportArgs,
}

impl EvalArgs {
    /// Whether everything is wanted as JSON, a failure included.
    pub fn json(&self) -> bool {
        self.format.format(self.report) == Format::Json
    }
}

/// What the table shows of a row.
const SHOWN: [Column; 12] = [
    Column::plain("method", "method"),
    Column::plain("bits", "bits"),
    Column::plain("compute", "compute"),
    Column::number("top-1 %", "top1", 2),
    Column::number("95 %", "margin95", 2),
    Column::number("top-5 %", "top5", 2),
    Column::number("drop", "drop", 2),
    Column::number("95 % of drop", "drop_margin95", 2),
    Column::number("agree %", "agreement", 2),
    Column::megabytes("file MB", "file_bytes"),
    Column::number("images/s", "model_images_per_second", 1),
    Column::plain("file", "file"),
];

/// The labelled pictures of `data` for `models`, `limit` of them; what is left out is reported.
///
/// # Errors
/// When the list cannot be read or does not fit a model (see [`LabelledPictures::new`]), when the models
/// number the classes in different ways, and when nothing is left to evaluate.
pub fn labelled_pictures(
    data: &Path,
    limit: Option<usize>,
    models: &[Arc<Model>],
    output: &Output,
) -> Result<LabelledPictures, Failure> {
    let listing = dataset::list(data)?;
    if !listing.unreadable.is_empty() {
        output.message(format_args!(
            "{} entries of {} could not be read and are left out, first: {}",
            listing.unreadable.len(),
            data.display(),
            listing.unreadable[0]
        ));
    }
    if !listing.beside_classes.is_empty() {
        output.message(format_args!(
            "{} pictures of {} lie beside its class folders and are left out",
            listing.beside_classes.len(),
            data.display()
        ));
    }
    let mut pictures: Option<LabelledPictures> = None;
    for model in models {
        let own = LabelledPictures::new(&listing, model, limit)
            .map_err(|error| if error.path().is_none() { error.at_path(data) } else { error })?;
        if *pictures.get_or_insert_with(|| own.clone()) != own {
            return Err(Failure::bad_input(format!(
                "{}: the models give different numbers to the class folders: evaluate them one by one",
                data.display()
            )));
        }
    }
    match pictures {
        Some(pictures) if !pictures.is_empty() => Ok(pictures),
        _ => Err(Failure::usage("--limit 0 leaves no picture to evaluate")),
    }
}

/// Runs `eval`.
///
/// # Errors
/// When a model, the list or a picture cannot be read, a picture has no label or one that a model
/// does not know, a model has no classes, or the predictions cannot be written.
pub fn eval(args: &EvalArgs) -> Result<(), Failure> {
    let output = Output::new(args.report);
    let files = with_baseline(args.baseline.as_deref(), &args.models);
    if let Some(predictions) = &args.predictions {
        let inputs: Vec<&Path> = files.iter().copied().chain([args.data.as_path()]).collect();
        check_output(predictions, &inputs, args.force)?;
    }
    let (mut models, mut sessions, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for file in files {
        let mut model: Option<Arc<Model>> = None;
        for &compute in &args.compute {
            let session = match &model {
                // One copy of the weights serves all modes.
                Some(model) => Session::new(model, args.machine.options(compute))?,
                None => args.machine.open(file, &args.device, compute, &output)?,
            };
            if model.is_none() {
                check_classes(file, session.model())?;
                model = Some(Arc::clone(session.model()));
            }
            sessions.push(session);
            names.push(file);
        }
        models.extend(model);
    }
    let pictures = labelled_pictures(&args.data, args.limit, &models, &output)?;
    if let Some(predictions) = &args.predictions {
        let inputs: Vec<&Path> = pictures.paths().iter().map(PathBuf::as_path).collect();
        check_output(predictions, &inputs, args.force)?;
    }
    let mut progress = Progress::new("evaluating", pictures.len() * sessions.len(), args.report);
    let start = Instant::now();
    let answers = pictures.evaluate_all(&mut sessions, |done| progress.advance(done))?;
    drop(progress);
    let seconds = start.elapsed().as_secs_f64();
    let rows: Vec<Row> = (sessions.iter().zip(names).zip(&answers))
        .map(|((session, file), answers)| Row { session, file, answers })
        .collect();
    if let Some(path) = &args.predictions {
        write_file(path, predictions(&pictures, &rows).as_bytes(), args.force)
            .map_err(|error| Failure::io(path, &error))?;
    }
    let records: Vec<Record> = rows.iter().map(|row| row.record(&answers[0])).collect();
    let format = args.format.format(args.report);
    results::print(&output, format, &records, &SHOWN)?;
    if matches!(format, Format::Table | Format::Markdown) {
        output.message(format_args!(
            "{} pictures in {seconds:.1} s; drop and agree are relative to the first row",
            pictures.len()
        ));
    }
    Ok(())
}

fn check_classes(file: &Path, model: &Model) -> Result<(), Failure> {
    if model.config().num_classes == 0 {
        return Err(Failure::bad_input(format!(
            "{}: the model has no classes, its output is features",
            file.display()
        )));
    }
    Ok(())
}

/// One model in one mode.
struct Row<'a> {
    session: &'a Session,
    file: &'a Path,
    answers: &'a Answers,
}

impl Row<'_> {
    fn record(&self, baseline: &Answers) -> Record {
        let model = self.session.model();
        let facts = ModelFacts::new(model.config(), model.preprocessing());
        let (accuracy, change) = (self.answers.accuracy(), self.answers.change(baseline));
        let mut record = facts.accuracy_record(Some(&accuracy));
        Stored::new(model.manifest()).push(&mut record);
        record.push("images", accuracy.images);
        record.push_number("margin95", Some(accuracy.top1_margin()), 3);
        record.push_number("drop", Some(change.drop()), 3);
        record.push_number("drop_margin95", Some(change.drop_margin()), 3);
        record.push_number("agreement", Some(change.agreement()), 3);
        record.push("file_bytes", model.file_bytes());
        let rate = accuracy.images as f64 / self.answers.model_seconds;
        record.push_number("model_images_per_second", Some(rate), 2);
        results::run_columns(&mut record, self.session, self.file);
        record
    }

    /// Heading of the row's predictions.
    fn name(&self) -> String {
        format!("{} {}", self.file.display(), self.session.compute())
    }
}

/// A line per picture: its file, its label, and the class that each row gives to it.
fn predictions(pictures: &LabelledPictures, rows: &[Row]) -> String {
    let mut text = String::new();
    let names = rows.iter().map(Row::name);
    push_record(&mut text, ["image", "label"].map(str::to_owned).into_iter().chain(names));
    for (index, (path, label)) in pictures.paths().iter().zip(pictures.labels()).enumerate() {
        let classes = rows.iter().map(|row| row.answers.first[index].to_string());
        let picture = [path.display().to_string(), label.to_string()];
        push_record(&mut text, picture.into_iter().chain(classes));
    }
    text
}
