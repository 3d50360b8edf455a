//! How evenly the work lies on the workers, under each policy: `cargo bench --bench load_balance`.
//!
//! | load | |
//! |---|---|
//! | uniform | 1,000 actors, messages of 2 us in turn |
//! | zipf | 10,000 actors, drawn by Zipf's law (exponent 1.0), 2 us |
//! | bursts | 20 messages at once to each of a few actors, 2 us, and a pause between bursts |
//! | hot | one actor gets half of all messages, 999 share the rest, 2 us |
//! | bimodal | 99.5 % x 0.5 us, 0.5 % x 500 us |
//! | fork-join | a tree of actors, each spawns two, the leaves work 5 us, sums come back as answers |
//!
//! criterion measures the time of a whole load. Beside it a table says, for each case, from a run of its own: how
//! unevenly the workers were busy (the busiest against the mean, from `stats()`; 1.00 is even, the number of workers is
//! one doing all), and the delay from send to handling of a sample of messages. With more workers than processors, busy time
//! includes waiting for one. Every run checks its answer.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::print_stdout, reason = "the table")]

use criterion::{BenchmarkId, Criterion, SamplingMode, criterion_group, criterion_main};
use heist::{Actor, ActorRef, Context, Executor, Handler, Policy, Receive, Reply};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::hint::{black_box, spin_loop};
use std::time::{Duration, Instant};

const POLICIES: [Policy; 3] = [Policy::Stealing, Policy::Sharded, Policy::SharedQueue];
const CREWS: [usize; 4] = [1, 2, 4, 8];
const LOADS: [&str; 6] = ["uniform", "zipf", "bursts", "hot", "bimodal", "fork-join"];
/// One message in so many has its delay taken.
const SAMPLED: usize = 16;

fn work(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        spin_loop();
    }
}

/// An actor with some state, and a log of the delays it saw.
#[derive(Default)]
struct Shop {
    served: u64,
    delays: Vec<Duration>,
}

impl Actor for Shop {}

struct Serve {
    cost: Duration,
    sent: Option<Instant>,
}

impl Handler<Serve> for Shop {
    type Reply = ();
    fn handle(&mut self, Serve { cost, sent }: Serve, _: &mut Context<Self>) {
        self.delays.extend(sent.map(|sent| sent.elapsed()));
        work(cost);
        self.served += 1;
    }
}

struct TakeStock;
impl Handler<TakeStock> for Shop {
    type Reply = (u64, Vec<Duration>);
    fn handle(&mut self, _: TakeStock, _: &mut Context<Self>) -> Self::Reply {
        (std::mem::take(&mut self.served), std::mem::take(&mut self.delays))
    }
}

/// A node of the fork-join tree.
#[derive(Default)]
struct Fork {
    missing: u8,
    sum: u64,
    reply: Option<Reply<u64>>,
}

impl Actor for Fork {}

/// So many generations to go.
struct Grow(u32);
impl Receive<Grow> for Fork {
    type Reply = u64;
    fn receive(&mut self, Grow(left): Grow, reply: Reply<u64>, ctx: &mut Context<Self>) {
        if left == 0 {
            work(Duration::from_micros(5));
            return reply.send(1);
        }
        (self.missing, self.reply) = (2, Some(reply));
        for _ in 0..2 {
            let child = ctx.spawn(Fork::default());
            let joined =
                |me: &mut Fork, sum: Result<u64, heist::AskError>, _: &mut Context<Fork>| me.join(sum);
            ctx.ask_then(&child, Grow(left - 1), joined).expect("a fresh actor has room");
        }
    }
}

impl Fork {
    fn join(&mut self, sum: Result<u64, heist::AskError>) {
        self.sum += sum.expect("no child fails");
        self.missing -= 1;
        if self.missing == 0
            && let Some(reply) = self.reply.take()
        {
            reply.send(self.sum);
        }
    }
}

/// Which actor gets a message of which cost, in which order; the same in every run.
struct Plan {
    actors: usize,
    messages: Vec<(usize, Duration)>,
    /// The sender pauses after so many.
    burst: usize,
}

const TREE_DEPTH: u32 = 8;

/// `None` for the fork-join tree, which sends by itself.
fn plan(load: &str) -> Option<Plan> {
    let mut rng = SmallRng::seed_from_u64(2013);
    let short = Duration::from_micros(2);
    let even = |rng: &mut SmallRng, n: usize| (0..n).map(|_| (rng.random_range(0..1_000), short)).collect();
    let (actors, messages, burst): (usize, Vec<_>, usize) = match load {
        "uniform" => (1_000, even(&mut rng, 4_000), usize::MAX),
        "zipf" => {
            // The inverse of the distribution function, by search in its table.
            let sums: Vec<f64> = (1..=10_000)
                .scan(0.0, |sum, rank| {
                    *sum += 1.0 / f64::from(rank);
                    Some(*sum)
                })
                .collect();
            let draw = |rng: &mut SmallRng| {
                let at = rng.random_range(0.0..sums[sums.len() - 1]);
                sums.partition_point(|&sum| sum <= at)
            };
            (10_000, (0..4_000).map(|_| (draw(&mut rng), short)).collect(), usize::MAX)
        }
        "bursts" => {
            let bursts = (0..200).map(|_| rng.random_range(0..1_000));
            (1_000, bursts.flat_map(|actor| [(actor, short); 20]).collect(), 200)
        }
        "hot" => {
            let mut messages: Vec<_> = even(&mut rng, 4_000);
            messages.iter_mut().step_by(2).for_each(|(actor, _)| *actor = 0);
            (1_000, messages, usize::MAX)
        }
        "bimodal" => {
            let cost = |at: usize| if at.is_multiple_of(200) { 500_000 } else { 500 };
            let costs = (0..4_000).map(|at| (rng.random_range(0..1_000), Duration::from_nanos(cost(at))));
            (1_000, costs.collect(), usize::MAX)
        }
        _ => return None,
    };
    Some(Plan { actors, messages, burst })
}

