//! What happens when a program is told to stop: unfinished files go, and the exit code says why.
//!
//! A thread waits for the signal, so that work need not look out for it. What was finished before stays.

/// Makes SIGINT (Ctrl-C) and SIGTERM end the program with exit code 128 and the signal's number, after removing the
/// files that are being written. Elsewhere than on Unix, and where no thread can be had, the system's own way is left.
pub fn handle_interrupts() {
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let wait = || {
            if let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])
                && let Some(signal) = signals.forever().next()
            {
                end(signal);
            }
        };
        // Without a thread, signals are not caught.
        let _ = std::thread::Builder::new().name("interrupts".into()).spawn(wait);
    }
}

#[cfg(unix)]
fn end(signal: std::ffi::c_int) -> ! {
    use std::io::Write;
    let _no_more_files = crate::new_file::remove_unfinished();
    super::progress::clear_line();
    let _ = writeln!(std::io::stderr(), "error: interrupted, unfinished files are removed");
    // At once: other threads are at work, which destructors at exit would pull the ground from under.
    signal_hook::low_level::exit(128 + signal)
}
