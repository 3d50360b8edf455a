//! The machine: how much CPU time was used, and how to use a given amount of it.

use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// CPU time of all threads of this process, or `None` where the system does not tell (it does on Linux).
///
/// The scheduler's own figures per thread are in nanoseconds, where `/proc/self/stat` counts in ticks of 10 ms.
/// Threads that have ended are missing, so measure while the same threads live.
pub(crate) fn cpu_time() -> Option<Duration> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir("/proc/self/task").ok()? {
        // A thread may end between being listed and being asked.
        let Ok(text) = fs::read_to_string(thread.ok()?.path().join("schedstat")) else { continue };
        nanoseconds += text.split_ascii_whitespace().next()?.parse::<u64>().ok()?;
    }
    (nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds))
}

/// An amount of CPU time to be spent by computing. It is counted in rounds of a loop and not read from a clock, so
/// that a thread which the system has put aside for a while does not get away with less work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    rounds: u64,
}

/// How fast this machine is: what turns microseconds into a [`Cost`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    rounds_per_microsecond: f64,
}

impl Pace {
    /// Measures it, which takes some 20 ms.
    pub(crate) fn calibrated() -> Self {
        const ROUNDS: u64 = 1_000_000;
        let sample = |_| {
            let began = Instant::now();
            Cost { rounds: ROUNDS }.spend();
            began.elapsed()
        };
        // The quickest of some is the one that nothing came between.
        let quickest = (0..20).map(sample).min().unwrap_or_default().max(Duration::from_nanos(1));
        Self { rounds_per_microsecond: ROUNDS as f64 / (quickest.as_secs_f64() * 1e6) }
    }

    pub(crate) fn cost(self, microseconds: f64) -> Cost {
        Cost { rounds: (microseconds * self.rounds_per_microsecond).round() as u64 }
    }
}

impl Cost {
    /// That many microseconds on this machine.
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

/// How many processors this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
