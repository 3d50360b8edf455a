//! Runs the workloads over the roles: sets up the actors, starts the clock, starts the actors,
//! waits for the answer, and stops the clock.

use std::sync::{Arc, atomic::Ordering};

use crate::{
    Entry, Run, Size,
    feel::*,
    load::{BURST, HANDLED, HOT, WORK_205_NS, answer, every_ms, skew, wait_handled},
    roles::*,
};

/// Returns all workloads that unbounded mailboxes can run.
pub fn entries<P: Peer>() -> Vec<Entry<P>> {
    vec![
        Entry::new("pingpong", |_, size, run| pairs::<P>(1, size.messages, run)),
        Entry::new("pairs", |_, size, run| pairs::<P>(size.actors, size.messages, run)),
        Entry::new("counting", |_, size, run| produce::<P>(size, run)),
        Entry::new("fanin", |_, size, run| produce::<P>(size, run)),
        Entry::new("fjthrput", |_, size, run| fjthrput::<P>(size, run, 0)),
        Entry::new("fjthrput-work", |_, size, run| fjthrput::<P>(size, run, WORK_205_NS)),
        Entry::new("fjcreate", |_, size, run| fjcreate::<P>(size, run)),
        Entry::new("threadring", |_, size, run| threadring::<P>(size, run)),
        Entry::new("big", |_, size, run| big::<P>(size, run)),
        Entry::new("chameneos", |_, size, run| chameneos::<P>(size, run)),
        Entry::new("ask1", |_, size, run| ask::<P>(size, run)),
        Entry::new("ask8", |_, size, run| ask::<P>(size, run)),
        Entry::new("skew", |_, size, run| skewed::<P>(size, run)),
        Entry::new("fib", |_, size, run| fib::<P>(size, run)),
        Entry::new("idle100k", |_, size, run| idle::<P>(size, run)),
        Entry::new("idle1m", |_, size, run| idle::<P>(size, run)),
        Entry::new("timeslice", |_, size, run| timeslice::<P>(size, run)),
        Entry::new("burst", |_, size, run| burst::<P>(size, run)),
        Entry::new("idlecpu", |_, size, run| idlecpu::<P>(size, run)),
    ]
}

/// The reasons to leave out the bounded workloads for a library without bounded mailboxes in which
/// a sender waits.
pub const NO_BOUNDED: [(&str, &str); 4] = [
    ("pingpong-bounded", "no bounded mailboxes"),
    ("counting-bounded", "no bounded mailboxes"),
    ("fanin-bounded", "no bounded mailboxes"),
    ("fjthrput-bounded", "no bounded mailboxes"),
];

fn pairs<P: Peer>(pairs: u64, rounds: u64, run: &mut Run) -> u64 {
    let (done, answer) = answer();
    let pings: Vec<_> = (0..pairs)
        .map(|_| {
            let pong = P::spawn(Pong { ping: None });
            let ping = P::spawn(Ping { pong: pong.clone(), left: rounds, got: 0, done: done.clone() });
            P::tell(&pong, PongMessage::Wire(ping.clone()));
            ping
        })
        .collect();
    run.start();
    for ping in &pings {
        P::tell(ping, PingMessage::Start);
    }
    let sum = (0..pairs).map(|_| answer.wait()).sum();
    run.stop();
    sum
}

fn produce<P: Peer>(size: Size, run: &mut Run) -> u64 {
    let (done, answer) = answer();
    let counter = P::spawn(Counter { left: size.actors * size.messages, sum: 0, done });
    let producers: Vec<_> = (0..size.actors)
        .map(|_| P::spawn(Producer { counter: counter.clone(), messages: size.messages }))
        .collect();
    run.start();
    for producer in &producers {
        P::tell(producer, ());
    }
    let sum = answer.wait();
    run.stop();
    sum
}

fn fjthrput<P: Peer>(size: Size, run: &mut Run, work: u32) -> u64 {
    let (done, answer) = answer();
    let leaves = (0..size.actors)
        .map(|_| P::spawn(Leaf { work, got: 0, expect: size.messages, done: done.clone() }))
        .collect();
    let root = P::spawn(Root { leaves, rounds: size.messages });
    run.start();
    P::tell(&root, ());
    let sum = (0..size.actors).map(|_| answer.wait()).sum();
    run.stop();
    sum
}

fn fjcreate<P: Peer>(size: Size, run: &mut Run) -> u64 {
    let (done, answer) = answer();
    let collector = P::spawn(Counter { left: size.actors, sum: 0, done });
    let spawner = P::spawn(Spawner { left: size.actors, collector });
    run.start();
    P::tell(&spawner, ());
    let sum = answer.wait();
    run.stop();
    sum
}

fn threadring<P: Peer>(size: Size, run: &mut Run) -> u64 {
    let (done, answer) = answer();
    let nodes: Vec<_> =
        (0..size.actors).map(|id| P::spawn(Node { id, next: None, done: done.clone() })).collect();
    for (at, node) in nodes.iter().enumerate() {
        P::tell(node, NodeMessage::Wire(nodes[(at + 1) % nodes.len()].clone()));
    }
    run.start();
    P::tell(&nodes[0], NodeMessage::Token(size.messages));
    let id = answer.wait();
    run.stop();
    for node in &nodes {
        P::tell(node, NodeMessage::Stop);
    }
    id
}

