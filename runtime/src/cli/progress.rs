//! A progress line on standard error, shown only on a terminal and only when work takes a second.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use super::ReportArgs;

/// Work shorter than this shows no progress.
const DELAY: Duration = Duration::from_millis(700);
/// Time between two updates of the line.
const INTERVAL: Duration = Duration::from_millis(100);

/// Counts finished pieces of work; the line is removed when the value is dropped.
#[derive(Debug)]
pub struct Progress {
    label: &'static str,
    total: usize,
    done: usize,
    started: Instant,
    drawn: Option<Instant>,
    visible: bool,
}

impl Progress {
    /// Progress of `total` pieces of work called `label`.
    pub fn new(label: &'static str, total: usize, report: ReportArgs) -> Self {
        let visible = !report.quiet && io::stderr().is_terminal();
        Self { label, total, done: 0, started: Instant::now(), drawn: None, visible }
    }

    /// Adds `count` finished pieces.
    pub fn advance(&mut self, count: usize) {
        self.done += count;
        let elapsed = self.started.elapsed();
        let due = self.drawn.is_none_or(|drawn| drawn.elapsed() >= INTERVAL);
        if !self.visible || elapsed < DELAY || !due {
            return;
        }
        self.drawn = Some(Instant::now());
        let remaining = self.total.saturating_sub(self.done) as f64;
        let seconds = remaining * elapsed.as_secs_f64() / self.done.max(1) as f64;
        let line =
            format!("\r\x1b[K{} {}/{}, {seconds:.0} s left", self.label, self.done, self.total);
        // Progress is a courtesy: a closed standard error does not matter.
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

impl Progress {
    /// Removes the line until the next [`advance`](Self::advance), so that something else can be
    /// printed.
    pub fn clear(&mut self) {
        if self.drawn.take().is_some() {
            let _ = io::stderr().write_all(b"\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
