//! Measures the cost of messages: `cargo bench --bench messaging`. One element is one message, and
//! each bench checks its answer.
//!
//! | bench | measures |
//! |---|---|
//! | tell, tell-timed | from outside to one counter, untimed and timed, ending with a sum |
//! | tell-batch | the same to a counter that takes up to 64 at once |
//! | ask | from outside, one after another |
//! | ping-pong | two actors, one message |
//! | ring | 100 actors, 4 messages going round |
//! | fan-in | 16 actors tell one |
//! | fan-out | one actor tells 1,000, each of which tells a last one |
//! | spawn-message-stop | an actor's whole life |
//! | wakes | workers woken by one message to a sleeping crew, at most [`MOST_WAKES`] on average |

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::print_stdout, reason = "the wakes")]

use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use heist::{Actor, ActorRef, Batch, Context, Executor, Handler, Receive, Reply};
use std::time::Duration;

const CREWS: [usize; 2] = [1, 2];

/// Makes an unbounded crew: a flood measures the path of a message, not a sender's reaction to a
/// full mailbox.
fn crew(workers: usize) -> Executor {
    Executor::builder().workers(workers).unbounded().build().expect("a valid crew")
}

/// Counts to `until`, then answers.
#[derive(Default)]
struct Counter {
    count: u64,
    sum: u64,
    until: Option<(u64, Reply<u64>)>,
}

impl Counter {
    fn add(&mut self, n: u64) {
        self.count += 1;
        self.sum += n;
        self.look();
    }
    fn look(&mut self) {
        if let Some((until, reply)) = self.until.take() {
            if self.count < until {
                self.until = Some((until, reply));
            } else {
                reply.send(self.sum);
                (self.count, self.sum) = (0, 0);
            }
        }
    }
}

impl Actor for Counter {}

struct Add(u64);
impl Handler<Add> for Counter {
    type Reply = ();
    fn handle(&mut self, Add(n): Add, _: &mut Context<Self>) {
        self.add(n);
    }
}

/// A message for batches: a batch is added up first.
struct Together(u64);
impl Receive<Together> for Counter {
    type Reply = ();
    const BATCH: usize = 64;
    fn receive(&mut self, Together(n): Together, _: Reply<()>, _: &mut Context<Self>) {
        self.add(n);
    }
    fn receive_batch(&mut self, batch: Batch<'_, Together, ()>, _: &mut Context<Self>) {
        for (Together(n), _) in batch {
            self.count += 1;
            self.sum += n;
        }
        self.look();
    }
}

/// Asks for the sum of the next messages, this many.
struct SumOf(u64);
impl Receive<SumOf> for Counter {
    type Reply = u64;
    fn receive(&mut self, SumOf(until): SumOf, reply: Reply<u64>, _: &mut Context<Self>) {
        self.until = Some((until, reply));
        self.look();
    }
}

struct Double(u64);
impl Handler<Double> for Counter {
    type Reply = u64;
    fn handle(&mut self, Double(n): Double, _: &mut Context<Self>) -> u64 {
        2 * n
    }
}

/// Passes a message on until its hops are used up.
struct Link {
    next: Option<ActorRef<Link>>,
    end: ActorRef<Counter>,
}

impl Actor for Link {}

struct Pass(u64);
impl Handler<Pass> for Link {
    type Reply = ();
    fn handle(&mut self, Pass(left): Pass, _: &mut Context<Self>) {
        match &self.next {
            Some(next) if left > 1 => next.tell(Pass(left - 1)).expect("unbounded"),
            _ => self.end.tell(Add(1)).expect("unbounded"),
        }
    }
}

struct Join(ActorRef<Link>);
impl Handler<Join> for Link {
    type Reply = ();
    fn handle(&mut self, Join(next): Join, _: &mut Context<Self>) {
        self.next = Some(next);
    }
}

/// Tells the numbers from 1 to n to each target.
struct Flood(Vec<ActorRef<Counter>>, u64);
impl Handler<Flood> for Link {
    type Reply = ();
    fn handle(&mut self, Flood(targets, n): Flood, _: &mut Context<Self>) {
        for target in &targets {
            (1..=n).for_each(|i| target.tell(Add(i)).expect("unbounded"));
        }
    }
}

/// Passes each message on once.
struct Echo(ActorRef<Counter>);
impl Actor for Echo {}
impl Handler<Add> for Echo {
    type Reply = ();
    fn handle(&mut self, add: Add, _: &mut Context<Self>) {
        self.0.tell(add).expect("unbounded");
    }
}

struct FanOut(Vec<ActorRef<Echo>>);
impl Actor for FanOut {}
struct Go;
impl Handler<Go> for FanOut {
    type Reply = ();
    fn handle(&mut self, _: Go, _: &mut Context<Self>) {
        for (target, i) in self.0.iter().zip(1..) {
            target.tell(Add(i)).expect("unbounded");
        }
    }
}

fn ring(executor: &Executor, length: usize, end: &ActorRef<Counter>) -> Vec<ActorRef<Link>> {
    let links: Vec<_> =
        (0..length).map(|_| executor.spawn(Link { next: None, end: end.clone() })).collect();
    for (at, link) in links.iter().enumerate() {
        link.tell(Join(links[(at + 1) % length].clone())).expect("unbounded");
    }
    executor.wait_idle().expect("outside the crew");
    links
}

fn sum_to(n: u64) -> u64 {
    n * (n + 1) / 2
}

