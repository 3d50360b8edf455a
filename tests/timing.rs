//! Tests timing statistics: wait and handling times are counted in full for each timed actor and
//! worker, for every kind of message, and not at all for other actors. `timing_waits.rs` tests the
//! instant from which a message waits.
//!
//! Times are bounded only from below, by delays that the tests cause. No test asserts that anything
//! is quick.

mod common;

use common::times::*;
use common::*;
use heist::stats::{CrewTiming, DurationStats};
use heist::*;
use std::time::{Duration, Instant};

#[test]
fn every_handled_message_is_counted_once_for_its_actor_and_its_worker() {
    on_every_crew(|executor| {
        let actors: Vec<_> = (0..5).map(|_| timed(executor)).collect();
        for n in 0..1000 {
            actors[n as usize % 5].tell(Note(n)).unwrap();
        }
        settle(executor);
        let (mut wait, mut handling) = (Duration::ZERO, Duration::ZERO);
        for actor in &actors {
            let timing = assert_complete(actor);
            assert_eq!(timing.handling.count, 200);
            wait += timing.wait.total;
            handling += timing.handling.total;
        }
        let stats = executor.stats();
        let all = stats.timing.expect("timed actors had turns");
        assert_eq!((all.wait.count, all.handling.count), (1000, 1000));
        assert_eq!((all.wait.total, all.handling.total), (wait, handling), "the same samples");
        assert_eq!(all.queued.count, stats.workers.iter().map(|worker| worker.turns).sum::<u64>());
        [all.queued, all.wait, all.handling].iter().for_each(assert_sound);
        let workers: Vec<CrewTiming> =
            stats.workers.iter().filter_map(|worker| worker.timing).collect();
        assert_eq!(workers.iter().map(|timing| timing.handling.count).sum::<u64>(), 1000);
        assert_eq!(workers.iter().map(|timing| timing.queued.count).sum::<u64>(), all.queued.count);
        assert_eq!(workers.iter().map(|timing| timing.wait.total).sum::<Duration>(), wait);
        assert_eq!(workers.iter().map(|timing| timing.handling.max).max(), Some(all.handling.max));
    });
}

#[test]
fn a_handler_that_takes_long_has_taken_so_long() {
    let executor = crew(2);
    let actor = timed(&executor);
    for _ in 0..3 {
        actor.tell(Spin(D)).unwrap();
    }
    actor.tell(Spin(Duration::ZERO)).unwrap();
    settle(&executor);
    let handling = assert_complete(&actor).handling;
    assert!(handling.total >= 3 * D && handling.max >= D && handling.p50 >= D, "{handling:?}");
    assert!(handling.mean() >= D * 3 / 4);
}

#[test]
fn a_message_behind_a_long_handler_has_waited_so_long() {
    let executor = crew(2);
    let actor = timed(&executor);
    let held = Held::hold(&actor);
    for _ in 0..100 {
        actor.tell(Note(0)).unwrap();
    }
    spin(D);
    drop(held);
    settle(&executor);
    let timing = assert_complete(&actor);
    assert_eq!(timing.wait.count, 101);
    assert!(timing.wait.p50 >= D && timing.wait.total >= 100 * D, "{timing:?}");
    assert!(timing.handling.max >= D, "the one that held it");
}

/// Fills a turn's own stack of samples more than once, with a budget that cuts the messages into
/// turns.
#[test]
fn long_turns_and_short_ones_are_counted_alike() {
    for budget in [1, 31, 32, 33, 4096] {
        let executor = crew(1);
        let actor = executor
            .build(Puppet::default())
            .unbounded()
            .budget_messages(budget)
            .timing(true)
            .spawn();
        let held = Held::hold(&actor);
        (0..500).for_each(|n| actor.tell(Note(n)).unwrap());
        drop(held);
        settle(&executor);
        assert_eq!(assert_complete(&actor).wait.count, 501);
    }
}

#[test]
fn nothing_is_measured_where_it_is_off() {
    let executor = crew(2);
    let actor = executor.spawn(Puppet::default());
    assert_eq!(answer(actor.ask(Age).unwrap()), Ok(None));
    actor.tell(Spin(D)).unwrap();
    settle(&executor);
    assert_eq!(actor.timing(), None);
    assert_eq!(executor.stats().timing, None);
    assert!(executor.stats().workers.iter().all(|worker| worker.timing.is_none()));
    let busiest = &executor.top(1).busiest[0];
    assert_eq!((busiest.id, busiest.handled, busiest.handling), (actor.id(), 2, None));
}

