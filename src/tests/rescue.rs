//! A rescue, at a pace that makes stealing seem worthless.

use crate::actor::context::Context;
use crate::actor::refs::ActorRef;
use crate::actor::{Actor, Handler};
use crate::executor::Executor;
use crate::sync::{AtomicUsize, Ordering::*};
use crate::time::{self, Duration};
use std::sync::Arc;

/// Actors told in one turn.
const TOLD: usize = 2000;

struct Counting(Arc<AtomicUsize>);
impl Actor for Counting {}

struct One;
impl Handler<One> for Counting {
    type Reply = ();
    fn handle(&mut self, One: One, _: &mut Context<Self>) {
        self.0.fetch_add(1, Release);
    }
}

/// Tells each of the actors, and computes until all have run on other workers.
struct Tell(Vec<ActorRef<Counting>>);

struct Heavy(Arc<AtomicUsize>);
impl Actor for Heavy {}

impl Handler<Tell> for Heavy {
    type Reply = ();
    fn handle(&mut self, Tell(actors): Tell, ctx: &mut Context<Self>) {
        // The whole queue is worth 2 us, and the least threshold is 20 us.
        let handle = ctx.handle();
        let here = ctx.worker().expect("the actor runs on a worker");
        handle.core().scheduler.slots[here].pretend_mean_turn(1);
        actors.iter().for_each(|actor| actor.tell(One).unwrap());
        let until = time::instant_after(Duration::from_secs(60)).unwrap();
        while self.0.load(Acquire) < TOLD {
            assert!(time::now() < until, "they wait behind this turn");
            std::hint::spin_loop();
        }
    }
}

/// With one batch for each look of the sentinel, there would be 63 looks.
#[test]
fn p04_a_rescue_empties_its_victim_however_little_a_theft_is_worth() {
    for workers in [2, 4] {
        let executor = Executor::builder().workers(workers).build().unwrap();
        let ran = Arc::new(AtomicUsize::new(0));
        let told = (0..TOLD).map(|_| executor.spawn(Counting(ran.clone()))).collect();
        let heavy = executor.spawn(Heavy(ran));
        executor.wait_idle().expect("no actor waits for another");
        let catches =
            || executor.stats().workers.iter().map(|worker| worker.sentinel_catches).sum::<u64>();
        let before = catches();
        heavy.ask(Tell(told)).unwrap().wait().unwrap();
        let catches = catches() - before;
        assert!(catches <= 16, "{catches} looks of the sentinel's for {TOLD} turns");
    }
}
