//! Measures the lateness and cost of timers: `cargo bench --bench timers`.
//!
//! | bench | measures |
//! |---|---|
//! | lateness | from a timer's due instant to its handling: p50, p99 and the worst, in a table |
//! | arm-cancel | arming and cancelling a timer, among as many others as it says |
//! | arm-fire | a timer that is due at once, to its handling |
//!
//! Lateness is reported without a verdict, because the kernel and the machine contribute as much as
//! the crew. Each row has the same timers, one after another and several at a time. The crew
//! sleeps, has one worker in long turns, or has more work than all workers can do.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::print_stdout, reason = "the table")]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use heist::{Actor, ActorRef, Context, Executor, Handler};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const CREWS: [usize; 2] = [1, 2];

/// Records how late each timer was.
struct Target(Arc<Mutex<Vec<Duration>>>);

impl Actor for Target {}

struct Due(Instant);
impl Handler<Due> for Target {
    type Reply = ();
    fn handle(&mut self, Due(at): Due, _: &mut Context<Self>) {
        let now = Instant::now();
        assert!(now >= at, "a timer is early");
        self.0.lock().expect("not poisoned").push(now - at);
    }
}

/// Works for a while, again and again.
struct Busy {
    turn: Duration,
    over: Arc<AtomicBool>,
}

impl Actor for Busy {}

struct Work;
impl Handler<Work> for Busy {
    type Reply = ();
    fn handle(&mut self, work: Work, ctx: &mut Context<Self>) {
        let start = Instant::now();
        while start.elapsed() < self.turn {
            std::hint::spin_loop();
        }
        if !self.over.load(Relaxed) {
            ctx.tell_self(work).expect("the one before is over");
        }
    }
}

fn crew(workers: usize) -> Executor {
    Executor::builder().workers(workers).build().expect("a valid crew")
}

/// The crew's work beside the timers.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    actors_per_worker_short: usize,
    long: usize,
    turn: Duration,
}

const SHORT: Duration = Duration::from_micros(20);
const LOADS: [Load; 3] = [
    Load { name: "asleep", actors_per_worker_short: 0, long: 0, turn: SHORT },
    Load {
        name: "one in turns of 50 ms",
        actors_per_worker_short: 0,
        long: 1,
        turn: Duration::from_millis(50),
    },
    Load { name: "all in turns of 20 us", actors_per_worker_short: 20, long: 0, turn: SHORT },
];

/// Arms timers at pseudo-random times within the next milliseconds, `together` at a time. Returns
/// their lateness.
fn late(executor: &Executor, timers: usize, together: usize) -> Vec<Duration> {
    let seen = Arc::new(Mutex::new(Vec::with_capacity(timers)));
    let target = executor.spawn(Target(Arc::clone(&seen)));
    let mut random = 1u64;
    for round in 0..timers / together {
        for _ in 0..together {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = Instant::now() + Duration::from_micros(500 + (random >> 33) % 3000);
            target.tell_at(at, Due(at)).expect("a running actor").detach();
        }
        while seen.lock().expect("not poisoned").len() < (round + 1) * together {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    drop(target);
    let mut seen = std::mem::take(&mut *seen.lock().expect("not poisoned"));
    seen.sort();
    seen
}

fn lateness(c: &mut Criterion) {
    let _ = c;
    let timers = if std::env::args().any(|argument| argument == "--test") { 20 } else { 1000 };
    println!(
        "{:<24} {:>8} {:>9} {:>10} {:>10} {:>10}",
        "lateness", "workers", "together", "p50", "p99", "worst"
    );
    for load in LOADS {
        for workers in CREWS {
            if load.long >= workers {
                continue; // no worker is free
            }
            let (executor, over) = (crew(workers), Arc::new(AtomicBool::new(false)));
            let busy: Vec<ActorRef<Busy>> = (0..load.long + workers * load.actors_per_worker_short)
                .map(|_| executor.spawn(Busy { turn: load.turn, over: Arc::clone(&over) }))
                .collect();
            busy.iter().for_each(|busy| busy.tell(Work).expect("a running actor"));
            for together in [1, 10] {
                let seen = late(&executor, timers, together);
                let at = |part: f64| seen[((seen.len() - 1) as f64 * part) as usize];
                let (p50, p99, worst) = (at(0.5), at(0.99), at(1.0));
                println!(
                    "{:<24} {workers:>8} {together:>9} {p50:>10.1?} {p99:>10.1?} {worst:>10.1?}",
                    load.name
                );
            }
            over.store(true, Relaxed);
        }
    }
}

fn costs(c: &mut Criterion) {
    let mut group = c.benchmark_group("timers");
    group
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2));
    let far = Duration::from_secs(3600);
    let executor = crew(1);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let target = executor.spawn(Target(Arc::clone(&seen)));
    for others in [0, 100_000] {
        let armed: Vec<_> = (0..others)
            .map(|n| {
                target
                    .tell_after(far + Duration::from_micros(n), Due(Instant::now()))
                    .expect("running")
            })
            .collect();
        group.bench_function(BenchmarkId::new("arm-cancel", others), |b| {
            b.iter(|| {
                assert!(target.tell_after(far, Due(Instant::now())).expect("running").cancel())
            });
        });
        drop(armed);
    }
    group.bench_function("arm-fire", |b| {
        b.iter(|| {
            for _ in 0..100 {
                let now = Instant::now();
                target.tell_at(now, Due(now)).expect("running").detach();
            }
            executor.wait_idle().expect("outside");
            while executor.stats().armed_timers > 0 {
                std::thread::yield_now();
            }
            executor.wait_idle().expect("outside");
            assert_eq!(std::mem::take(&mut *seen.lock().expect("not poisoned")).len(), 100);
        });
    });
    group.finish();
}

criterion_group!(benches, lateness, costs);
criterion_main!(benches);
