//! Shows progress on stderr: one line that is rewritten on a terminal, and a line from time to time
//! elsewhere.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use heist::Handle;

use super::text::grouped;

/// Shows the progress of a step. Dropping it removes the line from a terminal.
pub(crate) struct Progress {
    label: String,
    terminal: bool,
    written: bool,
    next: Instant,
}

impl Progress {
    pub(crate) fn new(label: &str) -> Self {
        let mut progress = Self {
            label: label.into(),
            terminal: io::stderr().is_terminal(),
            written: false,
            next: Instant::now(),
        };
        progress.next += progress.interval();
        progress
    }

    fn interval(&self) -> Duration {
        if self.terminal { Duration::from_millis(100) } else { Duration::from_secs(5) }
    }

    /// Shows `state` if the interval has passed. Cheap enough to call at every step.
    pub(crate) fn show(&mut self, state: impl FnOnce() -> String) {
        if Instant::now() < self.next {
            return;
        }
        let (label, state) = (&self.label, state());
        // A lost line of progress is no reason to stop.
        let _ = if self.terminal {
            write!(io::stderr(), "\r\x1b[K{label}: {state}")
        } else {
            writeln!(io::stderr(), "{label}: {state}")
        };
        self.written = true;
        self.next = Instant::now() + self.interval();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal && self.written {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// Shows the progress of a run until dropped. It needs a separate thread, because the sending
/// thread sometimes waits for an unknown time.
pub(crate) struct Watch {
    sent: Arc<AtomicUsize>,
    done: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(crate) fn start(label: &str, all: usize, executor: Handle) -> Self {
        let sent = Arc::new(AtomicUsize::new(0));
        let (done, is_done) = mpsc::channel();
        let mut progress = Progress::new(label);
        let watched = Arc::clone(&sent);
        let show = move || {
            while is_done.recv_timeout(progress.interval()) == Err(RecvTimeoutError::Timeout) {
                let sent = watched.load(Ordering::Relaxed);
                let stats = executor.stats();
                progress.show(|| {
                    format!(
                        "{:3} % sent, {} messages handled, {} actors",
                        100 * sent / all,
                        grouped(stats.handled),
                        grouped(stats.live_actors),
                    )
                });
            }
        };
        Self { sent, done: Some(done), thread: Some(thread::spawn(show)) }
    }

    /// Reports the number of messages sent so far.
    pub(crate) fn sent(&self, sent: usize) {
        self.sent.store(sent, Ordering::Relaxed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.done.take());
        if let Some(thread) = self.thread.take() {
            // Progress is over, and a panic of its thread is of no interest.
            let _ = thread.join();
        }
    }
}
