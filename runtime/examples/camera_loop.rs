//! Classifies frames as they come, the newest first, and tells how late the answers are.
//!
//! ```text
//! cargo run --release -p fresnel-runtime --example camera_loop -- model.fresnel [--rate 30] [--seconds 5]
//! ```
//!
//! One thread stands for the camera: it delivers frames of 640 x 480 at the rate asked for (here a drawn stroke that moves). The
//! other classifies. A frame that is still waiting when the next one arrives is dropped, so that an answer is never about the
//! past: latency is bounded by one frame's wait and one run, however slow the machine is.

use std::error::Error;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fresnel_runtime::{ColorMode, ErrorKind, Image, Model, Session, SessionOptions};

const WIDTH: usize = 640;
const HEIGHT: usize = 480;

struct Frame {
    captured: Instant,
    image: Image,
}

/// Room for one frame: what the camera delivers last.
#[derive(Default)]
struct Slot {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    frame: Option<Frame>,
    delivered: usize,
    dropped: usize,
    ended: bool,
}

impl Slot {
    /// Changes the state and wakes the one who waits for it.
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    fn deliver(&self, frame: Frame) {
        self.change(|state| {
            state.delivered += 1;
            state.dropped += usize::from(state.frame.replace(frame).is_some());
        });
    }

    /// Waits for the next frame; none after the last.
    fn take(&self) -> Option<Frame> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.ended {
                return None;
            }
            if let Some(frame) = state.frame.take() {
                return Some(frame);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut model, mut rate, mut seconds) = (None, 30.0, 5.0);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().unwrap_or_default().parse::<f64>();
        match argument.as_str() {
            "--rate" => rate = number()?,
            "--seconds" => seconds = number()?,
            _ => model = Some(argument),
        }
    }
    let usage = "usage: camera_loop MODEL [--rate FRAMES_PER_SECOND] [--seconds SECONDS]";
    let model = Model::open(model.ok_or(usage)?)?;
    let period = Duration::try_from_secs_f64(1.0 / rate).map_err(|_| usage)?;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|_| usage)?;

    let mut session = Session::new(&model, SessionOptions::default())?;
    let cancel = session.cancel_flag();
    let slot = Slot::default();
    let mut latencies = Vec::new();
    let mut counts = vec![0_usize; model.output_len()];
    std::thread::scope(|scope| -> Result<(), fresnel_runtime::Error> {
        scope.spawn(|| {
            camera(&slot, period, duration);
            // A run under way is of no use to anybody now.
            cancel.cancel();
            slot.change(|state| state.ended = true);
        });
        while let Some(frame) = slot.take() {
            match session.classify(&frame.image, 1) {
                Ok(predictions) => {
                    latencies.push(frame.captured.elapsed());
                    predictions.iter().for_each(|best| counts[best.class] += 1);
                }
                Err(error) if error.kind() == ErrorKind::Cancelled => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    })?;

    let state = slot.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{} frames at {rate} per second, {} classified, {} dropped",
        state.delivered,
        latencies.len(),
        state.dropped
    );
    latencies.sort_unstable();
    for percent in [50, 90, 99] {
        if let Some(latency) = percentile(&latencies, percent) {
            println!("p{percent}: {:.2} ms from frame to answer", latency.as_secs_f64() * 1e3);
        }
    }
    let most = (0..counts.len()).max_by_key(|&class| counts[class]);
    if let Some(name) = most.and_then(|class| model.class_name(class)) {
        println!("seen most: {name}");
    }
    Ok(())
}

/// Delivers a frame per `period` for `duration`, never faster to make up for a late one.
fn camera(slot: &Slot, period: Duration, duration: Duration) {
    let start = Instant::now();
    let mut next = start;
    for number in 0.. {
        if next.duration_since(start) >= duration {
            break;
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        if let Ok(image) = draw(number) {
            slot.deliver(Frame { captured: Instant::now(), image });
        }
        next = (next + period).max(Instant::now());
    }
}

/// A white stroke on black, which moves with the number of the frame.
fn draw(number: usize) -> Result<Image, fresnel_runtime::Error> {
    let left = 280 + number % 60;
    let mut rgb = vec![0; WIDTH * HEIGHT * 3];
    for row in rgb.chunks_exact_mut(3 * WIDTH).take(400).skip(80) {
        row[3 * left..3 * (left + 40)].fill(255);
    }
    Image::new(WIDTH as u32, HEIGHT as u32, ColorMode::Rgb, rgb)
}

/// The smallest of the sorted `values` that `percent` of them do not exceed.
fn percentile(values: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (values.len() * percent).div_ceil(100);
    values.get(rank.checked_sub(1)?).copied()
}