fn messaging(c: &mut Criterion) {
    for workers in CREWS {
        let executor = crew(workers);
        let counter = executor.spawn(Counter::default());
        let mut group = c.benchmark_group("messaging");
        group.sampling_mode(SamplingMode::Flat).sample_size(20);
        group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
        let id = |name: &str| BenchmarkId::new(name, format!("{workers} workers"));

        group.throughput(Throughput::Elements(10_000));
        let timed = executor.build(Counter::default()).timing(true).spawn();
        for (name, counter) in [("tell", &counter), ("tell-timed", &timed)] {
            group.bench_function(id(name), |b| {
                b.iter(|| {
                    let mut sum = counter.ask(SumOf(10_000)).expect("running");
                    (1..=10_000).for_each(|i| counter.tell(Add(i)).expect("unbounded"));
                    assert_eq!(sum.wait().expect("an answer"), sum_to(10_000));
                });
            });
        }

        group.bench_function(id("tell-batch"), |b| {
            b.iter(|| {
                let mut sum = counter.ask(SumOf(10_000)).expect("running");
                (1..=10_000).for_each(|i| counter.tell(Together(i)).expect("unbounded"));
                assert_eq!(sum.wait().expect("an answer"), sum_to(10_000));
            });
        });

        group.throughput(Throughput::Elements(1));
        group.bench_function(id("ask"), |b| {
            b.iter(|| {
                assert_eq!(counter.ask(Double(21)).expect("running").wait().expect("an answer"), 42)
            });
        });

        group.throughput(Throughput::Elements(10_000));
        let pair = ring(&executor, 2, &counter);
        group.bench_function(id("ping-pong"), |b| {
            b.iter(|| {
                let mut arrived = counter.ask(SumOf(1)).expect("running");
                pair[0].tell(Pass(10_000)).expect("unbounded");
                assert_eq!(arrived.wait().expect("an answer"), 1);
            });
        });

        group.throughput(Throughput::Elements(4 * 10_000));
        let hundred = ring(&executor, 100, &counter);
        group.bench_function(id("ring"), |b| {
            b.iter(|| {
                let mut arrived = counter.ask(SumOf(4)).expect("running");
                (0..4).for_each(|i| hundred[i * 25].tell(Pass(10_000)).expect("unbounded"));
                assert_eq!(arrived.wait().expect("an answer"), 4);
            });
        });

        group.throughput(Throughput::Elements(16 * 1_000));
        let sixteen: Vec<_> =
            (0..16).map(|_| executor.spawn(Link { next: None, end: counter.clone() })).collect();
        group.bench_function(id("fan-in"), |b| {
            b.iter(|| {
                let mut sum = counter.ask(SumOf(16 * 1_000)).expect("running");
                for link in &sixteen {
                    link.tell(Flood(vec![counter.clone()], 1_000)).expect("unbounded");
                }
                assert_eq!(sum.wait().expect("an answer"), 16 * sum_to(1_000));
            });
        });

        group.throughput(Throughput::Elements(2 * 1_000));
        let leaves = (0..1_000).map(|_| executor.spawn(Echo(counter.clone()))).collect();
        let root = executor.spawn(FanOut(leaves));
        group.bench_function(id("fan-out"), |b| {
            b.iter(|| {
                let mut sum = counter.ask(SumOf(1_000)).expect("running");
                root.tell(Go).expect("unbounded");
                assert_eq!(sum.wait().expect("an answer"), sum_to(1_000));
            });
        });

        group.throughput(Throughput::Elements(1_000));
        group.bench_function(id("spawn-message-stop"), |b| {
            b.iter(|| {
                let mut sum = counter.ask(SumOf(1_000)).expect("running");
                for i in 1..=1_000 {
                    // The message is handled before the actor ends for lack of references.
                    executor.spawn(Echo(counter.clone())).tell(Add(i)).expect("unbounded");
                }
                assert_eq!(sum.wait().expect("an answer"), sum_to(1_000));
            });
            executor.wait_idle().expect("outside the crew");
        });
        group.finish();
        for link in pair.iter().chain(&hundred) {
            link.stop(); // the links of a ring keep each other alive
        }
        drop(root);
        executor.wait_idle().expect("outside the crew");
    }
}

/// One message wakes one worker. A higher average is due to chance.
const MOST_WAKES: f64 = 1.5;

fn wakes(_: &mut Criterion) {
    const MESSAGES: u32 = 500;
    const TRIES: u32 = 20;
    for workers in [2, 8] {
        let executor = crew(workers);
        let counter = executor.spawn(Counter::default());
        let all = || executor.stats().workers.iter().map(|worker| worker.wakes).sum::<u64>();
        executor.wait_idle().expect("called from outside");
        // The best of some tries: on a busy machine a worker that loses its processor before it
        // parks makes the next message wake another one.
        let tries = (0..TRIES).map(|_| {
            let before = all();
            for n in 0..MESSAGES {
                counter.tell(Add(u64::from(n))).expect("a running actor");
                executor.wait_idle().expect("called from outside");
            }
            (all() - before) as f64 / f64::from(MESSAGES)
        });
        let each = tries.fold(f64::MAX, f64::min);
        println!("wakes/{workers} workers: {each:.2} for each message to a sleeping crew");
        assert!(each <= MOST_WAKES, "{each} workers woken for each message");
    }
}

criterion_group!(benches, messaging, wakes);
criterion_main!(benches);
