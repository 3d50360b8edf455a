//! Tests P4 with a figure: runnable work that other workers may take waits at most 10 ms while a
//! worker is parked.
//!
//! The scenarios are random. Some workers are stuck in long turns with work behind them, in LIFO
//! slots and in small and larger local queues. Some workers block or leave their slots to spares,
//! some actors are pinned, and some messages come from outside or from timers. At least one worker
//! has nothing to do all the time. Each piece of work records how long it waited.
//!
//! The machine has delays of its own. A thread that sleeps for 1 ms again and again measures them.
//! The test allows the work several times that lateness, because a rescue needs up to three
//! wake-ups. A scenario that exceeds the bound is run again with turns that are stuck twice as
//! long, so that work which waits for them stands out. The test fails only if a scenario exceeds
//! the bound every time.

mod common;

use common::*;
use heist::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use std::thread;
use std::time::{Duration, Instant};

const BOUND: Duration = Duration::from_millis(10);
/// Scheduling delays that one rescue may meet: of the sentinel, of the worker that the sentinel
/// wakes, and of the job's own thread.
const DELAYS: u32 = 3;
/// How long turns are stuck at first: many times the bound.
const STUCK: Duration = Duration::from_millis(80);
const SCENARIOS: u64 = 48;
const TRIES: u32 = 5;

/// Measures how late the machine wakes a thread that sleeps for 1 ms.
struct Lateness {
    over: Arc<AtomicBool>,
    thread: thread::JoinHandle<Duration>,
}

impl Lateness {
    fn begin() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        let thread = thread::spawn(move || {
            let (nap, mut worst) = (Duration::from_millis(1), Duration::ZERO);
            while !ends.load(Relaxed) {
                let began = Instant::now();
                thread::sleep(nap);
                worst = worst.max(began.elapsed().saturating_sub(nap));
            }
            worst
        });
        Lateness { over, thread }
    }
    fn end(self) -> Duration {
        self.over.store(true, Relaxed);
        self.thread.join().unwrap()
    }
}

/// The longest wait of all jobs, and the number of jobs still to come.
#[derive(Default)]
struct Waits {
    worst_ns: AtomicU64,
    open: AtomicUsize,
}

/// Makes a short piece of work that records its own wait, for an actor without other work.
fn job(
    waits: &Arc<Waits>,
    length: Duration,
) -> Run<impl FnOnce(&mut Puppet, &mut Context<Puppet>) + Send + use<>> {
    waits.open.fetch_add(1, Relaxed);
    let (waits, sent) = (Arc::clone(waits), Instant::now());
    Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
        waits.worst_ns.fetch_max(sent.elapsed().as_nanos() as u64, Relaxed);
        let until = Instant::now() + length;
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        waits.open.fetch_sub(1, Release);
    })
}

#[derive(Debug)]
struct Scenario {
    workers: usize,
    /// For each stuck worker: the number of jobs behind its turn, and when the turn sends them.
    stuck: Vec<(usize, Duration)>,
    /// Workers that block in their turn after a while and give up their slot.
    blocking: Vec<Duration>,
    spares: usize,
    outside: usize,
    timers: usize,
    pinned: bool,
    /// The length of earlier turns, which makes the estimates wrong.
    before: Duration,
    length: Duration,
}

fn scenario(seed: u64) -> Scenario {
    let dice = Dice::new(seed);
    let millis = |n: u64| Duration::from_micros(dice.below(n * 1000));
    let workers = 2 + dice.below(5) as usize;
    let stuck = 1 + dice.below(workers as u64 - 1) as usize;
    let blocks = dice.below((workers - stuck) as u64) as usize;
    let jobs = || [1, 1, 2, 3, 8, 40, 200][dice.below(7) as usize];
    Scenario {
        workers,
        stuck: (0..stuck).map(|_| (jobs(), millis(12))).collect(),
        blocking: (0..blocks).map(|_| millis(12)).collect(),
        spares: [0, 1, 8][dice.below(3) as usize],
        outside: dice.below(6) as usize,
        timers: dice.below(6) as usize,
        pinned: dice.below(3) == 0,
        before: [Duration::ZERO, Duration::from_micros(300), Duration::from_millis(3)]
            [dice.below(3) as usize],
        length: Duration::from_micros([0, 0, 5][dice.below(3) as usize]),
    }
}

