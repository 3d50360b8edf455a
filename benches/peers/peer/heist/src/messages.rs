//! Implements the workloads that only send: pingpong, pairs, counting, fanin, fjthrput.

use heist::{Actor, ActorRef, Context, Executor, Handler};
use workloads::{Done, Run, Size, answer, work};

struct Ping {
    pong: ActorRef<Pong>,
    left: u64,
    got: u64,
    done: Done,
}

struct Pong {
    ping: Option<ActorRef<Ping>>,
}

struct Start;
struct Pinged;
struct Ponged;
struct Wire(ActorRef<Ping>);

impl Actor for Ping {}

impl Ping {
    fn ping(&mut self, ctx: &mut Context<Self>) {
        if self.left == 0 {
            // Ping and pong refer to each other, so one of them must be stopped.
            self.pong.stop();
            self.done.send(self.got);
            ctx.stop();
            return;
        }
        self.left -= 1;
        self.pong.tell(Pinged).expect("pong has room");
    }
}

impl Handler<Start> for Ping {
    type Reply = ();

    fn handle(&mut self, _: Start, ctx: &mut Context<Self>) {
        self.ping(ctx);
    }
}

impl Handler<Ponged> for Ping {
    type Reply = ();

    fn handle(&mut self, _: Ponged, ctx: &mut Context<Self>) {
        self.got += 1;
        self.ping(ctx);
    }
}

impl Actor for Pong {}

impl Handler<Wire> for Pong {
    type Reply = ();

    fn handle(&mut self, wire: Wire, _: &mut Context<Self>) {
        self.ping = Some(wire.0);
    }
}

impl Handler<Pinged> for Pong {
    type Reply = ();

    fn handle(&mut self, _: Pinged, _: &mut Context<Self>) {
        self.ping.as_ref().expect("wired first").tell(Ponged).expect("ping has room");
    }
}

pub fn pairs(executor: &Executor, pairs: u64, rounds: u64, run: &mut Run) -> u64 {
    let (done, answer) = answer();
    let pings: Vec<_> = (0..pairs)
        .map(|_| {
            let pong = executor.spawn(Pong { ping: None });
            let ping = executor.spawn(Ping { pong: pong.clone(), left: rounds, got: 0, done: done.clone() });
            pong.tell(Wire(ping.clone())).expect("pong has room");
            ping
        })
        .collect();
    run.start();
    for ping in &pings {
        ping.tell(Start).expect("ping has room");
    }
    let sum = (0..pairs).map(|_| answer.wait()).sum();
    run.stop();
    sum
}

pub struct Counter {
    pub left: u64,
    pub sum: u64,
    pub done: Done,
}

pub struct Number(pub u64);

impl Actor for Counter {}

impl Handler<Number> for Counter {
    type Reply = ();

    fn handle(&mut self, number: Number, _: &mut Context<Self>) {
        self.sum += number.0;
        self.left -= 1;
        if self.left == 0 {
            self.done.send(self.sum);
        }
    }
}

struct Producer {
    counter: ActorRef<Counter>,
    messages: u64,
}

impl Actor for Producer {}

impl Handler<Start> for Producer {
    type Reply = ();

    fn handle(&mut self, _: Start, _: &mut Context<Self>) {
        for n in 0..self.messages {
            self.counter.tell(Number(n)).expect("the counter is unbounded");
        }
    }
}

pub fn produce(executor: &Executor, size: Size, run: &mut Run) -> u64 {
    let (done, answer) = answer();
    let counter = Counter { left: size.actors * size.messages, sum: 0, done };
    let counter = executor.build(counter).unbounded().spawn();
    let producers: Vec<_> = (0..size.actors)
        .map(|_| executor.spawn(Producer { counter: counter.clone(), messages: size.messages }))
        .collect();
    run.start();
    for producer in &producers {
        producer.tell(Start).expect("the producer has room");
    }
    let sum = answer.wait();
    run.stop();
    sum
}

pub struct Leaf {
    pub work: u32,
    pub got: u64,
    pub expect: u64,
    pub done: Done,
}

pub struct Item;

impl Actor for Leaf {}

impl Handler<Item> for Leaf {
    type Reply = ();

    fn handle(&mut self, _: Item, _: &mut Context<Self>) {
        if self.work > 0 {
            work(self.work);
        }
        self.got += 1;
        if self.got == self.expect {
            self.done.send(self.got);
        }
    }
}

struct Root {
    leaves: Vec<ActorRef<Leaf>>,
    rounds: u64,
}

impl Actor for Root {}

impl Handler<Start> for Root {
    type Reply = ();

    fn handle(&mut self, _: Start, _: &mut Context<Self>) {
        for _ in 0..self.rounds {
            for leaf in &self.leaves {
                leaf.tell(Item).expect("the leaf is unbounded");
            }
        }
    }
}

pub fn fjthrput(executor: &Executor, size: Size, run: &mut Run, work: u32) -> u64 {
    let (done, answer) = answer();
    let leaves = (0..size.actors)
        .map(|_| {
            let leaf = Leaf { work, got: 0, expect: size.messages, done: done.clone() };
            executor.build(leaf).unbounded().spawn()
        })
        .collect();
    let root = executor.spawn(Root { leaves, rounds: size.messages });
    run.start();
    root.tell(Start).expect("the root has room");
    let sum = (0..size.actors).map(|_| answer.wait()).sum();
    run.stop();
    sum
}
