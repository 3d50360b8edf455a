//! Measures how evenly each policy distributes work over the workers:
//! `cargo bench --bench load_balance`.
//!
//! | load | shape |
//! |---|---|
//! | uniform | 1,000 actors, messages of 2 us in turn |
//! | zipf | 10,000 actors, drawn by Zipf's law (exponent 1.0), 2 us |
//! | bursts | 20 messages at once to each of a few actors, 2 us, and a pause between bursts |
//! | hot | one actor gets half of all messages, 999 share the rest, 2 us |
//! | bimodal | 99.5 % x 0.5 us, 0.5 % x 500 us |
//! | fork-join | a tree of actors, each spawns two; leaves work 5 us and sums come back |
//!
//! criterion measures the time of a whole load and nothing else. Then each load runs again, round
//! by round, for the table of `examples/measure/table.rs` (balance of the workers, queue delays,
//! idle hands, steals, wakes) and for a page with pictures, `load_balance.html` in the target
//! directory. There the policies are compared with a thread for each actor, if a load has at most
//! [`MOST_THREADS`] actors that do not come and go. Every run checks its answer.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::print_stdout, reason = "the table")]

#[path = "../../examples/measure/mod.rs"]
#[allow(unused_imports, reason = "its tests run with the examples")]
mod measure;
#[path = "../../examples/pictures/mod.rs"]
mod pictures;

use criterion::{BenchmarkId, Criterion, SamplingMode, criterion_group, criterion_main};
use crossbeam_channel::{Sender, unbounded};
use heist::{Actor, ActorRef, Context, Executor, Handler, Policy, Receive, Reply};
use measure::burst;
use measure::delay::{Delays, Stamp};
use measure::machine;
use measure::meter::{Meter, POLICIES, Run, Way};
use measure::table::{self, AllBursts};
use measure::text::{count, grouped};
use pictures::report::{self, Section};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::hint::{black_box, spin_loop};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const CREWS: [usize; 4] = [1, 2, 4, 8];
const LOADS: [&str; 6] = ["uniform", "zipf", "bursts", "hot", "bimodal", "fork-join"];
/// The greatest number of threads that is tried.
const MOST_THREADS: usize = 2_000;
/// Number of times in a row that a load runs for the table. A single run would be over after a
/// handful of samples of the crew.
const IN_A_ROW: u64 = 5;
/// Number of rounds for the table.
const ROUNDS: usize = 3;

/// The recorder of queue delays, if they are measured.
#[derive(Clone, Copy)]
struct Measured(Option<&'static Delays>);

impl Measured {
    fn stamp(self) -> Stamp {
        self.0.map_or(Stamp::NONE, |_| Stamp::now())
    }

    fn arrived(self, sent: Stamp) {
        if let Some(delays) = self.0 {
            delays.arrived(sent);
        }
    }
}

fn work(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        spin_loop();
    }
}

/// An actor with some state.
struct Shop {
    served: u64,
    delays: Measured,
}

impl Shop {
    fn serve(&mut self, Serve { cost, sent }: Serve) {
        self.delays.arrived(sent);
        work(cost);
        self.served += 1;
    }
}

impl Actor for Shop {}

struct Serve {
    cost: Duration,
    sent: Stamp,
}

impl Handler<Serve> for Shop {
    type Reply = ();
    fn handle(&mut self, serve: Serve, _: &mut Context<Self>) {
        self.serve(serve);
    }
}

struct TakeStock;
impl Handler<TakeStock> for Shop {
    type Reply = u64;
    fn handle(&mut self, _: TakeStock, _: &mut Context<Self>) -> u64 {
        std::mem::take(&mut self.served)
    }
}

/// A node of the fork-join tree.
struct Fork {
    delays: Measured,
    missing: u8,
    sum: u64,
    reply: Option<Reply<u64>>,
}

impl Actor for Fork {}

impl Fork {
    fn new(delays: Measured) -> Self {
        Fork { delays, missing: 0, sum: 0, reply: None }
    }
}

