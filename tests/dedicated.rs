//! Tests that dedicated actors, each on a thread of its own, keep the promises of all actors.
//! `dedicated_ends.rs` tests their ends.

mod common;

use common::hermits::*;
use common::*;
use heist::event::PanicPlace;
use heist::timer::IntervalMode;
use heist::{Context, Event, Executor, Handler, Refusal, StopReason, WaitError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

#[test]
fn it_is_made_runs_and_is_dropped_on_one_thread_of_its_own() {
    on_every_crew(|executor| {
        let traces: Vec<Traces> = (0..3).map(|_| Traces::default()).collect();
        let hermits: Vec<_> = traces
            .iter()
            .map(|traces| executor.spawn_dedicated(traces.factory()).unwrap())
            .collect();
        for n in 0..100 {
            hermits.iter().for_each(|hermit| hermit.tell(Note(n)).unwrap());
        }
        for hermit in &hermits {
            assert_eq!(answer(hermit.ask(Log).unwrap()).unwrap(), (0..100).collect::<Vec<_>>());
            hermit.stop();
            assert_eq!(ended(hermit), StopReason::Stopped);
        }
        traces.iter().for_each(Traces::assert_all_on_one_thread);
        let threads: Vec<_> = traces.iter().map(|traces| traces.seen.lock().unwrap()[0]).collect();
        assert!(threads[0] != threads[1] && threads[1] != threads[2] && threads[2] != threads[0]);
        threads_gone(executor);
    });
}

#[test]
fn it_has_a_name_a_capacity_and_its_thread_too() {
    let executor = build(Executor::builder().workers(1).thread_name("here").capacity(7));
    let builder = executor.build_dedicated(Traces::default().factory()).name("hermit").capacity(3);
    let hermit = builder.budget_messages(1).try_spawn().unwrap();
    assert_eq!((hermit.name(), hermit.capacity()), (Some("hermit"), Some(3)));
    let name = within_turn(&hermit, |_, _| thread::current().name().map(String::from));
    assert_eq!(name.as_deref(), Some("here-own-0"));
    let other = executor.spawn_dedicated(Traces::default().factory()).unwrap();
    assert_eq!(other.capacity(), Some(7));

    let until = hold(&hermit);
    for n in 0..2 {
        hermit.tell(Note(n)).unwrap();
    }
    let refused = hermit.tell(Note(2)).unwrap_err();
    assert_eq!((refused.refusal(), refused.into_message()), (Refusal::Full, Note(2)));
    until.open();
    settle(&executor);
}

#[test]
fn messages_come_in_order_from_everywhere_and_are_counted() {
    struct Numbered(u64, u64);
    impl Handler<Numbered> for Hermit {
        type Reply = ();
        fn handle(&mut self, Numbered(sender, n): Numbered, _: &mut Context<Self>) {
            self.log.borrow_mut().push(sender << 32 | n);
        }
    }
    const EACH: u64 = 2_000;
    under_every_policy(|executor| {
        let hermit =
            executor.build_dedicated(Traces::default().factory()).unbounded().try_spawn().unwrap();
        let other = executor.spawn_dedicated(Traces::default().factory()).unwrap();
        // From outside, from workers, and from another dedicated thread.
        let inside: Vec<_> = (0..2).map(|_| executor.spawn(Puppet::default())).collect();
        for (sender, puppet) in inside.iter().enumerate() {
            let to = hermit.clone();
            let send = move |_: &mut Puppet, _: &mut Context<Puppet>| {
                (0..EACH).for_each(|n| to.tell(Numbered(sender as u64, n)).unwrap());
            };
            puppet.tell(Run(send)).unwrap();
        }
        let to = hermit.clone();
        let send = move |_: &mut Hermit, _: &mut Context<Hermit>| {
            (0..EACH).for_each(|n| to.tell(Numbered(2, n)).unwrap());
        };
        other.tell(Run(send)).unwrap();
        (0..EACH).for_each(|n| hermit.tell(Numbered(3, n)).unwrap());
        settle(executor);
        let log = answer(hermit.ask(Log).unwrap()).unwrap();
        for sender in 0..4 {
            let from: Vec<u64> = log
                .iter()
                .filter(|&&entry| entry >> 32 == sender)
                .map(|entry| entry & 0xffff_ffff)
                .collect();
            assert_eq!(from, (0..EACH).collect::<Vec<_>>(), "sender {sender}");
        }
        settle(executor); // includes the question above
        assert_eq!(hermit.stats().handled, 4 * EACH + 1);
    });
}

/// Each message needs an answer from the other side, so that both sides sleep and wake again and
/// again.
#[test]
fn p04_it_is_woken_whenever_there_is_something() {
    under_every_policy(|executor| {
        let hermit = executor.spawn_dedicated(Traces::default().factory()).unwrap();
        let other = executor.spawn_dedicated(Traces::default().factory()).unwrap();
        for n in 0..500 {
            assert_eq!(answer(hermit.ask(Note(n)).unwrap()), Ok(n));
            let to = hermit.clone();
            let asked = within_turn(&other, move |_, _| to.ask(Note(n)).unwrap());
            assert_eq!(answer(asked), Ok(n));
        }
    });
}

#[test]
fn p06_a_factory_that_panics_fails_its_actor_with_the_cause() {
    quiet_panics();
    let events = EventLog::new();
    let executor = build(Executor::builder().workers(1).on_event(events.hook()));
    let until = Latch::new();
    let release = until.clone();
    let hermit = executor.spawn_dedicated(move || -> Hermit {
        release.wait();
        intended_panic()
    });
    let hermit = hermit.unwrap();
    let ask = hermit.ask(Note(1)).unwrap();
    hermit.tell(Note(2)).unwrap();
    until.open();
    assert_eq!(cause(ask), INTENDED);
    assert!(matches!(ended(&hermit), StopReason::Panicked(text) if text.to_string() == INTENDED));
    threads_gone(&executor);
    let stats = executor.stats();
    assert_eq!((stats.panicked, stats.dead_letters.panicked, stats.live_actors), (1, 2, 0));
    let place = |event: &Event| matches!(event, Event::Panicked { place: PanicPlace::Started, .. });
    assert_eq!(events.all().iter().filter(|event| place(event)).count(), 1);
    settle(&executor);
}

#[test]
fn wait_idle_covers_it_and_what_it_causes() {
    on_every_crew(|executor| {
        let hermit = executor.spawn_dedicated(Traces::default().factory()).unwrap();
        let until = hold(&hermit);
        let early = executor.wait_idle_timeout(Duration::from_millis(20));
        assert_eq!(early, Err(WaitError::TimedOut), "it is in its turn");
        until.open();
        settle(executor);

        // Messages go back and forth between the hermit, a worker's actor and another hermit until
        // nothing is left to do.
        let handled = Arc::new(AtomicU64::new(0));
        let other = executor.spawn_dedicated(Traces::default().factory()).unwrap();
        for round in 0..100 {
            let puppet = executor.spawn(Puppet::default());
            let (count, far) = (Arc::clone(&handled), other.clone());
            let chain = move |_: &mut Hermit, _: &mut Context<Hermit>| {
                let last = Run(move |_: &mut Hermit, _: &mut Context<Hermit>| {
                    count.fetch_add(1, Relaxed);
                });
                let middle =
                    Run(move |_: &mut Puppet, _: &mut Context<Puppet>| far.tell(last).unwrap());
                puppet.tell(middle).unwrap();
            };
            hermit.tell(Run(chain)).unwrap();
            settle(executor);
            assert_eq!(handled.load(Relaxed), round + 1, "told too early");
        }
        // `wait_idle` covers the factory too.
        let (slow, made) = (Latch::new(), Arc::new(AtomicU64::new(0)));
        let (release, count) = (slow.clone(), Arc::clone(&made));
        let factory = Traces::default().factory();
        let late = executor.spawn_dedicated(move || {
            release.wait();
            count.fetch_add(1, Relaxed);
            factory()
        });
        assert_eq!(executor.wait_idle_timeout(Duration::from_millis(5)), Err(WaitError::TimedOut));
        slow.open();
        settle(executor);
        assert_eq!(made.load(Relaxed), 1);
        drop(late);
    });
}

/// More hermits than workers block in their handlers. No wait is refused, and the crew goes on.
#[test]
fn p07_it_may_wait_inside_its_handlers() {
    under_every_policy(|executor| {
        let answers = executor.spawn(Puppet::default());
        let hermits: Vec<_> = (0..6)
            .map(|_| executor.spawn_dedicated(Traces::default().factory()).unwrap())
            .collect();
        let open = Latch::new();
        let all: Vec<_> = hermits
            .iter()
            .enumerate()
            .map(|(n, hermit)| {
                let (puppet, next, open) =
                    (answers.clone(), hermits.get(n + 1).cloned(), open.clone());
                let waits = Run(move |_: &mut Hermit, _: &mut Context<Hermit>| {
                    open.wait();
                    let mine = puppet.ask(Note(n as u64)).unwrap().wait_timeout(DEADLINE).unwrap();
                    // Hermits wait for one another too, in a chain.
                    next.map_or(Ok(mine), |next| {
                        next.ask(Note(n as u64)).unwrap().wait_timeout(DEADLINE)
                    })
                });
                hermit.ask(waits).unwrap()
            })
            .collect();
        open.open();
        for (n, ask) in all.into_iter().enumerate() {
            assert_eq!(answer(ask).unwrap().unwrap(), n as u64);
        }
    });
}

#[test]
fn p07_what_would_wait_for_itself_is_refused() {
    let executor = crew(1);
    let hermit =
        executor.build_dedicated(Traces::default().factory()).capacity(1).try_spawn().unwrap();
    let me = hermit.clone();
    let handle = executor.handle();
    within_turn(&hermit, move |_, ctx| {
        let refused = handle.wait_idle();
        assert_eq!(refused, Err(WaitError::OnCrew));
        assert_eq!(ctx.me().wait_stopped(), Err(WaitError::OnCrew));
        // The only place of the mailbox belongs to the message in hand.
        let refused = me.send(Note(1)).unwrap_err();
        assert_eq!((refused.refusal(), refused.into_message()), (Refusal::WouldDeadlock, Note(1)));
    });
    let roomy = executor.spawn_dedicated(Traces::default().factory()).unwrap();
    let me = roomy.clone();
    within_turn(&roomy, move |_, _| {
        let refused = me.ask(Note(1)).unwrap().wait().unwrap_err();
        assert!(refused.cycle().is_some(), "{refused}");
    });
    // A dedicated actor may not end its own crew and wait. Dropping the executor there only
    // signals.
    let inner = crew(1);
    let inside = inner.spawn_dedicated(Traces::default().factory()).unwrap();
    let outcome = inside.ask(Run(move |_: &mut Hermit, _: &mut Context<Hermit>| {
        let refused = inner.shutdown(DEADLINE);
        drop(inner);
        refused
    }));
    assert_eq!(answer(outcome.unwrap()).unwrap(), Err(WaitError::OnCrew));
    assert!(matches!(ended(&inside), StopReason::Killed | StopReason::Shutdown));
}

#[test]
fn timers_callbacks_and_notices_of_room_come_to_it() {
    under_every_policy(|executor| {
        let traces = Traces::default();
        let hermit = executor.spawn_dedicated(traces.factory()).unwrap();
        let puppet = executor.build(Puppet::default()).capacity(2).spawn();
        let to = puppet.clone();
        within_turn(&hermit, move |me, ctx| {
            ctx.tell_after(Duration::from_millis(2), Note(1)).unwrap().detach();
            let every = Duration::from_millis(1);
            me.timers.push(
                ctx.tell_every(every, IntervalMode::FixedDelay, |tick| Note(100 + tick.number))
                    .unwrap(),
            );
            ctx.ask_then(&to, Note(2), |me, answer, _| {
                me.note();
                me.log.borrow_mut().push(answer.unwrap());
            })
            .unwrap();
            ctx.when_room(&to, Note(3)).unwrap();
            ctx.tell_self(Note(4)).unwrap();
        });
        hermit.tell_after(Duration::from_millis(1), Note(5)).unwrap().detach();
        within(LONG, "all of it comes", || {
            let log = answer(hermit.ask(Log).unwrap()).unwrap();
            [1, 2, 3, 4, 5].iter().all(|n| log.contains(n))
                && log.iter().filter(|&&n| n > 100).count() >= 3
        });
        within_turn(&hermit, |me, _| me.timers.clear());
        settle(executor);
        hermit.stop();
        ended(&hermit);
        traces.assert_all_on_one_thread();
    });
}

#[test]
fn what_cannot_be_spawned_hands_the_factory_back() {
    // The handler starts the workers' threads. Dedicated threads are started by heist and cannot
    // have a stack of this size.
    let builder = Executor::builder().workers(1).stack_size(1 << 60);
    let handler = |worker: heist::thread::WorkerThread| {
        thread::Builder::new().spawn(|| worker.run()).map(drop)
    };
    let executor = build(builder.spawn_handler(handler));
    let traces = Traces::default();
    let error = executor.spawn_dedicated(traces.factory()).unwrap_err();
    assert!(!error.is_shutting_down());
    assert!(std::error::Error::source(&error).is_some());
    assert!(
        chain(&error).starts_with("actor not spawned: its thread could not be started: "),
        "{error}"
    );
    let hermit = error.into_actor()();
    assert_eq!(traces.tokens.alive(), 1);
    drop(hermit);
    let error = executor.build_dedicated(traces.factory()).capacity(0).try_spawn().unwrap_err();
    assert!(error.to_string().contains("a mailbox for 0 messages"), "{error}");
    assert_eq!((executor.stats().live_actors, executor.stats().dedicated_threads), (0, 0));
    settle(&executor);
}
