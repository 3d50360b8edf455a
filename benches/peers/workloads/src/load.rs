//! Provides the parts shared by the implementations: the work in a message, targets and random
//! choices, right answers, and the channel by which an actor reports the end to the main thread.

use std::{
    hint::black_box,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use crate::{Run, Size};

/// Iterations of [`work`] that take about 205 ns, 500 ns, 1 us and 20 us on the machine of the
/// published table. Each run that compares with an ideal calibrates their time on its machine.
pub const WORK_205_NS: u32 = 127;
pub const WORK_500_NS: u32 = 316;
pub const WORK_1_US: u32 = 632;
pub const WORK_20_US: u32 = 12_640;

/// Number of actors that fjcreate spawns, and of messages that a producer of skew sends, in one
/// message.
pub const FJCREATE_STEP: u64 = 1_000;
pub const SKEW_STEP: usize = 1_000;
pub const SKEW_PRODUCERS: u64 = 4;

/// Capacity of the mailboxes in the bounded workloads.
pub const CAPACITY: usize = 1_024;

/// Performs CPU work that no compiler can shorten.
#[inline(never)]
pub fn work(iterations: u32) -> u64 {
    let mut x = black_box(0x9E37_79B9_7F4A_7C15_u64);
    for _ in 0..iterations {
        x = xorshift(x);
    }
    black_box(x)
}

fn xorshift(mut x: u64) -> u64 {
    x ^= x << 13;
    x ^= x >> 7;
    x ^ (x << 17)
}

/// A small random generator, good enough to pick neighbours.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(xorshift(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15)))
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = xorshift(self.0);
        (((self.0 >> 32) * n) >> 32).min(n - 1)
    }

    /// Returns any number of `0..n` except `me`.
    pub fn other(&mut self, n: u64, me: u64) -> u64 {
        (me + 1 + self.below(n - 1)) % n
    }

    fn unit(&mut self) -> f64 {
        self.0 = xorshift(self.0);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

pub fn sum_below(n: u64) -> u64 {
    n * n.saturating_sub(1) / 2
}

pub fn fib(n: u64) -> u64 {
    (0..n).fold((0, 1), |(a, b), _| (b, a + b)).0
}

/// The targets of the four producers of skew, drawn before the clock starts by Zipf's law with
/// exponent 1.
pub struct Skew {
    pub targets: Vec<Vec<u32>>,
    /// Number of messages that each actor will get. Actors without messages need not exist.
    pub expect: Vec<u64>,
}

pub fn skew(size: Size) -> Skew {
    let actors = size.actors as usize;
    let mut total = 0.0;
    let cumulative: Vec<f64> = (1..=actors)
        .map(|rank| {
            total += 1.0 / rank as f64;
            total
        })
        .collect();
    let mut expect = vec![0; actors];
    let targets = (0..SKEW_PRODUCERS)
        .map(|producer| {
            let mut dice = Dice::new(producer);
            (0..skew_share(size, producer))
                .map(|_| {
                    let drawn = dice.unit() * total;
                    let rank = cumulative.partition_point(|&c| c < drawn).min(actors - 1);
                    // Spreads the popular targets over the ids, so that no placement by id puts
                    // them together.
                    let target = rank * 7_919 % actors;
                    expect[target] += 1;
                    target as u32
                })
                .collect()
        })
        .collect();
    Skew { targets, expect }
}

fn skew_share(size: Size, producer: u64) -> u64 {
    size.messages / SKEW_PRODUCERS + u64::from(producer < size.messages % SKEW_PRODUCERS)
}

/// Returns the expected sum. Each actor adds its own number once for each message, so the sum shows
/// that every message reached its target.
pub fn skew_answer(size: Size) -> u64 {
    skew(size).targets.iter().flatten().map(|&t| u64::from(t)).sum()
}

/// Held by the actor that knows the answer.
#[derive(Clone, Debug)]
pub struct Done<T = u64>(mpsc::Sender<T>);

/// The main thread's end of the answer.
#[derive(Debug)]
pub struct Answer<T = u64>(mpsc::Receiver<T>);

pub fn answer<T>() -> (Done<T>, Answer<T>) {
    let (send, receive) = mpsc::channel();
    (Done(send), Answer(receive))
}

impl<T> Done<T> {
    pub fn send(&self, value: T) {
        self.0.send(value).ok();
    }
}

impl<T> Answer<T> {
    pub fn wait(&self) -> T {
        self.0.recv().expect("the actors ended without an answer")
    }
}

/// Number of messages handled in the idle workloads.
pub static HANDLED: AtomicU64 = AtomicU64::new(0);

pub fn wait_handled(n: u64) {
    while HANDLED.load(Ordering::Relaxed) < n {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Ends the hot actors of timeslice.
pub static HOT: AtomicBool = AtomicBool::new(false);

/// Drives timeslice from outside, with one message a millisecond to the cold actor.
pub fn every_ms(samples: u64, mut send: impl FnMut(Instant)) {
    std::thread::sleep(Duration::from_millis(20));
    for _ in 0..samples {
        std::thread::sleep(Duration::from_millis(1));
        send(Instant::now());
    }
}

/// The threads that have begun a message of the current burst.
pub struct Burst {
    round: AtomicU64,
    begun: AtomicU64,
    left: AtomicU64,
    started: std::sync::OnceLock<Instant>,
    all_busy_ns: AtomicU64,
    workers: AtomicU64,
}

thread_local! {
    static SEEN: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

pub static BURST: Burst = Burst {
    round: AtomicU64::new(0),
    begun: AtomicU64::new(0),
    left: AtomicU64::new(0),
    started: std::sync::OnceLock::new(),
    all_busy_ns: AtomicU64::new(0),
    workers: AtomicU64::new(0),
};

impl Burst {
    fn now(&self) -> u64 {
        self.started.get_or_init(Instant::now).elapsed().as_nanos() as u64
    }

    /// Handles a message of a burst: notes the thread, then works.
    pub fn handle(&self) {
        let round = self.round.load(Ordering::Relaxed);
        if SEEN.with(|seen| seen.replace(round)) != round
            && self.begun.fetch_add(1, Ordering::Relaxed) + 1 == self.workers.load(Ordering::Relaxed)
        {
            self.all_busy_ns.store(self.now(), Ordering::Relaxed);
        }
        work(WORK_20_US);
        self.left.fetch_sub(1, Ordering::Release);
    }

    /// Runs the whole workload, with `start` to begin one burst. Returns the number of completed
    /// bursts.
    pub fn drive(&self, size: Size, run: &mut Run, mut start: impl FnMut()) -> u64 {
        self.workers.store(run.workers as u64, Ordering::Relaxed);
        run.start();
        for round in 1..=size.messages {
            std::thread::sleep(Duration::from_millis(10));
            self.begun.store(0, Ordering::Relaxed);
            self.all_busy_ns.store(0, Ordering::Relaxed);
            self.left.store(size.actors, Ordering::Relaxed);
            self.round.store(round, Ordering::Relaxed);
            let begin = self.now();
            start();
            while self.left.load(Ordering::Acquire) > 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            // If some worker began no message, the whole burst counts as the time.
            let busy = match self.all_busy_ns.load(Ordering::Relaxed) {
                0 => self.now(),
                at => at,
            };
            run.samples.push(busy - begin);
        }
        run.stop();
        size.messages
    }
}
