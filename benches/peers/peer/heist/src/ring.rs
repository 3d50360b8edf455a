//! Implements the workloads with many actors that know each other: threadring, big, chameneos.

use std::sync::Arc;

use heist::{Actor, ActorRef, Context, Executor, Handler};
use workloads::{Colour, Dice, Done, Run, Size, answer};

struct Node {
    id: u64,
    next: Option<ActorRef<Node>>,
    done: Done,
}

struct Next(ActorRef<Node>);
struct Token(u64);

impl Actor for Node {}

impl Handler<Next> for Node {
    type Reply = ();

    fn handle(&mut self, next: Next, _: &mut Context<Self>) {
        self.next = Some(next.0);
    }
}

impl Handler<Token> for Node {
    type Reply = ();

    fn handle(&mut self, Token(left): Token, _: &mut Context<Self>) {
        if left == 0 {
            self.done.send(self.id);
        } else {
            self.next.as_ref().expect("wired first").tell(Token(left - 1)).expect("there is one token");
        }
    }
}

pub fn threadring(executor: &Executor, size: Size, run: &mut Run) -> u64 {
    let (done, answer) = answer();
    let nodes: Vec<_> =
        (0..size.actors).map(|id| executor.spawn(Node { id, next: None, done: done.clone() })).collect();
    for (at, node) in nodes.iter().enumerate() {
        node.tell(Next(nodes[(at + 1) % nodes.len()].clone())).expect("the node has room");
    }
    run.start();
    nodes[0].tell(Token(size.messages)).expect("the node has room");
    let id = answer.wait();
    run.stop();
    for node in &nodes {
        node.stop();
    }
    id
}

struct Big {
    id: u64,
    all: Arc<Vec<ActorRef<Big>>>,
    dice: Dice,
    left: u64,
    acked: u64,
    done: Done,
}

struct All(Arc<Vec<ActorRef<Big>>>);
struct Start;
struct Ping {
    from: u32,
}
struct Pong;

impl Actor for Big {}

impl Big {
    fn ping(&mut self) {
        if self.left == 0 {
            self.done.send(self.acked);
            return;
        }
        self.left -= 1;
        let other = self.dice.other(self.all.len() as u64, self.id);
        self.all[other as usize].tell(Ping { from: self.id as u32 }).expect("no more pings than actors");
    }
}

impl Handler<All> for Big {
    type Reply = ();

    fn handle(&mut self, all: All, _: &mut Context<Self>) {
        self.all = all.0;
    }
}

impl Handler<Start> for Big {
    type Reply = ();

    fn handle(&mut self, _: Start, _: &mut Context<Self>) {
        self.ping();
    }
}

impl Handler<Ping> for Big {
    type Reply = ();

    fn handle(&mut self, ping: Ping, _: &mut Context<Self>) {
        self.all[ping.from as usize].tell(Pong).expect("one ping, one pong");
    }
}

impl Handler<Pong> for Big {
    type Reply = ();

    fn handle(&mut self, _: Pong, _: &mut Context<Self>) {
        self.acked += 1;
        self.ping();
    }
}

pub fn big(executor: &Executor, size: Size, run: &mut Run) -> u64 {
    let (done, answer) = answer();
    let all: Vec<_> = (0..size.actors)
        .map(|id| {
            let (all, done) = (Arc::new(Vec::new()), done.clone());
            executor.spawn(Big { id, all, dice: Dice::new(id), left: size.messages, acked: 0, done })
        })
        .collect();
    let all = Arc::new(all);
    for actor in all.iter() {
        actor.tell(All(all.clone())).expect("the actor has room");
    }
    run.start();
    for actor in all.iter() {
        actor.tell(Start).expect("the actor has room");
    }
    let sum = (0..size.actors).map(|_| answer.wait()).sum();
    run.stop();
    for actor in all.iter() {
        actor.stop();
    }
    sum
}

struct Mall {
    waiting: Option<ActorRef<Chameneo>>,
    left: u64,
    chameneos: u64,
    met: u64,
    done: Done,
}

struct Chameneo {
    colour: Colour,
    met: u64,
    mall: ActorRef<Mall>,
}

/// Sent to the mall, and from there to the actor that waited.
struct Meet {
    colour: Colour,
    who: ActorRef<Chameneo>,
}
struct Met(u64);
struct Change(Colour);
struct Over;

impl Actor for Mall {}

impl Handler<Meet> for Mall {
    type Reply = ();

    fn handle(&mut self, meet: Meet, _: &mut Context<Self>) {
        if self.left == 0 {
            return meet.who.tell(Over).expect("the chameneo has room");
        }
        match self.waiting.take() {
            None => self.waiting = Some(meet.who),
            Some(first) => {
                self.left -= 1;
                first.tell(meet).expect("the chameneo has room");
            }
        }
    }
}

impl Handler<Met> for Mall {
    type Reply = ();

    fn handle(&mut self, Met(n): Met, _: &mut Context<Self>) {
        self.met += n;
        self.chameneos -= 1;
        if self.chameneos == 0 {
            self.done.send(self.met);
        }
    }
}

impl Actor for Chameneo {}

impl Chameneo {
    fn go(&self, ctx: &Context<Self>) {
        let meet = Meet { colour: self.colour, who: ctx.me().clone() };
        self.mall.tell(meet).expect("the mall has room for all");
    }
}

impl Handler<Start> for Chameneo {
    type Reply = ();

    fn handle(&mut self, _: Start, ctx: &mut Context<Self>) {
        self.go(ctx);
    }
}

impl Handler<Meet> for Chameneo {
    type Reply = ();

    fn handle(&mut self, meet: Meet, ctx: &mut Context<Self>) {
        self.colour = self.colour.with(meet.colour);
        self.met += 1;
        meet.who.tell(Change(self.colour)).expect("the other waits");
        self.go(ctx);
    }
}

impl Handler<Change> for Chameneo {
    type Reply = ();

    fn handle(&mut self, Change(colour): Change, ctx: &mut Context<Self>) {
        self.colour = colour;
        self.met += 1;
        self.go(ctx);
    }
}

impl Handler<Over> for Chameneo {
    type Reply = ();

    fn handle(&mut self, _: Over, _: &mut Context<Self>) {
        self.mall.tell(Met(self.met)).expect("the mall has room for all");
    }
}

pub fn chameneos(executor: &Executor, size: Size, run: &mut Run) -> u64 {
    let (done, answer) = answer();
    let mall = Mall { waiting: None, left: size.messages, chameneos: size.actors, met: 0, done };
    let mall = executor.spawn(mall);
    let all: Vec<_> = (0..size.actors)
        .map(|id| executor.spawn(Chameneo { colour: Colour::of(id), met: 0, mall: mall.clone() }))
        .collect();
    run.start();
    for chameneo in &all {
        chameneo.tell(Start).expect("the chameneo has room");
    }
    let sum = answer.wait();
    run.stop();
    sum
}
