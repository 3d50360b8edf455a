//! Measures the cost of blocking inside a handler: `cargo bench --bench blocking`. One element is
//! one call.
//!
//! | bench | measures |
//! |---|---|
//! | nothing waits | a call that returns at once: the worker's slot is left and taken back |
//! | work waits | the same with a message behind the turn: a spare is called, mostly too late |
//! | ask and wait | a blocking ask of another actor, which a spare runs |

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use heist::{Actor, ActorRef, Context, Executor, Handler, blocking};

const CALLS: u64 = 100;

#[derive(Default)]
struct Adder(u64);
impl Actor for Adder {}

struct Add(u64);
impl Handler<Add> for Adder {
    type Reply = u64;
    fn handle(&mut self, Add(n): Add, _: &mut Context<Self>) -> u64 {
        self.0 += n;
        self.0
    }
}

struct Blocker(ActorRef<Adder>);
impl Actor for Blocker {}

#[derive(Clone, Copy)]
enum Way {
    Nothing,
    Work,
    Wait,
}

/// Blocks in the given way. Replies with the number of calls.
impl Handler<Way> for Blocker {
    type Reply = u64;
    fn handle(&mut self, way: Way, _: &mut Context<Self>) -> u64 {
        let call = |n: u64| match way {
            Way::Nothing => blocking(|| n),
            Way::Work => {
                self.0.tell(Add(0)).expect("unbounded");
                blocking(|| n)
            }
            Way::Wait => {
                n + self.0.ask(Add(0)).expect("unbounded").wait().expect("there is a spare")
            }
        };
        (0..CALLS).map(|_| call(1)).sum()
    }
}

fn blocks(c: &mut Criterion) {
    for workers in [1, 2] {
        let executor =
            Executor::builder().workers(workers).unbounded().build().expect("a valid crew");
        let blocker = executor.spawn(Blocker(executor.spawn(Adder::default())));
        let mut group = c.benchmark_group("blocking");
        group.throughput(Throughput::Elements(CALLS));
        for (name, way) in [
            ("nothing waits", Way::Nothing),
            ("work waits", Way::Work),
            ("ask and wait", Way::Wait),
        ] {
            group.bench_function(BenchmarkId::new(name, format!("{workers} workers")), |b| {
                b.iter(|| {
                    let calls = blocker.ask(way).expect("unbounded").wait();
                    assert_eq!(calls.expect("an answer"), CALLS);
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, blocks);
criterion_main!(benches);