fn crew(workers: usize, policy: Policy) -> Executor {
    Executor::builder().workers(workers).policy(policy).unbounded().build().expect("a valid crew")
}

/// A load on its own executor.
struct Run {
    executor: Executor,
    shops: Vec<ActorRef<Shop>>,
    plan: Option<Plan>,
}

impl Run {
    fn new(load: &str, workers: usize, policy: Policy) -> Self {
        let executor = crew(workers, policy);
        let plan = plan(load);
        let actors = plan.as_ref().map_or(0, |plan| plan.actors);
        let shops = (0..actors).map(|_| executor.spawn(Shop::default())).collect();
        executor.wait_idle().expect("outside the crew");
        Run { executor, shops, plan }
    }

    /// All of the load, to its end.
    fn once(&self) {
        match &self.plan {
            Some(plan) => {
                for (at, &(actor, cost)) in plan.messages.iter().enumerate() {
                    let sent = at.is_multiple_of(SAMPLED).then(Instant::now);
                    self.shops[actor].tell(Serve { cost, sent }).expect("unbounded");
                    if (at + 1).is_multiple_of(plan.burst) {
                        work(Duration::from_micros(200));
                    }
                }
                self.executor.wait_idle().expect("outside the crew");
            }
            None => {
                let root = self.executor.spawn(Fork::default());
                let leaves = root.ask(Grow(TREE_DEPTH)).expect("room").wait().expect("an answer");
                assert_eq!(black_box(leaves), 1 << TREE_DEPTH);
            }
        }
    }

    /// Checks that everything was handled, as often as it was sent; gives the delays.
    fn check(&self, runs: u64) -> Vec<Duration> {
        let (mut served, mut delays) = (0, Vec::new());
        for shop in &self.shops {
            let (n, some) = shop.ask(TakeStock).expect("running").wait().expect("an answer");
            served += n;
            delays.extend(some);
        }
        let sent = self.plan.as_ref().map_or(0, |plan| plan.messages.len() as u64);
        assert_eq!(served, runs * sent, "messages handled");
        delays.sort_unstable();
        delays
    }

    /// The busiest worker's time against the mean.
    fn spread(&self, before: &[Duration]) -> f64 {
        let now = self.executor.stats();
        let busy: Vec<f64> =
            now.workers.iter().zip(before).map(|(w, b)| (w.busy - *b).as_secs_f64()).collect();
        let mean = busy.iter().sum::<f64>() / busy.len() as f64;
        busy.iter().copied().fold(0.0, f64::max) / mean
    }

    fn busy(&self) -> Vec<Duration> {
        self.executor.stats().workers.iter().map(|worker| worker.busy).collect()
    }
}

/// One line of the table, from a few runs.
fn table_line(load: &str, workers: usize, policy: Policy, run: &Run) {
    const RUNS: u64 = 5;
    run.once();
    run.check(1);
    let before = run.busy();
    let began = Instant::now();
    (0..RUNS).for_each(|_| run.once());
    let took = began.elapsed() / RUNS as u32;
    let spread = run.spread(&before);
    let delays = run.check(RUNS);
    let at = |per_mille: usize| match delays.get(delays.len() * per_mille / 1000) {
        Some(delay) => format!("{:.1}", delay.as_secs_f64() * 1e6),
        None => "-".into(),
    };
    let stats = run.executor.stats();
    let catches: u64 = stats.workers.iter().map(|worker| worker.sentinel_catches).sum();
    println!(
        "{load:<10} {:<12} {workers:>7} {:>11.2} {spread:>14.2} {:>13} {:>13} {catches:>8}",
        format!("{policy:?}"),
        took.as_secs_f64() * 1e3,
        at(500),
        at(990),
    );
}

fn load_balance(c: &mut Criterion) {
    let mut runs = Vec::new();
    for load in LOADS {
        let mut group = c.benchmark_group(load);
        group.sampling_mode(SamplingMode::Flat).sample_size(10);
        group.warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(600));
        for policy in POLICIES {
            for workers in CREWS {
                group.bench_function(
                    BenchmarkId::new(format!("{policy:?}"), format!("{workers} workers")),
                    |b| {
                        let run = Run::new(load, workers, policy);
                        let mut count = 0;
                        b.iter(|| {
                            run.once();
                            count += 1;
                        });
                        run.check(count);
                    },
                );
                runs.push((load, policy, workers));
            }
        }
        group.finish();
    }
    println!(
        "\n{:<10} {:<12} {:>7} {:>11} {:>14} {:>13} {:>13} {:>8}",
        "load",
        "policy",
        "workers",
        "one run, ms",
        "busy, max/mean",
        "delay p50, us",
        "delay p99, us",
        "catches"
    );
    // A smoke run shows that the table can be made.
    let shown = if std::env::args().any(|argument| argument == "--test") { 6 } else { runs.len() };
    for &(load, policy, workers) in runs.iter().take(shown) {
        table_line(load, workers, policy, &Run::new(load, workers, policy));
    }
}

criterion_group!(benches, load_balance);
criterion_main!(benches);
