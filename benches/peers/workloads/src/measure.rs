//! Measures one run: wall and CPU time between start and stop, samples, memory, and the calibrated
//! ideal.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::load::work;

#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Instant,
    cpu_ns: u64,
}

/// Passed to the implementation of a workload, which calls `start` when its actors are ready and
/// `stop` when it has the answer.
#[derive(Debug)]
pub struct Run {
    pub workers: usize,
    /// Single times in ns, where the workload's figures are percentiles.
    pub samples: Vec<u64>,
    /// The workload's own measurement (bytes or CPU time), where the figure is not wall time.
    pub measured: Option<f64>,
    started: Option<Mark>,
    stopped: Option<Mark>,
}

impl Run {
    pub fn new(workers: usize) -> Run {
        Run { workers, samples: Vec::new(), measured: None, started: None, stopped: None }
    }

    pub fn start(&mut self) {
        self.started = Some(mark());
    }

    pub fn stop(&mut self) {
        self.stopped = Some(mark());
    }

    pub fn wall_ns(&self) -> u64 {
        let (from, to) = self.marks();
        (to.at - from.at).as_nanos() as u64
    }

    pub fn cpu_ns(&self) -> u64 {
        let (from, to) = self.marks();
        to.cpu_ns - from.cpu_ns
    }

    fn marks(&self) -> (Mark, Mark) {
        (
            self.started.expect("a workload starts its clock"),
            self.stopped.expect("a workload stops its clock"),
        )
    }

    /// Returns the value in ns that `share` of the samples do not exceed.
    pub fn percentile(&mut self, share: f64) -> u64 {
        self.samples.sort_unstable();
        let at = (self.samples.len() as f64 * share) as usize;
        self.samples.get(at.min(self.samples.len().saturating_sub(1))).copied().unwrap_or(0)
    }

    /// Runs the whole of an idle workload: measures the resident memory that `spawn` adds. `spawn`
    /// must return everything that keeps the actors alive.
    pub fn memory<T>(&mut self, actors: u64, spawn: impl FnOnce() -> T) -> T {
        let before = resident_bytes();
        self.start();
        let kept = spawn();
        crate::wait_handled(actors);
        self.stop();
        std::thread::sleep(Duration::from_millis(50));
        self.measured = Some(resident_bytes().saturating_sub(before) as f64 / actors as f64);
        kept
    }

    /// Measures the idle second of idlecpu, in us of CPU time a second.
    pub fn idle(&mut self, ms: u64) {
        std::thread::sleep(Duration::from_millis(100));
        self.start();
        std::thread::sleep(Duration::from_millis(ms));
        self.stop();
        self.measured = Some(self.cpu_ns() as f64 / 1e3 / (self.wall_ns() as f64 / 1e9));
    }
}

fn mark() -> Mark {
    Mark { at: Instant::now(), cpu_ns: cpu_ns() }
}

fn cpu_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer refers to a live timespec, and Linux and macOS have this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn status_kb(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(field));
    line.and_then(|l| l.split_whitespace().nth(1)).and_then(|n| n.parse().ok()).unwrap_or(0)
}

pub fn resident_bytes() -> u64 {
    status_kb("VmRSS") * 1_024
}

pub fn peak_kb() -> u64 {
    status_kb("VmHWM")
}

/// Returns the time in ns of one call of `work(iterations)` while one thread for each worker (at
/// most one for each core) does the same, and the number of these threads. The best of a few rounds
/// counts, because in some rounds the system keeps the threads on one core for a while.
pub fn calibrate(iterations: u32, workers: usize) -> (f64, usize) {
    const ROUNDS: usize = 4;
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads = workers.min(cores).max(1);
    let best = (0..ROUNDS).map(|_| calls_per_ns(iterations, threads)).fold(0.0, f64::max);
    (threads as f64 / best, threads)
}

/// Returns the calls a ns of all threads together.
fn calls_per_ns(iterations: u32, threads: usize) -> f64 {
    let each = Duration::from_millis(20);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let begin = Instant::now();
                    let mut calls = 0u64;
                    while begin.elapsed() < each {
                        for _ in 0..64 {
                            work(iterations);
                        }
                        calls += 64;
                    }
                    calls as f64 / begin.elapsed().as_nanos() as f64
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().expect("calibration does not panic")).sum()
    })
}

/// Asks from a thread for each way, one blocking ask after another. Returns the sums of the answers
/// and the times of the asks in ns.
pub fn ask_from_threads(
    asks: Vec<impl FnMut(u64) -> u64 + Send + 'static>,
    each: u64,
) -> Vec<(u64, Vec<u64>)> {
    let threads: Vec<_> = asks
        .into_iter()
        .map(|mut ask| {
            std::thread::spawn(move || {
                let mut samples = Vec::with_capacity(each as usize);
                let mut sum = 0;
                for n in 0..each {
                    let begin = Instant::now();
                    sum += ask(n);
                    samples.push(begin.elapsed().as_nanos() as u64);
                }
                (sum, samples)
            })
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().expect("an asker does not panic")).collect()
}
