//! A progress line on standard error, shown only on a terminal and only when work takes a second.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use super::ReportArgs;

/// Work shorter than this shows no progress.
const DELAY: Duration = Duration::from_millis(700);
/// Time between two updates of the line.
const INTERVAL: Duration = Duration::from_millis(100);

/// Characters of the bar.
const BAR: usize = 20;
/// Goes to the start of the line and clears it.
const CLEAR: &str = "\r\x1b[K";

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
        let line = line(self.label, self.done, self.total, elapsed);
        // Progress is a courtesy: a closed standard error does not matter.
        let _ = io::stderr().write_all(format!("{CLEAR}{line}").as_bytes());
    }

    /// Removes the line until the next [`advance`](Self::advance), so that something else can be
    /// printed.
    pub fn clear(&mut self) {
        if self.drawn.take().is_some() {
            let _ = io::stderr().write_all(CLEAR.as_bytes());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Removes whatever line of progress a terminal shows, for those who end the program under its feet.
#[cfg(unix)]
pub(super) fn clear_line() {
    if io::stderr().is_terminal() {
        let _ = io::stderr().write_all(CLEAR.as_bytes());
    }
}

/// Short enough for any terminal: a line that wraps can't be cleared.
fn line(label: &str, done: usize, total: usize, elapsed: Duration) -> String {
    let (done, total) = (done.min(total), total.max(1));
    let filled = done * BAR / total;
    let bar: String = (0..BAR).map(|at| if at < filled { '#' } else { '-' }).collect();
    let left = (total - done) as f64 * elapsed.as_secs_f64() / done.max(1) as f64;
    format!(
        "{label} [{bar}] {:3} % {done}/{total}, {} left",
        done * 100 / total,
        duration(left.ceil() as u64)
    )
}

fn duration(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes}:{seconds:02} min"),
        (hours, minutes, _) => format!("{hours}:{minutes:02} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_shows_share_and_time_left() {
        let seconds = Duration::from_secs;
        assert_eq!(
            line("quantizing", 12, 48, seconds(20)),
            "quantizing [#####---------------]  25 % 12/48, 1:00 min left"
        );
        assert_eq!(line("x", 9, 3, seconds(7)), "x [####################] 100 % 3/3, 0 s left");
        assert_eq!(line("x", 0, 0, seconds(1)), "x [--------------------]   0 % 0/1, 1 s left");
        assert_eq!(duration(3600 * 7 + 62), "7:01 h");
    }
}
