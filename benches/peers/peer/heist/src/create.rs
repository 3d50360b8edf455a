//! Implements the workloads that spawn actors: fjcreate and fib.

use heist::{Actor, ActorRef, Context, Executor, Handler};
use workloads::{Done, FJCREATE_STEP, Run, Size, answer};

use crate::messages::{Counter, Number};

struct Spawner {
    left: u64,
    collector: ActorRef<Counter>,
}

struct More;

impl Actor for Spawner {}

impl Handler<More> for Spawner {
    type Reply = ();

    fn handle(&mut self, _: More, ctx: &mut Context<Self>) {
        let now = self.left.min(FJCREATE_STEP);
        for _ in 0..now {
            let child = ctx.spawn(Child { collector: self.collector.clone() });
            child.tell(Work).expect("the child has room");
        }
        self.left -= now;
        if self.left > 0 {
            ctx.tell_self(More).expect("one at a time");
        }
    }
}

/// Ends by itself: no reference is left after its message.
struct Child {
    collector: ActorRef<Counter>,
}

struct Work;

impl Actor for Child {}

impl Handler<Work> for Child {
    type Reply = ();

    fn handle(&mut self, _: Work, _: &mut Context<Self>) {
        self.collector.tell(Number(1)).expect("the collector is unbounded");
    }
}

pub fn fjcreate(executor: &Executor, size: Size, run: &mut Run) -> u64 {
    let (done, answer) = answer();
    let collector = executor.build(Counter { left: size.actors, sum: 0, done }).unbounded().spawn();
    let spawner = executor.spawn(Spawner { left: size.actors, collector });
    run.start();
    spawner.tell(More).expect("the spawner has room");
    let sum = answer.wait();
    run.stop();
    sum
}

enum Parent {
    Call(ActorRef<Fib>),
    Main(Done),
}

/// Kept alive by its children, which hold references to it.
struct Fib {
    parent: Parent,
    waiting: u8,
    sum: u64,
}

struct Call(u64);
struct Value(u64);

impl Actor for Fib {}

impl Fib {
    fn new(parent: Parent) -> Fib {
        Fib { parent, waiting: 2, sum: 0 }
    }

    fn give(&self, value: u64) {
        match &self.parent {
            Parent::Call(parent) => parent.tell(Value(value)).expect("the parent waits"),
            Parent::Main(done) => done.send(value),
        }
    }
}

impl Handler<Call> for Fib {
    type Reply = ();

    fn handle(&mut self, Call(n): Call, ctx: &mut Context<Self>) {
        if n < 2 {
            return self.give(n);
        }
        for m in [n - 1, n - 2] {
            let parent = Parent::Call(ctx.me().clone());
            ctx.spawn(Fib::new(parent)).tell(Call(m)).expect("the child has room");
        }
    }
}

impl Handler<Value> for Fib {
    type Reply = ();

    fn handle(&mut self, Value(value): Value, _: &mut Context<Self>) {
        self.sum += value;
        self.waiting -= 1;
        if self.waiting == 0 {
            self.give(self.sum);
        }
    }
}

pub fn fib(executor: &Executor, size: Size, run: &mut Run) -> u64 {
    let (done, answer) = answer();
    run.start();
    let root = executor.spawn(Fib::new(Parent::Main(done)));
    root.tell(Call(size.messages)).expect("the root has room");
    let value = answer.wait();
    run.stop();
    value
}
