//! Tests spare threads: their number and lifetime, their start, and what happens without one.

mod common;

use common::spares::*;
use common::*;
use heist::{AskError, BuildError, Context, Event, Executor, Policy, blocking};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::thread;
use std::time::Duration;

#[test]
fn spares_are_bounded_and_end_when_nobody_needs_them() {
    for policy in POLICIES {
        let events = EventLog::new();
        let executor = build(
            Executor::builder()
                .workers(2)
                .policy(policy)
                .max_spares(3)
                .spare_keep_alive(Duration::from_millis(1))
                .on_event(events.hook()),
        );
        for _ in 0..3 {
            let actors: Vec<_> = (0..10).map(|_| executor.spawn(Puppet::default())).collect();
            let held: Vec<_> = actors.iter().map(blocking_soon).collect();
            // Under `Sharded`, a spare may be reserved for a slot that gets no work.
            let most = if policy == Policy::Sharded { 4 } else { 5 };
            within(LONG, "as many block as there are threads", || {
                executor.stats().spares.blocked >= most
            });
            assert_eq!(executor.stats().spares.alive, 3);
            drop(held);
            settle(&executor);
            within(LONG, "the spares end", || executor.stats().spares.alive == 0);
        }
        shut_down(&executor);
        let mut alive = 0_i64;
        for event in events.all() {
            match event {
                Event::SpareStarted { spares, .. } => {
                    assert!(spares <= 3);
                    alive += 1;
                }
                Event::SpareEnded { .. } => alive -= 1,
                other => panic!("{other:?}"),
            }
            assert!(alive >= -3, "an end is told at once, a beginning by an errand");
        }
        assert_eq!(alive, 0);
    }
}