#[test]
fn all_actors_of_an_executor_are_timed_or_single_ones() {
    let executor = build(Executor::builder().workers(2).timing(true));
    let (all, but_one) = (
        executor.spawn(Puppet::default()),
        executor.build(Puppet::default()).timing(false).spawn(),
    );
    let child = inside(&all, |_, ctx| ctx.spawn(Puppet::default()));
    for actor in [&all, &but_one, &child] {
        actor.tell(Note(1)).unwrap();
    }
    settle(&executor);
    assert_eq!(assert_complete(&all).wait.count, 2);
    assert_eq!(assert_complete(&child).wait.count, 1);
    assert_eq!(but_one.timing(), None);
    assert_eq!(executor.stats().timing.unwrap().handling.count, 3);
}

/// Timed and untimed actors tell, ask and answer each other. Each message takes the form that its
/// receiver needs.
#[test]
fn timed_and_untimed_actors_mix() {
    on_every_crew(|executor| {
        let (timed, plain) =
            (timed(executor), executor.build(Puppet::default()).unbounded().spawn());
        for (from, to) in [(&timed, &plain), (&plain, &timed)] {
            let to = to.clone();
            let asked = inside(from, move |_, ctx| {
                (0..100).for_each(|n| to.tell(Note(n)).unwrap());
                ctx.ask_then(&to, Note(100), |me, answer, _| me.log.push(answer.unwrap())).unwrap();
                to.ask(Note(101)).unwrap()
            });
            assert_eq!(answer(asked), Ok(101));
        }
        settle(executor);
        assert_eq!((timed.stats().handled, plain.stats().handled), (104, 104));
        assert_complete(&timed);
        assert_eq!(plain.timing(), None);
    });
}

/// Sent in every possible way, each behind a slow handler.
#[test]
fn every_kind_of_message_waits_and_is_handled() {
    const WAYS: u64 = 12;
    let executor = crew(2);
    let (actor, other) = (timed(&executor), timed(&executor));
    let target = other.clone();
    let timers = inside(&actor, move |_, ctx| {
        ctx.tell_self(Age).unwrap(); // 1
        ctx.ask_then(&target, Note(0), |me, answer, ctx| {
            me.kept.push(Box::new((answer, ctx.message_age()))); // 2
        })
        .unwrap();
        ctx.ask_then_deadline(
            &target,
            Note(0),
            Instant::now() + Duration::from_secs(LONG),
            |me, answer, ctx| {
                me.kept.push(Box::new((answer, ctx.message_age()))); // 3
            },
        )
        .unwrap();
        ctx.when_room(&target, Note(0)).unwrap(); // 4: at once
        let one = ctx.tell_after(Duration::ZERO, Note(0)).unwrap(); // 5
        let two = ctx.tell_at(Instant::now(), Note(0)).unwrap(); // 6
        spin(D);
        (one, two)
    });
    within(LONG, "timers, callbacks and the rest", || actor.stats().handled == 7);
    let far = Instant::now() + Duration::from_secs(LONG);
    let held = Held::hold(&actor);
    actor.tell(Note(0)).unwrap(); // 7
    actor.recipient().tell(Note(0)).unwrap(); // 8
    actor.send(Note(0)).unwrap(); // 9
    let asks = [
        actor.ask(Age).unwrap(),                // 10
        actor.ask_deadline(Age, far).unwrap(),  // 11
        actor.asker::<Age>().ask(Age).unwrap(), // 12
    ];
    spin(D);
    drop(held);
    for ask in asks {
        let age = answer(ask).unwrap().expect("timed");
        assert!(age >= D, "{age:?} old, having waited behind a handler of {D:?}");
    }
    settle(&executor);
    // The message that armed, the message that held, and the counted ones.
    assert_eq!(assert_complete(&actor).wait.count, WAYS + 2);
    assert!(timing(&actor).wait.total >= 9 * D, "{:?}", timing(&actor));
    assert_complete(&other);
    drop(timers);
    let ages = inside(&actor, |me, _| {
        let of = |kept: Box<dyn std::any::Any + Send>| {
            *kept.downcast::<(Result<u64, AskError>, Option<Duration>)>().unwrap()
        };
        me.kept.drain(..).map(of).collect::<Vec<_>>()
    });
    assert_eq!(ages.len(), 2);
    assert!(ages.iter().all(|(answer, age)| *answer == Ok(0) && age.is_some()));
}

