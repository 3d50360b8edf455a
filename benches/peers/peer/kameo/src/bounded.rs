//! Implements the bounded workloads with mailboxes of 1,024 messages, in which a handler awaits
//! room.

use std::convert::Infallible;

use kameo::{mailbox::bounded, prelude::*};
use workloads::{CAPACITY, Done, Entry, Run, Size, answer};

use crate::{Kameo, runtime};

pub fn entries() -> [Entry<Kameo>; 4] {
    [
        Entry::new("pingpong-bounded", pingpong),
        Entry::new("counting-bounded", produce),
        Entry::new("fanin-bounded", produce),
        Entry::new("fjthrput-bounded", fjthrput),
    ]
}

struct Ping {
    pong: ActorRef<Pong>,
    left: u64,
    got: u64,
    done: Done,
}

struct Pong {
    ping: Option<ActorRef<Ping>>,
}

struct Counter {
    left: u64,
    sum: u64,
    done: Done,
}

struct Producer {
    counter: ActorRef<Counter>,
    messages: u64,
}

struct Leaf {
    got: u64,
    expect: u64,
    done: Done,
}

struct Root {
    leaves: Vec<ActorRef<Leaf>>,
    rounds: u64,
}

struct Start;
struct Pinged;
struct Ponged;
struct Number(u64);
struct Wire(ActorRef<Ping>);

macro_rules! actors {
    ($($name:ident),*) => {
        $(impl Actor for $name {
            type Args = Self;
            type Error = Infallible;

            async fn on_start(me: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
                Ok(me)
            }
        })*
    };
}

actors!(Ping, Pong, Counter, Producer, Leaf, Root);

impl Ping {
    async fn ping(&mut self, ctx: &mut Context<Self, ()>) {
        if self.left == 0 {
            self.pong.kill();
            self.done.send(self.got);
            ctx.stop();
            return;
        }
        self.left -= 1;
        self.pong.tell(Pinged).await.expect("pong lives");
    }
}

impl Message<Start> for Ping {
    type Reply = ();

    async fn handle(&mut self, _: Start, ctx: &mut Context<Self, ()>) {
        self.ping(ctx).await;
    }
}

impl Message<Ponged> for Ping {
    type Reply = ();

    async fn handle(&mut self, _: Ponged, ctx: &mut Context<Self, ()>) {
        self.got += 1;
        self.ping(ctx).await;
    }
}

impl Message<Wire> for Pong {
    type Reply = ();

    async fn handle(&mut self, wire: Wire, _: &mut Context<Self, ()>) {
        self.ping = Some(wire.0);
    }
}

impl Message<Pinged> for Pong {
    type Reply = ();

    async fn handle(&mut self, _: Pinged, _: &mut Context<Self, ()>) {
        self.ping.as_ref().expect("wired first").tell(Ponged).await.ok();
    }
}

impl Message<Number> for Counter {
    type Reply = ();

    async fn handle(&mut self, number: Number, ctx: &mut Context<Self, ()>) {
        self.sum += number.0;
        self.left -= 1;
        if self.left == 0 {
            self.done.send(self.sum);
            ctx.stop();
        }
    }
}

impl Message<Start> for Producer {
    type Reply = ();

    async fn handle(&mut self, _: Start, ctx: &mut Context<Self, ()>) {
        for n in 0..self.messages {
            self.counter.tell(Number(n)).await.expect("the counter lives");
        }
        ctx.stop();
    }
}

impl Message<Start> for Leaf {
    type Reply = ();

    async fn handle(&mut self, _: Start, ctx: &mut Context<Self, ()>) {
        self.got += 1;
        if self.got == self.expect {
            self.done.send(self.got);
            ctx.stop();
        }
    }
}

impl Message<Start> for Root {
    type Reply = ();

    async fn handle(&mut self, _: Start, ctx: &mut Context<Self, ()>) {
        for _ in 0..self.rounds {
            for leaf in &self.leaves {
                leaf.tell(Start).await.expect("the leaf lives");
            }
        }
        ctx.stop();
    }
}

fn spawn<A: Actor<Args = A>>(actor: A) -> ActorRef<A> {
    A::spawn_with_mailbox(actor, bounded(CAPACITY))
}

fn pingpong(_: &Kameo, size: Size, run: &mut Run) -> u64 {
    let _inside = runtime().enter();
    let (done, answer) = answer();
    let pong = spawn(Pong { ping: None });
    let ping = spawn(Ping { pong: pong.clone(), left: size.messages, got: 0, done });
    pong.tell(Wire(ping.clone())).blocking_send().expect("pong lives");
    run.start();
    ping.tell(Start).blocking_send().expect("ping lives");
    let got = answer.wait();
    run.stop();
    got
}

fn produce(_: &Kameo, size: Size, run: &mut Run) -> u64 {
    let _inside = runtime().enter();
    let (done, answer) = answer();
    let counter = spawn(Counter { left: size.actors * size.messages, sum: 0, done });
    let producers: Vec<_> = (0..size.actors)
        .map(|_| spawn(Producer { counter: counter.clone(), messages: size.messages }))
        .collect();
    run.start();
    for producer in &producers {
        producer.tell(Start).blocking_send().expect("the producer lives");
    }
    let sum = answer.wait();
    run.stop();
    sum
}

fn fjthrput(_: &Kameo, size: Size, run: &mut Run) -> u64 {
    let _inside = runtime().enter();
    let (done, answer) = answer();
    let leaves =
        (0..size.actors).map(|_| spawn(Leaf { got: 0, expect: size.messages, done: done.clone() })).collect();
    let root = spawn(Root { leaves, rounds: size.messages });
    run.start();
    root.tell(Start).blocking_send().expect("the root lives");
    let sum = (0..size.actors).map(|_| answer.wait()).sum();
    run.stop();
    sum
}
