//! Measures CPU time, and spends a given amount of it.

use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Returns the CPU time of all threads of this process, or `None` if the system does not report it
/// (Linux does).
///
/// The scheduler's figures for each thread are in nanoseconds, while `/proc/self/stat` counts in
/// ticks of 10 ms. Threads that have ended are missing, so both measurements must be taken while
/// the same threads live.
pub(crate) fn cpu_time() -> Option<Duration> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir("/proc/self/task").ok()? {
        // A thread may end between being listed and being read.
        let Ok(text) = fs::read_to_string(thread.ok()?.path().join("schedstat")) else { continue };
        nanoseconds += text.split_ascii_whitespace().next()?.parse::<u64>().ok()?;
    }
    (nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds))
}

/// An amount of CPU time to spend by computing. The amount is counted in rounds of a loop instead
/// of read from a clock, so that a thread which the system has preempted does not get away with
/// less work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    rounds: u64,
}

/// The speed of this machine, which converts microseconds into a [`Cost`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    rounds_per_microsecond: f64,
}

impl Pace {
    /// Measures the speed, which takes about 20 ms.
    pub(crate) fn calibrated() -> Self {
        const ROUNDS: u64 = 1_000_000;
        let sample = |_| {
            let began = Instant::now();
            Cost { rounds: ROUNDS }.spend();
            began.elapsed()
        };
        // The fastest of several samples was not interrupted.
        let quickest = (0..20).map(sample).min().unwrap_or_default().max(Duration::from_nanos(1));
        Self { rounds_per_microsecond: ROUNDS as f64 / (quickest.as_secs_f64() * 1e6) }
    }

    pub(crate) fn cost(self, microseconds: f64) -> Cost {
        Cost { rounds: (microseconds * self.rounds_per_microsecond).round() as u64 }
    }
}

impl Cost {
    /// Returns the cost of the given microseconds on this machine.
    pub(crate) fn calibrated(microseconds: f64) -> Self {
        if microseconds == 0.0 { Self::default() } else { Pace::calibrated().cost(microseconds) }
    }

    pub(crate) fn spend(self) {
        let mut x = 1_u64;
        for _ in 0..self.rounds {
            x = black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}

/// Returns the number of processors that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
