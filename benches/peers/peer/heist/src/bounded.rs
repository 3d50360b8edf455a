//! Implements the bounded workloads with default mailboxes. A producer that meets a full mailbox
//! remembers its position and goes on when there is room.

use heist::{Actor, ActorRef, Context, Executor, Handler};
use workloads::{Run, Size, answer};

use crate::messages::{Counter, Item, Leaf, Number};

struct Producer {
    counter: ActorRef<Counter>,
    next: u64,
    messages: u64,
}

struct GoOn;

impl Actor for Producer {}

impl Handler<GoOn> for Producer {
    type Reply = ();

    fn handle(&mut self, _: GoOn, ctx: &mut Context<Self>) {
        while self.next < self.messages {
            if self.counter.tell(Number(self.next)).is_err() {
                ctx.when_room(&self.counter, GoOn).expect("nothing else waits for the counter");
                return;
            }
            self.next += 1;
        }
    }
}

pub fn produce(executor: &Executor, size: Size, run: &mut Run) -> u64 {
    let (done, answer) = answer();
    let counter = executor.spawn(Counter { left: size.actors * size.messages, sum: 0, done });
    let producers: Vec<_> = (0..size.actors)
        .map(|_| executor.spawn(Producer { counter: counter.clone(), next: 0, messages: size.messages }))
        .collect();
    run.start();
    for producer in &producers {
        producer.tell(GoOn).expect("the producer has room");
    }
    let sum = answer.wait();
    run.stop();
    sum
}

struct Root {
    leaves: Vec<ActorRef<Leaf>>,
    next: usize,
    rounds: u64,
}

impl Actor for Root {}

impl Handler<GoOn> for Root {
    type Reply = ();

    fn handle(&mut self, _: GoOn, ctx: &mut Context<Self>) {
        while self.rounds > 0 {
            for leaf in &self.leaves[self.next..] {
                if leaf.tell(Item).is_err() {
                    ctx.when_room(leaf, GoOn).expect("nothing else waits for the leaf");
                    return;
                }
                self.next += 1;
            }
            self.next = 0;
            self.rounds -= 1;
        }
    }
}

pub fn fjthrput(executor: &Executor, size: Size, run: &mut Run) -> u64 {
    let (done, answer) = answer();
    let leaves = (0..size.actors)
        .map(|_| executor.spawn(Leaf { work: 0, got: 0, expect: size.messages, done: done.clone() }))
        .collect();
    let root = executor.spawn(Root { leaves, next: 0, rounds: size.messages });
    run.start();
    root.tell(GoOn).expect("the root has room");
    let sum = (0..size.actors).map(|_| answer.wait()).sum();
    run.stop();
    sum
}