/// A failed thread start is reported as an event and otherwise acts like an exhausted supply of
/// spares.
#[test]
fn a_spare_that_cannot_be_started_is_told() {
    quiet_panics();
    for way in 0..3 {
        let events = EventLog::new();
        let builder = Executor::builder().workers(1).max_spares(2).on_event(events.hook());
        let executor = build(builder.spare_handler(move |spare| {
            assert!(spare.is_spare() && spare.index() == 1 && spare.name() == "heist-spare-0");
            match way {
                0 => Err(io::Error::other("no more threads")),
                1 => intended_panic(),
                _ => {
                    drop(spare);
                    Ok(())
                }
            }
        }));
        let (actor, other) = (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
        assert_eq!(inside(&actor, |_, _| blocking(|| 7)), 7);
        // Not tried again at once.
        assert_eq!(inside(&actor, |_, _| blocking(|| 8)), 8);
        let (refused, ask) = inside(&actor, move |_, _| {
            let mut ask = other.ask(Note(1)).unwrap();
            (ask.wait().unwrap_err(), ask)
        });
        assert_eq!(refused, AskError::NoSpare);
        assert_eq!(answer(ask), Ok(1));
        let stats = executor.stats().spares;
        assert_eq!((stats.alive, stats.kept, stats.refused), (0, 2, 1));
        let why = ["no more threads", INTENDED, "the spare handler gave it up"][way];
        let events = events.all();
        assert!(
            matches!(&*events, [Event::SpareFailed { error, .. }] if error == why),
            "{events:?}"
        );
        shut_down(&executor);
    }
}

/// A wait inside `blocking` that has kept its worker's slot follows the usual rules.
#[test]
fn a_wait_inside_of_blocking_without_a_spare_is_refused_too() {
    for policy in POLICIES {
        let executor = with_spares(1, policy, 0);
        let (actor, other) = (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
        let (refused, ask) = inside(&actor, move |_, _| {
            let mut ask = other.ask(Note(1)).unwrap();
            (blocking(|| ask.wait().unwrap_err()), ask)
        });
        assert_eq!(refused, AskError::NoSpare);
        assert_eq!(answer(ask), Ok(1));
        shut_down(&executor);
        // With a sibling the wait is allowed, unless only this worker may run the work waited for.
        let executor = with_spares(2, policy, 0);
        let (actor, other) = (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
        let waited = inside(&actor, move |_, _| blocking(|| other.ask(Note(1)).unwrap().wait()));
        match waited {
            Ok(n) => assert_eq!((n, policy != Policy::Sharded), (1, true)),
            Err(error) => assert_eq!((error, policy), (AskError::NoSpare, Policy::Sharded)),
        }
        shut_down(&executor);
    }
}

#[test]
fn spares_are_started_by_their_handler() {
    let started = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&started);
    let executor = build(
        Executor::builder()
            .workers(2)
            .thread_name("mine")
            .stack_size(1 << 20)
            .spawn_handler(|worker| {
                assert!(!worker.is_spare());
                thread::Builder::new().name(worker.name().into()).spawn(|| worker.run()).map(drop)
            })
            .spare_handler(move |spare| {
                assert_eq!(spare.name(), format!("mine-spare-{}", spare.index() - 2));
                assert_eq!(spare.stack_size(), 1 << 20);
                counted.fetch_add(1, Relaxed);
                thread::Builder::new().name(spare.name().into()).spawn(|| spare.run()).map(drop)
            }),
    );
    let actors: Vec<_> = (0..4).map(|_| executor.spawn(Puppet::default())).collect();
    let held: Vec<_> = actors.iter().map(blocked).collect();
    assert!(started.load(Relaxed) >= 2);
    let other = executor.spawn(Puppet::default());
    let name = inside(&other, |_, _| thread::current().name().map(String::from));
    assert!(name.unwrap().starts_with("mine-spare-"), "all others block");
    drop(held);
    shut_down(&executor);
}

#[test]
fn settings_of_spares_are_checked() {
    let error = Executor::builder().max_spares(4097).build().unwrap_err();
    assert!(matches!(error, BuildError::Spares(4097)));
    assert_eq!(error.to_string(), "executor not built: it may have 0 to 4096 spares, not 4097");
    let own = || {
        Executor::builder().workers(1).spawn_handler(|worker| {
            thread::spawn(|| worker.run());
            Ok(())
        })
    };
    let error = own().max_spares(1).build().unwrap_err();
    assert!(matches!(error, BuildError::SparesWithoutHandler));
    // An executor with user-started threads has no spares unless the user starts them.
    let executor = build(own());
    let actor = executor.spawn(Puppet::default());
    assert_eq!(inside(&actor, |_, _| blocking(|| 1)), 1);
    assert_eq!(executor.stats().spares.kept, 1);
    shut_down(&executor);
}

/// Many outside threads wait for handlers that block, some longer than others. Threads leave slots,
/// return and leave again, several from one slot. Each slot always has a thread.
#[test]
fn places_are_left_and_taken_back_by_several_threads() {
    let blocks = |long: bool| {
        move |_: &mut Puppet, _: &mut Context<Puppet>| {
            blocking(|| match long {
                true => thread::sleep(Duration::from_micros(200)),
                false => (0..200).for_each(|_| std::hint::spin_loop()),
            });
        }
    };
    for workers in [1, 2] {
        let executor = with_spares(workers, Policy::Stealing, 64);
        let actors: Vec<_> = (0..4).map(|_| executor.spawn(Puppet::default())).collect();
        let asker = |asker: usize| {
            let actors = actors.clone();
            move || {
                for n in 0..500 {
                    let which = (asker + n) % actors.len();
                    let ask = actors[which].ask(Run(blocks(which == 0))).unwrap();
                    futures::executor::block_on(ask).unwrap(); // awaited, because a blocking wait spins first
                }
            }
        };
        let askers: Vec<_> = (0..64).map(|n| thread::spawn(asker(n))).collect();
        within(LONG, "everybody is answered", || {
            askers.iter().all(thread::JoinHandle::is_finished)
        });
        askers.into_iter().for_each(|asker| asker.join().unwrap());
        shut_down(&executor);
    }
}

/// Checks what `Builder::max_spares` says about many handlers that wait at the same time.
#[test]
fn as_many_handlers_wait_at_once_as_there_are_spares() {
    let (handlers, workers) = (100, 2);
    for spares in [8, handlers] {
        let executor = build(Executor::builder().workers(workers).max_spares(spares));
        let slow = executor.spawn(Puppet::default());
        // This turn blocks as well and takes one spare.
        let held = Held::hold_blocking(&slow);
        let asks: Vec<_> = (0..handlers)
            .map(|n| {
                let (slow, waits) = (slow.clone(), executor.spawn(Puppet::default()));
                let wait = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
                    match slow.ask(Note(n as u64)).unwrap().wait() {
                        Ok(_) => true,
                        Err(error) => {
                            assert_eq!(error, AskError::NoSpare);
                            assert!(
                                error.to_string().contains("Builder::max_spares"),
                                "the remedy: {error}"
                            );
                            false
                        }
                    }
                });
                waits.ask(wait).unwrap()
            })
            .collect();
        let most = (spares - 1 + workers - 1).min(handlers);
        within(LONG, "they wait, or are refused", || {
            let refused = asks.iter().filter(|ask| ask.is_ready()).count();
            executor.waits().len() + refused == handlers
        });
        held.release();
        let waited =
            asks.into_iter().map(|ask| answer(ask).unwrap()).filter(|&waited| waited).count();
        assert!(
            (spares - 1..=most).contains(&waited),
            "{waited} of {handlers} with {spares} spares"
        );
        shut_down(&executor);
    }
}