fn big<P: Peer>(size: Size, run: &mut Run) -> u64 {
    let (done, answer) = answer();
    let all: Vec<_> = (0..size.actors)
        .map(|id| {
            let dice = crate::Dice::new(id);
            P::spawn(Big { id, all: None, dice, left: size.messages, acked: 0, done: done.clone() })
        })
        .collect();
    let all = Arc::new(all);
    for actor in all.iter() {
        P::tell(actor, BigMessage::Wire(all.clone()));
    }
    run.start();
    for actor in all.iter() {
        P::tell(actor, BigMessage::Start);
    }
    let sum = (0..size.actors).map(|_| answer.wait()).sum();
    run.stop();
    for actor in all.iter() {
        P::tell(actor, BigMessage::Stop);
    }
    sum
}

fn chameneos<P: Peer>(size: Size, run: &mut Run) -> u64 {
    let (done, answer) = answer();
    let mall = P::spawn(Mall { waiting: None, left: size.messages, chameneos: size.actors, met: 0, done });
    let all: Vec<_> = (0..size.actors)
        .map(|id| P::spawn(Chameneo { colour: Colour::of(id), met: 0, mall: mall.clone() }))
        .collect();
    run.start();
    for chameneo in &all {
        P::tell(chameneo, ChameneoMessage::Start);
    }
    let sum = answer.wait();
    run.stop();
    sum
}

fn ask<P: Peer>(size: Size, run: &mut Run) -> u64 {
    let asks: Vec<_> = (0..size.actors).map(|_| P::echo()).collect();
    run.start();
    let asked = crate::measure::ask_from_threads(asks, size.messages);
    run.stop();
    let sum = asked.iter().map(|(sum, _)| sum).sum();
    run.samples = asked.into_iter().flat_map(|(_, samples)| samples).collect();
    sum
}

fn skewed<P: Peer>(size: Size, run: &mut Run) -> u64 {
    let (done, answer) = answer();
    let drawn = skew(size);
    let all: Vec<_> = drawn
        .expect
        .iter()
        .enumerate()
        .map(|(id, &left)| {
            let target = SkewTarget { id: id as u64, left, sum: 0, done: done.clone() };
            (left > 0).then(|| P::spawn(target))
        })
        .collect();
    let all = Arc::new(all);
    let reports = all.iter().flatten().count();
    let producers: Vec<_> = drawn
        .targets
        .into_iter()
        .map(|targets| P::spawn(SkewProducer { targets, at: 0, all: all.clone() }))
        .collect();
    run.start();
    for producer in &producers {
        P::tell(producer, ());
    }
    let sum = (0..reports).map(|_| answer.wait()).sum();
    run.stop();
    sum
}

fn fib<P: Peer>(size: Size, run: &mut Run) -> u64 {
    let (done, answer) = answer();
    run.start();
    let root = P::spawn(Fib { parent: Parent::Main(done), waiting: 2, sum: 0 });
    P::tell(&root, FibMessage::Call(size.messages));
    let value = answer.wait();
    run.stop();
    value
}

fn touched<P: Peer>(actors: u64) -> Vec<P::Ref<Idle>> {
    HANDLED.store(0, Ordering::Relaxed);
    (0..actors)
        .map(|n| {
            let actor = P::spawn(Idle::default());
            P::tell(&actor, IdleMessage::Touch(n));
            actor
        })
        .collect()
}

fn stop_all<P: Peer>(actors: &[P::Ref<Idle>]) {
    for actor in actors {
        P::tell(actor, IdleMessage::Stop);
    }
}

fn idle<P: Peer>(size: Size, run: &mut Run) -> u64 {
    let few = touched::<P>(100);
    wait_handled(100);
    let kept = run.memory(size.actors, || touched::<P>(size.actors));
    stop_all::<P>(&few);
    stop_all::<P>(&kept);
    HANDLED.load(Ordering::Relaxed)
}

fn timeslice<P: Peer>(size: Size, run: &mut Run) -> u64 {
    let (done, answer) = answer();
    HOT.store(true, Ordering::Relaxed);
    let hot: Vec<_> = (0..run.workers).map(|_| P::spawn(Hot)).collect();
    let cold = P::spawn(Cold { samples: Vec::new(), expect: size.messages as usize, done });
    run.start();
    for _ in 0..size.actors {
        for actor in &hot {
            P::tell(actor, ());
        }
    }
    every_ms(size.messages, |now| P::tell(&cold, now));
    run.samples = answer.wait();
    run.stop();
    HOT.store(false, Ordering::Relaxed);
    run.samples.len() as u64
}

fn burst<P: Peer>(size: Size, run: &mut Run) -> u64 {
    let targets = (0..size.actors).map(|_| P::spawn(BurstTarget)).collect();
    let root = P::spawn(BurstRoot { targets });
    BURST.drive(size, run, || P::tell(&root, ()))
}

fn idlecpu<P: Peer>(size: Size, run: &mut Run) -> u64 {
    let actors = touched::<P>(size.actors);
    wait_handled(size.actors);
    run.idle(size.messages);
    stop_all::<P>(&actors);
    HANDLED.load(Ordering::Relaxed)
}
