//! Tests P1, one at a time: no two turns of an actor overlap, including hooks and the drop of the
//! state. Everything that one turn did happens before the next turn, on whichever worker.

mod common;

use common::*;
use heist::*;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::thread;

/// Does everything under a flag and counts in plain fields, which only a data race could get wrong.
struct Guarded {
    turn: Arc<InTurn>,
    /// The sum of all final counts, written in `drop`.
    total: Arc<AtomicU64>,
    handled: u64,
    started: bool,
    peer: Option<ActorRef<Guarded>>,
}

impl Guarded {
    fn new(turn: &Arc<InTurn>, total: &Arc<AtomicU64>, peer: Option<ActorRef<Guarded>>) -> Self {
        Guarded {
            turn: Arc::clone(turn),
            total: Arc::clone(total),
            handled: 0,
            started: false,
            peer,
        }
    }
}

/// Takes long enough for an overlapping turn to come in between.
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

/// A message with a number of hops to go.
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
            // A full mailbox is fine and not the subject of this test.
            let _sent = on.tell(Step(hops - 1));
        }
        self.handled
    }
}

/// Threads and actors tell, ask, stop and release the same few actors at the same time.
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
                // Whichever thread is last drops the last references, in the middle of turns.
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

/// One actor is flooded from all sides, and its plain counter must lose nothing.
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

/// The actor is moved from one worker to the other and back. Each turn must see the writes of the
/// previous turn.
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
            // Occupies the free worker, then frees the other one.
            held = Held::hold(&blockers[(round as usize + 1) % 2]);
        }
        drop(held);
        assert_eq!(seen.len(), 2, "it never moved under {policy:?}");
        shut_down(&executor);
    }
}
