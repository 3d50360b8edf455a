//! Tests blocking inside handlers and hooks: what runs meanwhile, on which thread, and what remains
//! afterwards. `spares.rs` tests the spare threads.

mod common;

use common::spares::*;
use common::*;
use heist::{Actor, Context, Executor, Handler, Refusal, StopReason, WaitError, blocking};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::thread;
use std::time::Duration;

#[test]
fn it_just_runs_where_there_is_no_crew() {
    let mut ran = 0;
    assert_eq!(blocking(|| blocking(|| ran += 1)), ());
    assert_eq!(ran, 1);
    quiet_panics();
    assert!(std::panic::catch_unwind(|| blocking(|| intended_panic())).is_err());
}

/// Blocks in hooks, handlers and the drop of the state, plainly and nested.
struct Everywhere(Arc<AtomicUsize>);

impl Everywhere {
    fn block(&self) {
        let here = thread::current().id();
        let inner = blocking(|| {
            self.0.fetch_add(1, Relaxed);
            blocking(|| thread::current().id())
        });
        assert_eq!(inner, here, "it runs on the thread that called it");
    }
}

impl Actor for Everywhere {
    fn started(&mut self, _: &mut Context<Self>) {
        self.block();
    }
    fn stopped(&mut self, _: &StopReason) {
        self.block();
    }
}

impl Drop for Everywhere {
    fn drop(&mut self) {
        self.block();
    }
}

impl Handler<Note> for Everywhere {
    type Reply = ();
    fn handle(&mut self, _: Note, _: &mut Context<Self>) {
        self.block();
        self.block();
    }
}

#[test]
fn it_runs_once_on_the_same_thread_wherever_it_is_called() {
    on_every_crew_with_spares(|executor, _| {
        let ran = Arc::new(AtomicUsize::new(0));
        let actors: Vec<_> =
            (0..20).map(|_| executor.spawn(Everywhere(Arc::clone(&ran)))).collect();
        for actor in &actors {
            actor.tell(Note(1)).unwrap();
            actor.tell(Note(2)).unwrap();
            actor.stop();
        }
        actors.iter().for_each(|actor| assert_eq!(ended(actor), StopReason::Stopped));
        assert_eq!(ran.load(Relaxed), 20 * (1 + 4 + 2));
        settle(executor);
        assert_eq!(executor.stats().spares.blocked, 0);
    });
}

/// All worker threads block, and wait for work of the crew that was sent before, afterwards and
/// from inside.
#[test]
fn the_crew_goes_on_while_all_its_threads_block() {
    for policy in POLICIES {
        for workers in CREWS {
            let executor = with_spares(workers, policy, 64);
            let actors: Vec<_> =
                (0..2 * workers).map(|_| executor.spawn(Puppet::default())).collect();
            let held: Vec<_> = actors.iter().map(blocked).collect();
            let others: Vec<_> = (0..20).map(|_| executor.spawn(Puppet::default())).collect();
            for (n, other) in (0..).zip(&others) {
                assert_eq!(answer(other.ask(Note(n)).unwrap()), Ok(n));
            }
            // From inside: the messages wait behind the turn, in this worker's own queues.
            let asker = executor.spawn(Puppet::default());
            let sum = inside(&asker, move |_, _| {
                let asks: Vec<_> =
                    (1..=20).zip(&others).map(|(n, to)| to.ask(Note(n)).unwrap()).collect();
                blocking(|| asks.into_iter().map(|mut ask| ask.wait().unwrap()).sum::<u64>())
            });
            assert_eq!(sum, 210);
            assert_eq!(executor.stats().spares.blocked, 2 * workers as u64);
            drop(held);
            shut_down(&executor);
        }
    }
}