/// The end of a spare that nobody needs is told once, by its own thread, which tells nothing more.
#[test]
fn the_end_of_each_spare_is_told_once_and_last() {
    const SPARES: usize = 3;
    for policy in POLICIES {
        for stay in [Duration::from_millis(1), Duration::from_secs(3_600)] {
            let told = Arc::new(std::sync::Mutex::new(Vec::new()));
            let theirs = Arc::clone(&told);
            let hook = move |event: &Event| {
                theirs.lock().unwrap().push((thread::current().id(), event.clone()))
            };
            let builder = Executor::builder()
                .workers(2)
                .policy(policy)
                .max_spares(SPARES)
                .spare_keep_alive(stay);
            let executor = build(builder.on_event(hook));
            for _ in 0..3 {
                let actors: Vec<_> = (0..10).map(|_| executor.spawn(Puppet::default())).collect();
                let held: Vec<_> = actors.iter().map(blocking_soon).collect();
                within(LONG, "all spares are in use", || {
                    executor.stats().spares.alive == SPARES as u64
                });
                drop(held);
                settle(&executor);
                if stay < Duration::from_secs(1) {
                    within(LONG, "the spares end", || executor.stats().spares.alive == 0);
                }
            }
            shut_down(&executor);
            let told = std::mem::take(&mut *told.lock().unwrap());
            let count =
                |wanted: fn(&Event) -> bool| told.iter().filter(|(_, event)| wanted(event)).count();
            let started = count(|event| matches!(event, Event::SpareStarted { .. }));
            let ended = count(|event| matches!(event, Event::SpareEnded { .. }));
            // Those that are left at the crew's end are not told.
            let short = stay < Duration::from_secs(1);
            if short {
                // A spare may end before the last of its round starts, which then needs one more.
                assert!(started >= 3 * SPARES && ended == started, "{told:?}");
            } else {
                assert_eq!((started, ended), (SPARES, 0), "{told:?}");
            }
            assert_eq!(told.len(), started + ended, "{told:?}");
            for (at, (thread, event)) in told.iter().enumerate() {
                if let Event::SpareEnded { spares, .. } = event {
                    assert!(*spares < SPARES, "its own end is counted");
                    let later = told[at + 1..].iter().find(|(other, _)| other == thread);
                    assert_eq!(later, None, "a thread that has ended tells nothing more");
                }
            }
            assert_eq!(executor.stats().spares.alive, 0);
        }
    }
}

/// Every handler blocks, so the slots go from thread to thread and no turn is over on the thread
/// that began it with its slot. Timers fire all the same.
#[test]
fn timers_fire_while_every_handler_gives_its_slot_away() {
    const TICKS: usize = 50;
    struct Clock {
        ticks: usize,
        enough: Latch,
    }
    struct Tick;
    impl heist::Actor for Clock {
        fn started(&mut self, ctx: &mut Context<Self>) {
            ctx.tell_every(
                Duration::from_millis(1),
                heist::timer::IntervalMode::FixedDelay,
                |_| Tick,
            )
            .unwrap()
            .detach();
        }
    }
    impl heist::Handler<Tick> for Clock {
        type Reply = ();
        fn handle(&mut self, _: Tick, _: &mut Context<Self>) {
            blocking(thread::yield_now);
            self.ticks += 1;
            if self.ticks == TICKS {
                self.enough.open();
            }
        }
    }
    type Next = Box<dyn FnOnce(&mut Puppet, &mut Context<Puppet>) + Send>;
    /// Passes itself on, blocking each time, until there were enough ticks.
    fn pass_on(me: &mut Puppet, ctx: &mut Context<Puppet>, enough: Latch) {
        blocking(thread::yield_now);
        me.log.clear();
        if !enough.is_open() {
            let next = move |me: &mut Puppet, ctx: &mut Context<Puppet>| pass_on(me, ctx, enough);
            // Boxed, or the closure's type would contain itself.
            ctx.me().tell(Run(Box::new(next) as Next)).unwrap();
        }
    }
    for policy in POLICIES {
        for workers in [1, 2] {
            let executor = with_spares(workers, policy, 16);
            let enough = Latch::new();
            // Some block all the time, some again and again.
            let actors: Vec<_> = (0..8).map(|_| executor.spawn(Puppet::default())).collect();
            for (n, actor) in actors.iter().enumerate() {
                let enough = enough.clone();
                let run = move |me: &mut Puppet, ctx: &mut Context<Puppet>| match n % 2 {
                    0 => blocking(|| enough.wait()),
                    _ => pass_on(me, ctx, enough),
                };
                actor.tell(Run(run)).unwrap();
            }
            let clock = executor.spawn(Clock { ticks: 0, enough: enough.clone() });
            enough.wait();
            clock.stop();
            settle(&executor);
            shut_down(&executor);
        }
    }
}
