//! P1, one at a time: no two turns of one actor overlap, hooks and the drop of its state included, and what a turn did
//! happens before the next one, on whichever worker.

mod common;

use common::*;
use heist::*;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::thread;

/// Everything it does is done under the flag, and counted in plain fields that only a data race could get wrong.
struct Guarded {
    turn: Arc<InTurn>,
    /// Of what the state says at its end; written in `drop`.
    total: Arc<AtomicU64>,
    handled: u64,
    started: bool,
    peer: Option<ActorRef<Guarded>>,
}

impl Guarded {
    fn new(turn: &Arc<InTurn>, total: &Arc<AtomicU64>, peer: Option<ActorRef<Guarded>>) -> Self {
        Guarded { turn: Arc::clone(turn), total: Arc::clone(total), handled: 0, started: false, peer }
    }
}

/// Long enough for another turn to come in between, were there one.
fn dawdle(handled: u64) {
    if handled.is_multiple_of(64) {
        thread::yield_now();
    }
}

impl Actor for Guarded {
    fn started(&mut self, _: &mut Context<Self>) {
        let _turn = self.turn.enter();
        dawdle(0);
        self.started = true;
    }
    fn stopped(&mut self, _: &StopReason) {
        let _turn = self.turn.enter();
        dawdle(0);
        assert!(self.started);
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _turn = self.turn.enter();
        dawdle(0);
        self.total.fetch_add(self.handled, Relaxed);
    }
}

/// A message with some hops to go.
struct Step(u32);

impl Handler<Step> for Guarded {
    type Reply = u64;
    fn handle(&mut self, Step(hops): Step, ctx: &mut Context<Self>) -> u64 {
        let _turn = self.turn.enter();
        assert!(self.started);
        let before = self.handled;
        dawdle(before);
        self.handled = before + 1;
        if hops > 0 {
            let on = self.peer.as_ref().unwrap_or(ctx.me());
            // Full is fine: it is not this test's.
            let _sent = on.tell(Step(hops - 1));
        }
        self.handled
    }
}

/// Threads and actors tell, ask, stop and let go of the same few actors all at once.
#[test]
fn p01_turns_hooks_and_the_states_drop_never_overlap() {
    on_every_crew(|executor| {
        let total = Arc::new(AtomicU64::new(0));
        let mut turns = Vec::new();
        for round in 0..10 {
            let mut actors: Vec<ActorRef<Guarded>> = Vec::new();
            for _ in 0..8 {
                let turn = InTurn::new();
                actors.push(executor.spawn(Guarded::new(&turn, &total, actors.last().cloned())));
                turns.push(turn);
            }
            thread::scope(|scope| {
                for seed in 0..4 {
                    let actors = actors.clone();
                    scope.spawn(move || {
                        let dice = Dice::new(round * 100 + seed);
                        for _ in 0..500 {
                            let actor = &actors[dice.below(8) as usize];
                            match dice.below(200) {
                                0 => actor.stop(),
                                1 => actor.stop_now(),
                                2..20 => drop(actor.ask(Step(0))),
                                20..30 => drop(actor.downgrade().upgrade()),
                                _ => drop(actor.tell(Step(3))),
                            }
                        }
                    });
                }
                // The last references are let go of on whichever thread is last, in the middle of turns.
                drop(actors);
            });
        }
        settle(executor);
        assert_eq!(executor.stats().live_actors, 0);
        assert_eq!(executor.stats().panicked, 0);
        assert_eq!(turns.iter().map(|turn| turn.overlaps()).sum::<u64>(), 0, "overlapping turns");
        assert_eq!(
            total.load(Relaxed),
            executor.stats().handled,
            "a turn did not see what the one before did"
        );
    });
}

/// One actor, flooded from all sides: a plain counter loses nothing.
#[test]
fn p01_a_plain_counter_in_the_state_loses_no_update() {
    on_every_crew(|executor| {
        let (turn, total) = (InTurn::new(), Arc::new(AtomicU64::new(0)));
        let counter = executor.build(Guarded::new(&turn, &total, None)).unbounded().spawn();
        let feeders: Vec<_> = (0..4)
            .map(|_| {
                let feeder = Guarded::new(&InTurn::new(), &Arc::default(), Some(counter.clone()));
                executor.build(feeder).unbounded().spawn()
            })
            .collect();
        thread::scope(|scope| {
            for feeder in &feeders {
                let counter = &counter;
                scope.spawn(move || {
                    for _ in 0..2000 {
                        counter.tell(Step(0)).unwrap();
                        feeder.tell(Step(1)).unwrap();
                    }
                });
            }
        });
        settle(executor);
        assert_eq!(answer(counter.ask(Step(0)).unwrap()), Ok(16_001));
        assert_eq!(turn.overlaps(), 0);
    });
}

/// The actor is made to move from one worker to the other and back: each turn sees what the last one did.
#[test]
fn p01_a_turn_sees_the_last_one_from_another_worker() {
    for policy in [Policy::Stealing, Policy::SharedQueue] {
        let executor = build(Executor::builder().workers(2).policy(policy));
        let traveller = executor.spawn(Puppet::default());
        let blockers = [executor.spawn(Puppet::default()), executor.spawn(Puppet::default())];
        let mut seen = HashSet::new();
        let mut held = Held::hold(&blockers[0]);
        for round in 0..100 {
            let visit = Run(move |me: &mut Puppet, _: &mut Context<Puppet>| {
                me.log.push(round);
                (me.log.len() as u64, thread::current().id())
            });
            let (visits, thread) = answer(traveller.ask(visit).unwrap()).unwrap();
            assert_eq!(visits, round + 1, "a turn's writes were not seen on the other worker");
            seen.insert(thread);
            // Occupies the worker that is free, then frees the other one.
            held = Held::hold(&blockers[(round as usize + 1) % 2]);
        }
        drop(held);
        assert_eq!(seen.len(), 2, "it never moved under {policy:?}");
        shut_down(&executor);
    }
}