/// More handlers block than there are threads, again and again, and the other actors still get
/// their turns.
#[test]
fn a_thousand_cold_actors_go_on_beside_64_blocking_handlers() {
    struct Blocker(Arc<AtomicBool>, u64);
    impl Actor for Blocker {}
    impl Handler<Note> for Blocker {
        type Reply = ();
        fn handle(&mut self, _: Note, ctx: &mut Context<Self>) {
            blocking(|| thread::sleep(Duration::from_millis(1)));
            self.1 += 1;
            if !self.0.load(Relaxed) {
                ctx.tell_self(Note(self.1)).unwrap();
            }
        }
    }
    for policy in POLICIES {
        let executor = with_spares(2, policy, 8);
        let enough = Arc::new(AtomicBool::new(false));
        let blockers: Vec<_> =
            (0..64).map(|_| executor.spawn(Blocker(Arc::clone(&enough), 0))).collect();
        blockers.iter().for_each(|blocker| blocker.tell(Note(0)).unwrap());
        within(LONG, "all spares are busy", || executor.stats().spares.alive == 8);
        let cold: Vec<_> = (0..1000).map(|_| executor.spawn(Puppet::default())).collect();
        for round in 0..3 {
            let asks: Vec<_> = cold.iter().map(|cold| cold.ask(Note(round)).unwrap()).collect();
            asks.into_iter().for_each(|ask| assert_eq!(answer(ask), Ok(round)));
        }
        let spares = executor.stats().spares;
        assert!(spares.alive <= 8 && spares.hand_overs > 0, "{spares:?}");
        enough.store(true, Relaxed);
        shut_down(&executor);
    }
}

/// A returning thread finds its slot unchanged if no other thread has needed the slot.
#[test]
fn nobody_moves_where_nothing_waits() {
    for policy in POLICIES {
        for workers in CREWS {
            let executor = with_spares(workers, policy, 4);
            let actor = executor.spawn(Puppet::default());
            settle(&executor);
            let same = inside(&actor, |_, _| {
                let me = thread::current().id();
                (0..1000).all(|_| blocking(|| thread::current().id()) == me)
            });
            assert!(same);
            let stats = executor.stats();
            assert_eq!((stats.spares.hand_overs, stats.spares.turns, stats.spares.kept), (0, 0, 0));
            assert_eq!(stats.spares.alive, 1, "one was reserved each time");
            shut_down(&executor);
        }
    }
}