#[test]
fn what_expired_or_was_cancelled_is_not_counted() {
    let executor = crew(2);
    let actor = timed(&executor);
    let held = Held::hold(&actor);
    let expired = actor.ask_deadline(Note(1), Instant::now()).unwrap();
    let timer = actor.tell_after(Duration::ZERO, Note(2)).unwrap();
    within(LONG, "the tick is due", || actor.len() == 3);
    assert!(timer.cancel());
    drop(held);
    assert_eq!(answer(expired), Err(AskError::Expired));
    settle(&executor);
    assert_eq!(executor.stats().dead_letters.total(), 2);
    assert_eq!(assert_complete(&actor).handling.count, 1);
}

#[test]
fn a_handler_that_panics_is_counted() {
    quiet_panics();
    on_every_crew(|executor| {
        let actor = timed(executor);
        actor.tell(Note(1)).unwrap();
        let failing = actor.ask(Run(|_: &mut Puppet, _: &mut Context<Puppet>| {
            spin(D);
            intended_panic();
        }));
        answer(failing.unwrap()).unwrap_err();
        assert!(matches!(ended(&actor), StopReason::Panicked(_)));
        settle(executor);
        let timing = assert_complete(&actor);
        assert_eq!(timing.handling.count, 2);
        assert!(timing.handling.max >= D);
        assert_eq!(executor.stats().timing.unwrap().handling, timing_of(executor));
    });

    fn timing_of(executor: &Executor) -> DurationStats {
        executor.stats().timing.unwrap().handling
    }
}

/// The turn goes on without its worker's slot, and the message is counted all the same.
#[test]
fn a_handler_that_blocks_is_counted() {
    on_every_crew(|executor| {
        let actor = timed(executor);
        for _ in 0..3 {
            actor
                .tell(Run(|_: &mut Puppet, ctx: &mut Context<Puppet>| {
                    blocking(|| spin(D / 10));
                    assert!(ctx.message_age() >= Some(D / 10));
                }))
                .unwrap();
            actor.tell(Note(1)).unwrap();
        }
        settle(executor);
        let timing = assert_complete(&actor);
        assert_eq!(timing.handling.count, 6);
        assert!(timing.handling.total >= D * 3 / 10);
        assert_eq!(executor.stats().timing.unwrap().handling.total, timing.handling.total);
    });
}

/// Messages discarded at an actor's end were not handled and do not count.
#[test]
fn dead_letters_are_not_counted() {
    let executor = crew(2);
    let actor = timed(&executor);
    let held = Held::hold(&actor);
    (0..100).for_each(|n| actor.tell(Note(n)).unwrap());
    actor.stop_now();
    drop(held);
    ended(&actor);
    settle(&executor);
    assert_eq!(executor.stats().dead_letters.killed, 100);
    assert_eq!(assert_complete(&actor).handling.count, 1);
}

/// Any thread may read while turns run.
#[test]
fn timing_can_be_read_at_any_time() {
    let executor = crew(2);
    let actor = timed(&executor);
    let held = Held::hold(&actor);
    assert_eq!(timing(&actor).handling.count, 0, "the handler runs, and nobody waits for it");
    drop(held);
    let reading = std::thread::spawn({
        let (actor, handle) = (actor.clone(), executor.handle());
        move || {
            let mut last = 0;
            while last < 10_000 {
                let handling = timing(&actor).handling;
                assert!(handling.count >= last, "counts grow");
                assert_sound(&handling);
                last = handling.count;
                let _ = (handle.stats(), handle.top(3));
            }
        }
    });
    for n in 0..10_000 {
        actor.tell(Note(n)).unwrap();
    }
    settle(&executor);
    reading.join().unwrap();
    // Readable inside the actor's own handler too, which holds no lock.
    let inside = inside(&actor, |_, ctx| {
        (ctx.me().timing(), ctx.handle().top(1), ctx.handle().stats().handled)
    });
    assert!(inside.0.unwrap().handling.count > 10_000);
    assert_eq!(inside.1.busiest.len(), 1);
}
