//! Implements the workloads that users feel: idle actors, an idle executor, a cold actor beside hot
//! ones, a burst after idleness.

use std::{sync::atomic::Ordering, time::Instant};

use heist::{Actor, ActorRef, Context, Executor, Handler};
use workloads::{BURST, Done, HANDLED, HOT, Run, Size, WORK_1_US, answer, every_ms, wait_handled, work};

/// An actor with 16 bytes of state.
struct Idle([u64; 2]);
struct Touch(u64);

impl Actor for Idle {}

impl Handler<Touch> for Idle {
    type Reply = ();

    fn handle(&mut self, Touch(n): Touch, _: &mut Context<Self>) {
        self.0[0] += n;
        self.0[1] += 1;
        HANDLED.fetch_add(1, Ordering::Relaxed);
    }
}

fn touched(executor: &Executor, actors: u64) -> Vec<ActorRef<Idle>> {
    HANDLED.store(0, Ordering::Relaxed);
    (0..actors)
        .map(|n| {
            let actor = executor.spawn(Idle([0; 2]));
            actor.tell(Touch(n)).expect("the actor has room");
            actor
        })
        .collect()
}

pub fn idle(executor: &Executor, size: Size, run: &mut Run) -> u64 {
    let few = touched(executor, 100);
    wait_handled(100);
    let kept = run.memory(size.actors, || touched(executor, size.actors));
    drop((few, kept));
    HANDLED.load(Ordering::Relaxed)
}

pub fn idlecpu(executor: &Executor, size: Size, run: &mut Run) -> u64 {
    let actors = touched(executor, size.actors);
    wait_handled(size.actors);
    run.idle(size.messages);
    drop(actors);
    HANDLED.load(Ordering::Relaxed)
}

struct Hot;
struct Again;

impl Actor for Hot {}

impl Handler<Again> for Hot {
    type Reply = ();

    fn handle(&mut self, _: Again, ctx: &mut Context<Self>) {
        if HOT.load(Ordering::Relaxed) {
            work(WORK_1_US);
            ctx.me().tell(Again).expect("one handled makes room for one");
        }
    }
}

struct Cold {
    samples: Vec<u64>,
    expect: usize,
    done: Done<Vec<u64>>,
}

struct Sent(Instant);

impl Actor for Cold {}

impl Handler<Sent> for Cold {
    type Reply = ();

    fn handle(&mut self, sent: Sent, _: &mut Context<Self>) {
        self.samples.push(sent.0.elapsed().as_nanos() as u64);
        if self.samples.len() == self.expect {
            self.done.send(std::mem::take(&mut self.samples));
        }
    }
}

pub fn timeslice(executor: &Executor, size: Size, run: &mut Run) -> u64 {
    let (done, answer) = answer();
    HOT.store(true, Ordering::Relaxed);
    let hot: Vec<_> = (0..run.workers).map(|_| executor.spawn(Hot)).collect();
    let cold = executor.spawn(Cold { samples: Vec::new(), expect: size.messages as usize, done });
    run.start();
    for _ in 0..size.actors {
        for actor in &hot {
            actor.tell(Again).expect("the actor has room");
        }
    }
    every_ms(size.messages, |now| cold.tell(Sent(now)).expect("the actor has room"));
    run.samples = answer.wait();
    run.stop();
    HOT.store(false, Ordering::Relaxed);
    run.samples.len() as u64
}

struct Root {
    targets: Vec<ActorRef<Target>>,
}

struct Target;
struct Begin;

impl Actor for Root {}

impl Handler<Begin> for Root {
    type Reply = ();

    fn handle(&mut self, _: Begin, _: &mut Context<Self>) {
        for target in &self.targets {
            target.tell(Begin).expect("the target has room");
        }
    }
}

impl Actor for Target {}

impl Handler<Begin> for Target {
    type Reply = ();

    fn handle(&mut self, _: Begin, _: &mut Context<Self>) {
        BURST.handle();
    }
}

pub fn burst(executor: &Executor, size: Size, run: &mut Run) -> u64 {
    let targets = (0..size.actors).map(|_| executor.spawn(Target)).collect();
    let root = executor.spawn(Root { targets });
    BURST.drive(size, run, || root.tell(Begin).expect("the root has room"))
}