/// A turn that has lost its slot may do everything that other turns may do, even while the executor
/// drains.
#[test]
fn a_turn_without_its_workers_place_may_do_what_any_may() {
    for policy in POLICIES {
        for workers in CREWS {
            let executor = Arc::new(with_spares(workers, policy, 4));
            let (actor, other) =
                (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
            let (moved, draining) = (Latch::new(), Latch::new());
            let (there, begun) = (moved.clone(), draining.clone());
            let (full, watcher) =
                (executor.build(Puppet::default()).capacity(1).spawn(), executor.handle());
            let target = other.clone();
            let doing = actor.ask(Run(move |me: &mut Puppet, ctx: &mut Context<Puppet>| {
                let mut ask = target.ask(Note(1)).unwrap(); // queued on this worker, run by another thread
                assert_eq!(ask.wait().unwrap(), 1);
                there.open();
                blocking(|| begun.wait());
                // From here on the executor refuses sends from outside.
                target.tell(Note(2)).unwrap();
                assert_eq!(target.ask(Note(3)).unwrap().wait().unwrap(), 3);
                while full.tell(Note(4)).is_ok() {}
                full.send(Note(5)).unwrap();
                let child = ctx.spawn(Puppet::default());
                assert_eq!(child.ask(Note(6)).unwrap().wait().unwrap(), 6);
                child.stop();
                ctx.tell_self(Note(7)).unwrap();
                ctx.ask_then(&target, Note(8), |me: &mut Puppet, n, _| me.log.push(n.unwrap()))
                    .unwrap();
                assert_eq!(ctx.me().wait_stopped(), Err(WaitError::OnCrew));
                assert_eq!(watcher.wait_idle(), Err(WaitError::OnCrew));
                me.log.push(9);
                me.kept.push(Box::new(target.clone()));
                ctx.handle()
            }));
            moved.wait();
            let ending = {
                let executor = Arc::clone(&executor);
                thread::spawn(move || shut_down(&executor))
            };
            within(LONG, "the executor drains", || {
                other.tell(Note(0)).is_err_and(|error| error.refusal() == Refusal::ShuttingDown)
            });
            draining.open();
            let handle = answer(doing.unwrap()).unwrap();
            ending.join().unwrap();
            assert_eq!(handle.last_report().map(|report| report.complete), Some(true));
            // With one worker, only a spare could answer.
            assert!(workers > 1 || handle.stats().spares.turns > 0, "it had not lost its place");
        }
    }
}

/// Messages in the mailbox are handled after a turn without its slot.
#[test]
fn what_waits_behind_a_turn_without_its_place_is_not_forgotten() {
    on_every_crew_with_spares(|executor, _| {
        let actor = executor.build(Puppet::default()).budget_messages(1).spawn();
        let others: Vec<_> = (0..4).map(|_| executor.spawn(Puppet::default())).collect();
        let held = Held::hold(&actor);
        for n in 0..20 {
            let others = others.clone();
            let told = Run(move |me: &mut Puppet, _: &mut Context<Puppet>| {
                others.iter().for_each(|other| other.tell(Note(n)).unwrap());
                blocking(thread::yield_now);
                me.log.push(n);
            });
            actor.tell(told).unwrap();
        }
        held.release();
        assert_eq!(log_of(&actor, 20), (0..20).collect::<Vec<_>>());
        settle(executor);
        for other in others {
            assert_eq!(log_of(&other, 20).len(), 20);
        }
    });
}

#[test]
fn a_panic_inside_is_the_actors_own() {
    quiet_panics();
    on_every_crew_with_spares(|executor, _| {
        for _ in 0..10 {
            let (actor, other) =
                (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
            let behind = other.clone();
            let panics = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| -> () {
                behind.tell(Note(1)).unwrap();
                blocking(|| blocking(|| intended_panic()))
            });
            assert_eq!(cause(actor.ask(panics).unwrap()), INTENDED);
            assert!(matches!(ended(&actor), StopReason::Panicked(_)));
            assert_eq!(log_of(&other, 1), [1]);
            // A panic that the handler itself catches has no effect either.
            let caught = inside(&other, |_, _| {
                std::panic::catch_unwind(|| blocking(|| intended_panic())).is_err()
            });
            assert!(caught);
        }
        settle(executor);
        let stats = executor.stats();
        assert_eq!((stats.panicked, stats.spares.blocked), (10, 0));
    });
}

/// `wait_idle` returns only when each turn is over, even a turn without its slot.
#[test]
fn waiting_for_quiet_waits_for_turns_that_block() {
    for policy in POLICIES {
        for workers in CREWS {
            for busy in [false, true] {
                let executor = with_spares(workers, policy, 8);
                let (actor, other) =
                    (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
                settle(&executor);
                let held = blocked(&actor);
                if busy {
                    // The slot passes to a spare, which then parks.
                    assert_eq!(answer(other.ask(Note(1)).unwrap()), Ok(1));
                }
                assert_eq!(
                    executor.wait_idle_timeout(Duration::from_millis(2)),
                    Err(WaitError::TimedOut),
                    "a turn is still under way"
                );
                let after = thread::scope(|scope| {
                    let waiting =
                        scope.spawn(|| executor.wait_idle_timeout(Duration::from_secs(LONG)));
                    held.release();
                    waiting.join().unwrap()
                });
                assert_eq!(after, Ok(()));
                shut_down(&executor);
            }
        }
    }
}

/// With all slots vacant, no parked thread waits for the next timer. A spare is started for this
/// duty.
#[test]
fn timers_fire_while_everybody_blocks() {
    for policy in POLICIES {
        for workers in [1, 2] {
            for armed_before in [true, false] {
                let executor = with_spares(workers, policy, 8);
                let blockers: Vec<_> =
                    (0..workers).map(|_| executor.spawn(Puppet::default())).collect();
                let target = executor.spawn(Puppet::default());
                settle(&executor);
                let arm =
                    || target.tell_after(Duration::from_millis(20), Note(1)).unwrap().detach();
                if armed_before {
                    arm();
                }
                let held: Vec<_> = blockers.iter().map(blocked).collect();
                if !armed_before {
                    arm();
                }
                within(LONG, "the timer fires", || target.stats().handled == 1);
                drop(held);
                shut_down(&executor);
            }
        }
    }
}

/// Two actors wait for each other. One wait is refused, so that the other actor gets its answer.
#[test]
fn a_circle_of_waits_is_refused_once() {
    for policy in POLICIES {
        for workers in CREWS {
            for round in 2..5 {
                let executor = with_spares(workers, policy, 64);
                let actors: Vec<_> =
                    (0..round).map(|_| executor.spawn(Puppet::default())).collect();
                let all_here = Arc::new(AtomicUsize::new(0));
                let asks: Vec<_> = (0..round)
                    .map(|i| {
                        let (next, here) = (actors[(i + 1) % round].clone(), Arc::clone(&all_here));
                        let wait = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
                            here.fetch_add(1, Relaxed);
                            // No actor waits before all are in their turns, so that the cycle
                            // certainly arises.
                            blocking(|| {
                                within(LONG, "all are here", || here.load(Relaxed) == round)
                            });
                            next.ask(Note(1)).unwrap().wait()
                        });
                        actors[i].ask(wait).unwrap()
                    })
                    .collect();
                let outcomes: Vec<_> = asks.into_iter().map(|ask| answer(ask).unwrap()).collect();
                let refused = outcomes.iter().filter(|outcome| outcome.is_err()).count();
                assert_eq!(refused, 1, "{outcomes:?}");
                assert!(
                    outcomes
                        .iter()
                        .flat_map(|outcome| outcome.as_ref().err())
                        .all(|error| error.cycle().is_some()),
                    "{outcomes:?}"
                );
                shut_down(&executor);
            }
        }
    }
}

