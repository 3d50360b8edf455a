//! Measures the benefit and cost of a pool's strategies: `cargo bench --bench pool`.
//!
//! In the first table, the connections of eight replicas answer in 100 us, except that one takes 5
//! ms. Requests come at a steady pace, whether or not earlier ones are answered. Each row shows the
//! times from when requests were due, with strategies that look at the replicas and strategies that
//! do not. The replicas block, as if waiting for a disk, on a crew of two.
//!
//! The second table shows the sender's cost of a `tell`, through a pool and without one, to
//! replicas that are already scheduled.
//!
//! Each run checks that every message was handled once.

#![allow(clippy::print_stdout, reason = "the tables")]

use heist::strategy::{
    ByKey, LeastLoaded, Random, RoundRobin, Route, SharedQueue, Strategy, ToIndex, TwoChoices,
};
use heist::{Actor, ActorRef, Context, Executor, Handler, Pool};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const REPLICAS: usize = 8;

/// Answers after a while, and records the time of each request.
struct Connection {
    takes: Duration,
    took: Arc<Mutex<Vec<Duration>>>,
}

impl Actor for Connection {}

struct Request(Instant);

impl Handler<Request> for Connection {
    type Reply = ();
    fn handle(&mut self, Request(due): Request, _: &mut Context<Self>) {
        heist::blocking(|| std::thread::sleep(self.takes));
        self.took.lock().expect("not poisoned").push(due.elapsed());
    }
}

fn latencies(strategy: impl Strategy, requests: u32, pace: Duration) -> Vec<Duration> {
    let executor = Executor::builder().workers(2).build().expect("a valid crew");
    let took: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let theirs = Arc::clone(&took);
    let factory = move |index| {
        let takes = if index == 0 { Duration::from_millis(5) } else { Duration::from_micros(100) };
        Connection { takes, took: Arc::clone(&theirs) }
    };
    let pool = executor.pool(REPLICAS, factory).capacity(1 << 20).queue_capacity(1 << 20);
    let pool = pool.build().expect("a valid pool");
    let start = Instant::now();
    for n in 0..requests {
        let due = start + n * pace;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        pool.tell(&strategy, Request(due)).expect("room");
    }
    executor.wait_idle().expect("called from outside");
    let mut took = std::mem::take(&mut *took.lock().expect("not poisoned"));
    assert_eq!(took.len(), requests as usize, "each was handled once");
    took.sort_unstable();
    took
}

fn one_slow_replica(requests: u32) {
    println!("{requests} requests, one each 250 us, to {REPLICAS} replicas, one of them slow; ms");
    println!("{:<16} {:>9} {:>9} {:>9}", "strategy", "p50", "p99", "worst");
    let rows = [
        ("round-robin", Route::RoundRobin),
        ("random", Route::Random),
        ("two choices", Route::TwoChoices),
        ("least loaded", Route::LeastLoaded),
        ("shared queue", Route::SharedQueue),
    ];
    for (name, route) in rows {
        let took = latencies(route, requests, Duration::from_micros(250));
        let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
        println!("{name:<16} {:>9.2} {:>9.2} {:>9.2}", at(0.5), at(0.99), at(1.0));
    }
}

/// Counts messages.
struct Sink(u64);

impl Actor for Sink {}

impl Handler<u64> for Sink {
    type Reply = ();
    fn handle(&mut self, n: u64, _: &mut Context<Self>) {
        self.0 += n;
    }
}

#[derive(Clone)]
struct Sum;

impl Handler<Sum> for Sink {
    type Reply = u64;
    fn handle(&mut self, _: Sum, _: &mut Context<Self>) -> u64 {
        self.0
    }
}

/// Sends inside one turn, so that the only worker handles no message meanwhile.
struct Sender;

impl Actor for Sender {}

struct Send<F>(F);

impl<F: FnOnce() -> Duration + std::marker::Send + 'static> Handler<Send<F>> for Sender {
    type Reply = Duration;
    fn handle(&mut self, Send(f): Send<F>, _: &mut Context<Self>) -> Duration {
        f()
    }
}

fn price(
    tells: u64,
    replicas: usize,
    tell: impl Fn(&Pool<Sink>, &ActorRef<Sink>, u64) + Clone + std::marker::Send + 'static,
) -> f64 {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let executor = Executor::builder().workers(1).build().expect("a valid crew");
        let pool = executor.pool(replicas, |_| Sink(0)).capacity(1 << 24).queue_capacity(1 << 24);
        let pool = pool.build().expect("a valid pool");
        let alone = executor.build(Sink(0)).capacity(1 << 24).spawn();
        let sender = executor.spawn(Sender);
        let (to, other, tell) = (pool.clone(), alone.clone(), tell.clone());
        let round = Send(move || {
            let start = Instant::now();
            (0..tells).for_each(|_| tell(&to, &other, 1));
            start.elapsed()
        });
        best = best.min(sender.ask(round).expect("room").wait().expect("an answer"));
        executor.wait_idle().expect("called from outside");
        let pooled: u64 =
            pool.broadcast(Sum).wait().into_iter().map(|sum| sum.expect("an answer")).sum();
        let sum = pooled + alone.ask(Sum).expect("room").wait().expect("an answer");
        assert_eq!(sum, tells, "each was handled once");
    }
    best.as_nanos() as f64 / tells as f64
}

fn prices(tells: u64) {
    println!("\nns for a tell inside a turn (least of 5 times {tells})");
    println!("{:<16} {:>9} {:>9}", "", "8", "64 replicas");
    macro_rules! row {
        ($name:literal, $tell:expr) => {
            println!(
                "{:<16} {:>9.1} {:>9.1}",
                $name,
                price(tells, 8, $tell),
                price(tells, 64, $tell)
            );
        };
    }
    row!("an actor", |_, actor, n| actor.tell(n).expect("room"));
    row!("by index", |pool, _, n| pool.tell(ToIndex(3), n).expect("room"));
    row!("round-robin", |pool, _, n| pool.tell(RoundRobin, n).expect("room"));
    row!("random", |pool, _, n| pool.tell(Random, n).expect("room"));
    row!("two choices", |pool, _, n| pool.tell(TwoChoices, n).expect("room"));
    row!("least loaded", |pool, _, n| pool.tell(LeastLoaded, n).expect("room"));
    row!("by key", |pool, _, n| pool.tell(ByKey(n), n).expect("room"));
    row!("shared queue", |pool, _, n| pool.tell(SharedQueue, n).expect("room"));
}

fn main() {
    let smoke = std::env::args().any(|argument| argument == "--test");
    one_slow_replica(if smoke { 20 } else { 4_000 });
    prices(if smoke { 100 } else { 100_000 });
}
