//! Latency and throughput of models.
//!
//! All models are loaded and warmed up first; then they run in rounds, in an order that rotates.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::BenchArgs;
use super::statistics::{Samples, milliseconds};
use crate::cli::results::{self, Column, Format, ModelFacts, Record, Stored};
use crate::cli::{Failure, Output, Progress, with_baseline};
use crate::exec::profile::{Operation, Profile};
use crate::model::Model;
use crate::session::Session;

/// What the table shows of a row.
const SHOWN: [Column; 16] = [
    Column::plain("method", "method"),
    Column::plain("bits", "bits"),
    Column::plain("compute", "compute"),
    Column::number("median ms", "median_ms", 3),
    Column::number("min ms", "min_ms", 3),
    Column::number("p90 ms", "p90_ms", 3),
    Column::number("speed-up", "speedup", 2),
    Column::number("images/s", "infer_samples_per_sec", 1),
    Column::number("first ms", "first_logits_ms", 1),
    Column::megabytes("file MB", "file_bytes"),
    Column::megabytes("memory MB", "resident_bytes"),
    Column::plain("device", "device"),
    Column::plain("batch", "infer_batch_size"),
    Column::plain("threads", "threads"),
    Column::plain("kernel", "kernel"),
    Column::plain("file", "file"),
];

/// One model in one mode.
struct Contestant<'a> {
    file: &'a Path,
    session: Session,
    pixels: Vec<f32>,
    /// From opening the device and the file to the first logits.
    first: f64,
    milliseconds: Samples,
    profiles: Vec<Profile>,
}

pub(super) fn bench(args: &BenchArgs) -> Result<(), Failure> {
    let output = Output::new(args.report);
    let files = with_baseline(args.baseline.as_deref(), &args.models);
    let count = files.len() * args.device.len() * args.compute.len();
    let mut progress = Progress::new("measuring", (args.iterations + 1) * count, args.report);
    let mut contestants = Vec::with_capacity(count);
    for file in files {
        for (device, &compute) in
            args.device.iter().flat_map(|device| args.compute.iter().map(move |c| (device, c)))
        {
            let open = || args.machine.open(file, device, compute, &output);
            let (start, session) = milliseconds(open);
            let session = session?;
            let mut contestant = Contestant {
                file,
                pixels: noise(session.model(), args.batch)?,
                session,
                first: start,
                milliseconds: Samples::with_capacity(args.iterations),
                profiles: Vec::new(),
            };
            contestant.first += contestant.run(args.batch)?;
            contestants.push(contestant);
            progress.advance(1);
        }
    }
    for round in 0..args.iterations {
        for turn in 0..count {
            let contestant = &mut contestants[(round + turn) % count];
            let milliseconds = if args.profile {
                contestant.run_profiled(args.batch)?
            } else {
                contestant.run(args.batch)?
            };
            contestant.milliseconds.push(milliseconds);
            progress.advance(1);
        }
    }
    drop(progress);
    let peak = peak_rss_bytes();
    let records: Vec<Record> = contestants
        .iter()
        .map(|contestant| contestant.record(args, &contestants[0].milliseconds, peak))
        .collect();
    results::print(&output, args.format(), &records, &SHOWN)?;
    if matches!(args.format(), Format::Csv | Format::Json) {
        return Ok(());
    }
    output.message(format_args!("{}", conditions(&records, peak)));
    if args.profile {
        for contestant in &contestants {
            contestant.write_profile(&output)?;
        }
    }
    Ok(())
}

/// What the rows have in common, in a line.
fn conditions(records: &[Record], peak: Option<u64>) -> String {
    let mut parts =
        vec!["Times are of one batch; speed-up is relative to the first row".to_owned()];
    if let Some(record) = records.first() {
        let text = |name: &str| record.get(name).as_str().unwrap_or("unknown processor").to_owned();
        parts.push(format!("{}, {}", text("processor"), text("isa")));
    }
    if let Some(peak) = peak {
        parts.push(format!("peak memory of the process {:.1} MB", peak as f64 / 1e6));
    }
    parts.join("; ")
}