/// Number of generations to go.
struct Grow(u32, Stamp);
impl Receive<Grow> for Fork {
    type Reply = u64;
    fn receive(&mut self, Grow(left, sent): Grow, reply: Reply<u64>, ctx: &mut Context<Self>) {
        self.delays.arrived(sent);
        if left == 0 {
            work(Duration::from_micros(5));
            return reply.send(1);
        }
        (self.missing, self.reply) = (2, Some(reply));
        for _ in 0..2 {
            let child = ctx.spawn(Fork::new(self.delays));
            let joined = |me: &mut Fork,
                          sum: Result<u64, heist::AskError>,
                          _: &mut Context<Fork>| me.join(sum);
            ctx.ask_then(&child, Grow(left - 1, self.delays.stamp()), joined)
                .expect("a fresh actor has room");
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

/// The messages of a load with their actors and costs, in order. The same in every run.
struct Plan {
    actors: usize,
    messages: Vec<(usize, Duration)>,
    /// Number of messages between two pauses of the sender.
    burst: usize,
}

const TREE_DEPTH: u32 = 8;

/// Returns the plan of a load, or `None` for the fork-join tree, which sends by itself.
fn plan(load: &str) -> Option<Plan> {
    let mut rng = SmallRng::seed_from_u64(2013);
    let short = Duration::from_micros(2);
    let even = |rng: &mut SmallRng, n: usize| {
        (0..n).map(|_| (rng.random_range(0..1_000), short)).collect()
    };
    let (actors, messages, burst): (usize, Vec<_>, usize) = match load {
        "uniform" => (1_000, even(&mut rng, 4_000), usize::MAX),
        "zipf" => {
            // Inverts the distribution function by searching its table.
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
            let costs =
                (0..4_000).map(|at| (rng.random_range(0..1_000), Duration::from_nanos(cost(at))));
            (1_000, costs.collect(), usize::MAX)
        }
        _ => return None,
    };
    Some(Plan { actors, messages, burst })
}

fn crew(workers: usize, policy: Policy) -> Executor {
    Executor::builder().workers(workers).policy(policy).unbounded().build().expect("a valid crew")
}

impl Plan {
    /// Returns the total work of the load divided by the work of its busiest actor.
    fn most_parallel(&self) -> f64 {
        let mut work = vec![0.0; self.actors];
        self.messages.iter().for_each(|(actor, cost)| work[*actor] += cost.as_secs_f64());
        work.iter().sum::<f64>() / work.iter().copied().fold(0.0, f64::max)
    }

    /// Passes each message to `send`, and pauses between bursts.
    fn each(&self, delays: Measured, mut send: impl FnMut(usize, Serve)) {
        for (at, &(actor, cost)) in self.messages.iter().enumerate() {
            send(actor, Serve { cost, sent: delays.stamp() });
            if (at + 1).is_multiple_of(self.burst) {
                work(Duration::from_micros(200));
            }
        }
    }
}

/// A load on its own executor.
struct Stage {
    executor: Executor,
    shops: Vec<ActorRef<Shop>>,
    plan: Option<Plan>,
    delays: Measured,
}

impl Stage {
    fn new(load: &str, workers: usize, policy: Policy, delays: Measured) -> Self {
        let executor = crew(workers, policy);
        let plan = plan(load);
        let actors = plan.as_ref().map_or(0, |plan| plan.actors);
        let shops = (0..actors).map(|_| executor.spawn(Shop { served: 0, delays })).collect();
        executor.wait_idle().expect("outside the crew");
        Stage { executor, shops, plan, delays }
    }

    /// Runs the whole load once, to its end.
    fn once(&self) {
        match &self.plan {
            Some(plan) => {
                plan.each(self.delays, |actor, serve| {
                    self.shops[actor].tell(serve).expect("unbounded")
                });
                self.executor.wait_idle().expect("outside the crew");
            }
            None => {
                let root = self.executor.spawn(Fork::new(self.delays));
                let leaves = root.ask(Grow(TREE_DEPTH, self.delays.stamp())).expect("room").wait();
                assert_eq!(black_box(leaves.expect("an answer")), 1 << TREE_DEPTH);
            }
        }
    }

    /// Checks that each message was handled once in each run.
    fn check(&self, runs: u64) {
        let asks = self.shops.iter().map(|shop| shop.ask(TakeStock).expect("running"));
        let served: u64 = asks.map(|mut ask| ask.wait().expect("an answer")).sum();
        let sent = self.plan.as_ref().map_or(0, |plan| plan.messages.len() as u64);
        assert_eq!(served, runs * sent, "messages handled");
    }
}

/// Runs the load several times in a row, measured.
fn on_a_crew(load: &str, workers: usize, policy: Policy) -> Run {
    let delays = Delays::leaked();
    let stage = Stage::new(load, workers, policy, Measured(Some(delays)));
    stage.once();
    stage.check(1);
    delays.take();
    stage.executor.wait_idle().expect("outside the crew");
    let meter = Meter::start(&stage.executor);
    (0..IN_A_ROW).for_each(|_| stage.once());
    let run = meter.stop(delays.take());
    stage.check(IN_A_ROW);
    run
}

/// Runs the load with a thread for each actor. Returns `None` if the load does not suit threads.
fn on_threads(load: &str) -> Option<Run> {
    let plan = plan(load).filter(|plan| plan.actors <= MOST_THREADS)?;
    let delays = Delays::leaked();
    let left = Arc::new(AtomicU64::new(0));
    let main = thread::current();
    let start = |_| -> Option<(Sender<Serve>, JoinHandle<u64>)> {
        let (sender, messages) = unbounded::<Serve>();
        let (left, main) = (Arc::clone(&left), main.clone());
        let serve = move || {
            let mut shop = Shop { served: 0, delays: Measured(Some(delays)) };
            for message in messages {
                shop.serve(message);
                // AcqRel: the last thread passes on what all threads did.
                if left.fetch_sub(1, Ordering::AcqRel) == 1 {
                    main.unpark();
                }
            }
            shop.served
        };
        Some((sender, thread::Builder::new().stack_size(128 * 1024).spawn(serve).ok()?))
    };
    let (senders, threads): (Vec<_>, Vec<_>) =
        (0..plan.actors).map(start).collect::<Option<Vec<_>>>()?.into_iter().unzip();
    let once = || {
        left.store(plan.messages.len() as u64, Ordering::Release);
        plan.each(Measured(Some(delays)), |actor, serve| {
            senders[actor].send(serve).expect("it runs")
        });
        while left.load(Ordering::Acquire) > 0 {
            thread::park();
        }
    };
    once();
    delays.take();
    let cpu = machine::cpu_time();
    let began = Instant::now();
    (0..IN_A_ROW).for_each(|_| once());
    let makespan = began.elapsed();
    let cpu = machine::cpu_time().zip(cpu).and_then(|(after, before)| after.checked_sub(before));

    drop(senders);
    let served: u64 = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
    let sent = plan.messages.len() as u64;
    assert_eq!(served, (1 + IN_A_ROW) * sent, "messages handled");
    Some(Run {
        way: Way::Threads,
        workers: machine::cores(),
        makespan,
        cpu,
        messages: IN_A_ROW * sent,
        delays: delays.take(),
        kept: None,
        crew: None,
    })
}

/// Prints the tables of the loads and writes the page.
fn tables(loads: &[&str], crews: &[usize], rounds: usize) {
    let cores = machine::cores();
    let shown = crews.iter().copied().filter(|crew| *crew <= cores).max().unwrap_or(crews[0]);
    let sizes = || crews.iter().flat_map(|crew| POLICIES.map(|policy| (policy, *crew)));
    let burst = |(policy, crew)| {
        (Way::Crew(policy), crew, burst::of_a_crew(policy, crew).expect("a valid crew"))
    };
    let mut bursts: AllBursts = sizes().map(burst).collect();
    bursts.extend(burst::of_threads().map(|burst| (Way::Threads, cores, burst)));
    let mut sections = Vec::new();
    for load in loads {
        let mut runs = Vec::new();
        for _ in 0..rounds {
            runs.extend(sizes().map(|(policy, crew)| on_a_crew(load, crew, policy)));
            runs.extend(on_threads(load));
        }
        let threads = match plan(load) {
            None => "A thread for each actor is left out: the actors come and go.".into(),
            Some(plan) if plan.actors > MOST_THREADS => {
                let actors = count(plan.actors, "actor");
                format!(
                    "A thread for each of {actors} is left out: more than {}.",
                    grouped(MOST_THREADS)
                )
            }
            Some(_) => String::new(),
        };
        let about = format!(
            "The load {IN_A_ROW} times in a row; the median of {}. {threads}",
            count(rounds, "round")
        );
        let rows = table::rows(&runs, &bursts);
        println!("\n{load}. {about}\n\n{}", table::text(&rows));
        let most_parallel = plan(load).map_or(f64::INFINITY, |plan| plan.most_parallel());
        let section = Section::new(load, &about, &rows, shown, most_parallel);
        sections.push(section.expect("a picture in memory"));
    }
    let target =
        Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is inside the target directory");
    let page = target.join("load_balance.html");
    let introduction =
        format!("benches/load_balance describes the loads. {}.", count(cores, "processor"));
    report::write(&page, "heist: load balance", &introduction, &sections)
        .expect("the target directory is there");
    println!("The pictures are in {}.", page.display());
}

fn load_balance(c: &mut Criterion) {
    for load in LOADS {
        let mut group = c.benchmark_group(load);
        group.sampling_mode(SamplingMode::Flat).sample_size(10);
        group.warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(600));
        for policy in POLICIES {
            for workers in CREWS {
                group.bench_function(
                    BenchmarkId::new(format!("{policy:?}"), format!("{workers} workers")),
                    |b| {
                        let stage = Stage::new(load, workers, policy, Measured(None));
                        let mut count = 0;
                        b.iter(|| {
                            stage.once();
                            count += 1;
                        });
                        stage.check(count);
                    },
                );
            }
        }
        group.finish();
    }
    if std::env::args().any(|argument| argument == "--test") {
        // Shows that the tables and pictures can be made.
        tables(&["uniform", "fork-join"], &[1, 2], 1);
    } else {
        tables(&LOADS, &CREWS, ROUNDS);
    }
}

criterion_group!(benches, load_balance);
criterion_main!(benches);