/// Returns the longest wait, and the machine's own delay during the scenario.
fn play(scenario: &Scenario, stuck: Duration) -> (Duration, Duration) {
    let builder = Executor::builder().workers(scenario.workers).max_spares(scenario.spares);
    let executor = build(builder.unbounded());
    let waits = Arc::new(Waits::default());
    let puppet = || executor.spawn(Puppet::default());
    let most = scenario.stuck.iter().map(|(jobs, _)| jobs).sum::<usize>()
        + scenario.outside
        + scenario.timers;
    let targets: Vec<_> = (0..most).map(|_| puppet()).collect();
    let mut targets = targets.iter();
    // Lets all workers learn how long turns take.
    for _ in 0..4 * scenario.workers {
        let before = scenario.before;
        puppet()
            .tell(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| thread::sleep(before)))
            .unwrap();
    }
    settle(&executor);
    let lateness = Lateness::begin();
    let release = Latch::new();
    let mut keepers = Vec::new();
    for &(jobs, after) in &scenario.stuck {
        let (behind, waits, length) =
            (targets.by_ref().take(jobs).cloned(), Arc::clone(&waits), scenario.length);
        let (behind, until, keeper) = (behind.collect::<Vec<_>>(), release.clone(), puppet());
        let run = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
            thread::sleep(after);
            behind.iter().for_each(|target| target.tell(job(&waits, length)).unwrap());
            until.wait(); // not in `blocking`: the worker is stuck
        });
        keeper.tell(run).unwrap();
        keepers.push(keeper);
    }
    for &after in &scenario.blocking {
        let (until, keeper) = (release.clone(), puppet());
        let run = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
            thread::sleep(after);
            blocking(|| until.wait());
        });
        keeper.tell(run).unwrap();
        keepers.push(keeper);
    }
    let pinned: Vec<_> = (0..scenario.workers)
        .filter(|_| scenario.pinned)
        .map(|k| executor.build(Puppet::default()).on_worker(k).spawn())
        .collect();
    pinned.iter().for_each(|actor| actor.tell(Note(1)).unwrap());
    for (n, target) in targets.enumerate() {
        if n < scenario.outside {
            thread::sleep(Duration::from_millis(2));
            target.tell(job(&waits, scenario.length)).unwrap();
        } else {
            // Not runnable until due, so the timer's message measures from its due instant.
            let (waits, delay) = (Arc::clone(&waits), Duration::from_millis(2 * n as u64));
            waits.open.fetch_add(1, Relaxed);
            let due = Instant::now() + delay;
            let run = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
                waits.worst_ns.fetch_max(due.elapsed().as_nanos() as u64, Relaxed);
                waits.open.fetch_sub(1, Release);
            });
            target.tell_after(delay, run).unwrap().detach();
        }
    }
    thread::sleep(stuck);
    let left = waits.open.load(Acquire);
    release.open();
    let late = lateness.end();
    settle(&executor);
    within(LONG, "all jobs are done", || waits.open.load(Acquire) == 0);
    shut_down(&executor);
    let worst = Duration::from_nanos(waits.worst_ns.load(Relaxed));
    // Jobs that were still to come when the stuck turns ended have waited that long.
    (if left > 0 { worst.max(stuck) } else { worst }, late)
}

#[test]
fn p04_work_that_others_may_take_waits_ten_milliseconds_at_most() {
    let (mut worst, mut latest) = (Duration::ZERO, Duration::ZERO);
    for seed in 0..SCENARIOS {
        let scenario = scenario(seed);
        let mut tries = Vec::new();
        for doubled in 0..TRIES {
            let (waited, late) = play(&scenario, STUCK * (1 << doubled));
            (worst, latest) = (worst.max(waited), latest.max(late));
            tries.push((waited, late));
            if waited <= BOUND + DELAYS * late {
                break;
            }
            assert!(
                doubled + 1 < TRIES,
                "(waited, machine's delay) {tries:?} in scenario {seed}: {scenario:?}"
            );
        }
    }
    #[allow(clippy::print_stderr, reason = "what was measured, beside the bound")]
    {
        eprintln!("the longest wait {worst:?}, the machine's longest delay {latest:?}");
    }
}