impl Contestant<'_> {
    /// One run, in milliseconds.
    fn run(&mut self, batch: usize) -> Result<f64, Failure> {
        let (milliseconds, logits) = milliseconds(|| self.session.run(&self.pixels, batch));
        logits.map_err(|error| error.at_path(self.file))?;
        Ok(milliseconds)
    }

    /// One run, in milliseconds, whose profile is kept.
    fn run_profiled(&mut self, batch: usize) -> Result<f64, Failure> {
        let (milliseconds, result) =
            milliseconds(|| self.session.run_profiled(&self.pixels, batch));
        let (_, profile) = result.map_err(|error| error.at_path(self.file))?;
        self.profiles.push(profile);
        Ok(milliseconds)
    }

    /// The row of this model and mode; `baseline` are the times of the first one.
    fn record(&self, args: &BenchArgs, baseline: &Samples, peak: Option<u64>) -> Record {
        let model = self.session.model();
        let facts = ModelFacts::new(model.config(), model.preprocessing());
        let mut record = facts.speed_record(args.batch, self.milliseconds.mean());
        Stored::new(model.manifest()).push(&mut record);
        record.push_number("min_ms", Some(self.milliseconds.least()), 4);
        record.push_number("median_ms", Some(self.milliseconds.median()), 4);
        record.push_number("p90_ms", Some(self.milliseconds.quantile(0.9)), 4);
        record.push_number("speedup", Some(self.milliseconds.speedup_over(baseline)), 3);
        record.push("iterations", args.iterations);
        record.push_number("first_logits_ms", Some(self.first), 3);
        record.push("file_bytes", model.file_bytes());
        record.push("resident_bytes", model.resident_bytes());
        record.push("peak_rss_bytes", json!(peak));
        results::run_columns(&mut record, &self.session, self.file);
        if args.profile {
            record
                .push_detail("profile", self.shares().iter().map(Share::object).collect::<Value>());
        }
        record
    }

    fn write_profile(&self, output: &Output) -> Result<(), Failure> {
        output.line("")?;
        output.line(format_args!(
            "{}, {}, {}",
            self.file.display(),
            self.session.model().device(),
            self.session.compute().name()
        ))?;
        output.line(format_args!(
            "{:>20} {:>6} {:>10} {:>7} {:>9}",
            "operation", "calls", "ms", "share", "GOP/s"
        ))?;
        self.shares().iter().try_for_each(|share| output.line(share.row()))
    }

    /// The operations that ran, each with the median of its times.
    fn shares(&self) -> Vec<Share> {
        let mut shares: Vec<Share> = Operation::ALL
            .into_iter()
            .filter_map(|operation| {
                let entry = self.profiles.first()?.entry(operation);
                let mut times = Samples::with_capacity(self.profiles.len());
                for profile in &self.profiles {
                    times.push(profile.entry(operation).time.as_secs_f64() * 1e3);
                }
                (entry.calls > 0).then(|| Share {
                    operation,
                    calls: entry.calls,
                    milliseconds: times.median(),
                    share: 0.0,
                    arithmetic_operations: entry.arithmetic_operations,
                })
            })
            .collect();
        let total: f64 = shares.iter().map(|share| share.milliseconds).sum();
        for share in &mut shares {
            share.share = share.milliseconds / total;
        }
        shares
    }
}

/// What one operation takes of a run.
struct Share {
    operation: Operation,
    calls: usize,
    milliseconds: f64,
    /// Of the sum over all operations.
    share: f64,
    arithmetic_operations: u64,
}

impl Share {
    /// 10^9 operations per second, where there are matrix products.
    fn rate(&self) -> Option<f64> {
        (self.arithmetic_operations > 0)
            .then(|| self.arithmetic_operations as f64 / self.milliseconds * 1e-6)
    }

    fn object(&self) -> Value {
        let mut object = Map::new();
        object.insert("operation".into(), self.operation.name().into());
        object.insert("calls".into(), self.calls.into());
        object.insert("median_ms".into(), self.milliseconds.into());
        object.insert("share".into(), self.share.into());
        object.insert("gops".into(), self.rate().into());
        object.into()
    }

    fn row(&self) -> String {
        let rate = self.rate().map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"));
        format!(
            "{:>20} {:>6} {:>10.3} {:>5.1} % {rate:>9}",
            self.operation.name(),
            self.calls,
            self.milliseconds,
            self.share * 100.0
        )
    }
}

/// Pixels of a usual size, the same in every run of the program.
fn noise(model: &Model, batch: usize) -> Result<Vec<f32>, Failure> {
    let config = model.config();
    let [height, width] = config.image_size;
    let count = [height, width, config.in_channels]
        .into_iter()
        .try_fold(batch, |product, size| product.checked_mul(size as usize))
        .filter(|&count| count <= isize::MAX as usize / size_of::<f32>());
    let count = count.ok_or_else(|| Failure::usage("--batch is too large"))?;
    let mut pixels = Vec::new();
    pixels
        .try_reserve_exact(count)
        .map_err(|_| Failure::usage("--batch is too large for this machine's memory"))?;
    pixels.extend(super::statistics::noise().take(count).map(|value| 2.0 * value));
    Ok(pixels)
}

/// Peak of the process's memory in use; `None` where the system does not tell.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    #[test]
    fn linux_tells_peak_memory() {
        assert!(super::peak_rss_bytes().is_some_and(|bytes| bytes > 1 << 16));
    }
}
