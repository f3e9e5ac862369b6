//! Latency and throughput of models.
//!
//! All models are loaded and warmed up first; then they run in rounds, in an order that rotates.

use std::path::PathBuf;

use fresnel_kernels::Isa;
use serde_json::{Map, Value, json};

use super::BenchArgs;
use super::statistics::{Samples, milliseconds};
use crate::cli::{Failure, Output, Progress};
use crate::exec::profile::{Operation, Profile};
use crate::model::Model;
use crate::session::Session;

/// One model in one mode.
struct Contestant<'a> {
    file: &'a PathBuf,
    session: Session,
    pixels: Vec<f32>,
    /// From opening the device and the file to the first logits.
    first: f64,
    milliseconds: Samples,
    profiles: Vec<Profile>,
}

pub(super) fn bench(args: &BenchArgs) -> Result<(), Failure> {
    let output = Output::new(args.report);
    let count = args.models.len() * args.device.len() * args.compute.len();
    let mut progress = Progress::new("measuring", (args.iterations + 1) * count, args.report);
    let mut contestants = Vec::with_capacity(count);
    for file in &args.models {
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
    if output.json() {
        return contestants
            .iter()
            .try_for_each(|contestant| output.line(contestant.object(args, peak)));
    }
    output.line(format_args!(
        "{:>10} {:>10} {:>10} {:>10}  {:>6} {:>5} {:>7} {:>5} {:>12} {:>12}  {:<28} file",
        "median ms",
        "min ms",
        "images/s",
        "first ms",
        "device",
        "mode",
        "threads",
        "batch",
        "file bytes",
        "memory",
        "kernel"
    ))?;
    for contestant in &contestants {
        output.line(contestant.row(args))?;
    }
    if let Some(peak) = peak {
        output.line(format_args!("peak memory of the process: {peak} bytes"))?;
    }
    if args.profile {
        for contestant in &contestants {
            contestant.write_profile(&output)?;
        }
    }
    Ok(())
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

    fn images_per_second(&self, batch: usize) -> f64 {
        batch as f64 * 1e3 / self.milliseconds.median()
    }

    /// This model and mode as JSON.
    fn object(&self, args: &BenchArgs, peak: Option<u64>) -> Value {
        let session = &self.session;
        let model = session.model();
        let mut object = json!({
            "file": self.file.display().to_string(),
            "median_ms": self.milliseconds.median(),
            "min_ms": self.milliseconds.least(),
            "images_per_second": self.images_per_second(args.batch),
            "first_logits_ms": self.first,
            "file_bytes": model.file_bytes(),
            "resident_bytes": model.resident_bytes(),
            "peak_rss_bytes": peak,
            "compute": session.compute().name(),
            "device": model.device().to_string(),
            "isa": model.isa().map(Isa::name),
            "threads": session.threads(),
            "batch": args.batch,
            "iterations": args.iterations,
            "kernel": session.kernel(),
        });
        if args.profile {
            object["profile"] = self.shares().iter().map(Share::object).collect();
        }
        object
    }

    /// The line of output for this model and mode.
    fn row(&self, args: &BenchArgs) -> String {
        let session = &self.session;
        let model = session.model();
        format!(
            "{:10.3} {:10.3} {:10.1} {:10.1}  {:>6} {:>5} {:>7} {:>5} {:>12} {:>12}  {:<28} {}",
            self.milliseconds.median(),
            self.milliseconds.least(),
            self.images_per_second(args.batch),
            self.first,
            model.device().kind(),
            session.compute().name(),
            session.threads(),
            args.batch,
            model.file_bytes(),
            model.resident_bytes(),
            session.kernel(),
            self.file.display()
        )
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