/// An actor that has answered may wait for its former asker, even before the asker's thread wakes
/// up.
#[test]
fn an_answer_ends_a_wait_before_the_asker_knows() {
    on_every_crew_with_spares(|executor, spares| {
        if spares < 64 {
            return;
        }
        for _ in 0..50 {
            let (one, two) = (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
            let (back, there) = (one.clone(), two.clone());
            let asks_back = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
                back.ask(Note(2)).unwrap().wait()
            });
            let waits = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
                let mut first = there.ask(Note(1)).unwrap();
                let second = there.ask(asks_back).unwrap();
                (first.wait(), second)
            });
            let (first, second) = answer(one.ask(waits).unwrap()).unwrap();
            assert_eq!(first, Ok(1));
            assert_eq!(answer(second).unwrap(), Ok(2));
        }
    });
}

/// A sender that waits for room counts as part of a cycle.
#[test]
fn waiting_for_room_in_a_circle_is_refused() {
    on_every_crew_with_spares(|executor, spares| {
        if spares < 64 {
            return;
        }
        let one = executor.build(Puppet::default()).capacity(1).spawn();
        let two = executor.spawn(Puppet::default());
        let sender = one.clone();
        let sends = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
            while sender.tell(Note(0)).is_ok() {}
            sender.send(Note(5)).map_err(|error| (error.refusal(), error.into_message()))
        });
        let outcome = inside(&one, move |_, _| {
            let mut ask = two.ask(sends).unwrap();
            (ask.wait(), two)
        });
        match outcome.0 {
            Ok(sent) => assert_eq!(sent, Err((Refusal::WouldDeadlock, Note(5)))),
            Err(error) => assert!(error.cycle().is_some(), "{error}"), // this wait came second
        }
    });
}

#[test]
fn shutting_down_waits_for_what_blocks_or_names_it() {
    for policy in POLICIES {
        for workers in CREWS {
            for (now, spares) in [(false, 4), (true, 4), (false, 0), (true, 0)] {
                let executor = with_spares(workers, policy, spares);
                let actor = executor.spawn(Puppet::default());
                settle(&executor);
                let held = blocked(&actor);
                let end = |deadline| {
                    let deadline = Duration::from_millis(deadline);
                    if now { executor.shutdown_now(deadline) } else { executor.shutdown(deadline) }
                        .unwrap()
                };
                let report = end(30);
                assert!(!report.complete);
                assert_eq!(
                    report.unfinished.iter().map(|one| one.id).collect::<Vec<_>>(),
                    [actor.id()]
                );
                held.release();
                ended(&actor);
                within(LONG, "the crew ends", || end(100).complete);
                assert_eq!(executor.stats().live_actors, 0);
            }
        }
    }
}

/// The executor is dropped during a turn that goes on blocking and then ends by itself.
#[test]
fn an_executor_may_go_before_what_blocks() {
    for workers in CREWS {
        let executor = build(
            Executor::builder()
                .workers(workers)
                .max_spares(2)
                .drop_deadline(Duration::from_millis(10)),
        );
        let (actor, other) = (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
        let handle = executor.handle();
        let held = blocked(&actor);
        assert_eq!(answer(other.ask(Note(1)).unwrap()), Ok(1));
        drop(executor);
        assert_eq!(handle.last_report().map(|report| report.complete), Some(false));
        held.release();
        assert_eq!(ended(&actor), StopReason::Shutdown);
        within(LONG, "all has ended", || handle.stats().live_actors == 0);
    }
}
