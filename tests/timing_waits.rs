//! Tests from which instant a message waits and an actor is queued, and how old a message is.
//!
//! Times are bounded by delays that the tests cause. No test asserts that anything is quick.

mod common;

use common::times::*;
use common::*;
use heist::timer::IntervalMode;
use heist::*;
use std::future::Future;
use std::task::Waker;
use std::time::{Duration, Instant};

/// The wait of a message begins when the message gets its place in the mailbox, not when its sender
/// begins to wait for room.
#[test]
fn waiting_for_room_does_not_count_as_waiting_in_the_mailbox() {
    let executor = crew(2);
    let actor = executor.build(Puppet::default()).capacity(1).timing(true).spawn();
    let began = Instant::now();
    let held = Held::hold(&actor); // one message in hand, so the mailbox is full
    let first_waited = began.elapsed();
    let mut sending = actor.send_async(Age);
    let poll =
        std::pin::Pin::new(&mut sending).poll(&mut std::task::Context::from_waker(Waker::noop()));
    assert!(poll.is_pending(), "it waits in line");
    spin(10 * D);
    let released = Instant::now();
    drop(held);
    futures::executor::block_on(sending).unwrap();
    settle(&executor);
    let wait = assert_complete(&actor).wait;
    assert!(wait.total <= first_waited + released.elapsed(), "{wait:?}");
}

#[test]
fn a_tick_waits_from_when_it_was_due() {
    let executor = crew(2);
    let actor = timed(&executor);
    let held = Held::hold(&actor);
    let due = Instant::now() + D;
    let once = actor
        .tell_at(due, Run(|_: &mut Puppet, ctx: &mut Context<Puppet>| ctx.message_age()))
        .unwrap();
    let (sender, ages) = std::sync::mpsc::channel();
    let every = actor
        .tell_every(D, IntervalMode::FixedRate, move |tick| {
            let sender = sender.clone();
            Run(move |_: &mut Puppet, ctx: &mut Context<Puppet>| {
                // In this order, so that the age is the larger of the two if both count from the
                // same instant.
                let since = Instant::now() - tick.due;
                sender.send((since, ctx.message_age().expect("timed"))).unwrap();
            })
        })
        .unwrap();
    within(LONG, "both are due", || Instant::now() > due + 2 * D && actor.len() == 3);
    drop(held);
    let (since, age) = ages.recv_timeout(Duration::from_secs(LONG)).unwrap();
    assert!(since >= D && age >= since, "{since:?} after it was due it is {age:?} old");
    drop((once, every));
    settle(&executor);
    let wait = assert_complete(&actor).wait;
    assert!(wait.max >= D && wait.total >= 2 * D, "{wait:?}");
}

/// No message can have waited for a timer before the timer was armed.
#[test]
fn a_tick_does_not_wait_from_before_it_was_armed() {
    let executor = crew(1);
    let actor = timed(&executor);
    let began = Instant::now();
    let Some(long_ago) = began.checked_sub(Duration::from_secs(60)) else { return }; // the clock may be younger than a minute
    let timer = actor.tell_at(long_ago, Note(1)).unwrap();
    within(LONG, "it fires", || actor.stats().handled == 1);
    timer.detach();
    settle(&executor);
    assert!(assert_complete(&actor).wait.max <= began.elapsed());
}

#[test]
fn a_message_knows_its_age_and_grows_older() {
    let executor = crew(2);
    let actor = timed(&executor);
    let held = Held::hold(&actor);
    let aging = actor
        .ask(Run(|_: &mut Puppet, ctx: &mut Context<Puppet>| {
            let before = ctx.message_age();
            spin(D);
            (before, ctx.message_age())
        }))
        .unwrap();
    spin(D);
    drop(held);
    let (before, after) = answer(aging).unwrap();
    assert!(before >= Some(D) && after >= before.map(|before| before + D), "{before:?}, {after:?}");
}

/// There is no message yet in `started`.
#[test]
fn a_start_is_no_message() {
    struct Starting(std::sync::mpsc::Sender<Option<Duration>>);
    impl Actor for Starting {
        fn started(&mut self, ctx: &mut Context<Self>) {
            spin(D);
            self.0.send(ctx.message_age()).unwrap();
        }
    }
    impl Handler<Age> for Starting {
        type Reply = ();
        fn handle(&mut self, _: Age, _: &mut Context<Self>) {}
    }
    let executor = crew(1);
    let (sender, ages) = std::sync::mpsc::channel();
    let (blocker, release) = (executor.spawn(Puppet::default()), Latch::new());
    let held = Held::hold(&blocker);
    let actor = executor.build(Starting(sender)).timing(true).spawn();
    actor.tell(Age).unwrap(); // shares the turn with the start
    drop((held, release));
    settle(&executor);
    assert_eq!(ages.recv(), Ok(None));
    let timing = actor.timing().unwrap();
    assert_eq!((timing.wait.count, timing.handling.count), (1, 1));
    assert!(timing.wait.max >= D, "the start is part of what the message waited for: {timing:?}");
}

#[test]
fn who_becomes_runnable_behind_a_long_turn_is_queued_so_long() {
    for policy in POLICIES {
        let executor = build(Executor::builder().workers(1).policy(policy));
        let blocker = executor.spawn(Puppet::default());
        // With the default budget, a pause of the machine between the two messages ends their turn.
        let one_turn = Duration::from_secs(LONG);
        let actor = executor.build(Puppet::default()).timing(true).budget_time(one_turn).spawn();
        settle(&executor);
        let before = executor.stats().timing.expect("it was started").queued;
        assert_eq!(before.count, 1);
        let held = Held::hold(&blocker);
        actor.tell(Note(1)).unwrap();
        actor.tell(Note(2)).unwrap();
        spin(D);
        drop(held);
        settle(&executor);
        let stats = executor.stats();
        let queued = stats.timing.unwrap().queued;
        assert_eq!(queued.count, 2, "one for each turn");
        assert!(queued.max >= D, "{queued:?}");
        assert_eq!(stats.workers[0].timing.unwrap().queued, queued);
        assert!(timing(&actor).wait.total >= 2 * D - D / 100);
    }
}

/// A turn that ends at its budget is queued again from its end on. An actor is not queued while its
/// handlers run.
#[test]
fn who_goes_on_is_queued_from_the_end_of_its_turn() {
    let executor = crew(1);
    let build = || executor.build(Puppet::default()).budget_messages(1);
    let (actor, other) = (build().timing(true).spawn(), build().spawn());
    settle(&executor);
    let before = executor.stats().timing.unwrap().queued;
    let began = Instant::now();
    let me = actor.clone();
    inside(&actor, move |_, _| {
        (0..3).for_each(|n| me.tell(Note(n)).unwrap());
        spin(10 * D);
        other.tell(Spin(D)).unwrap(); // runs before the others
    });
    settle(&executor);
    let passed = began.elapsed();
    let queued = executor.stats().timing.unwrap().queued;
    assert_eq!(queued.count - before.count, 4, "one message in each turn");
    assert!(queued.max >= D, "it was queued behind the other: {queued:?}");
    let handling = assert_complete(&actor).handling;
    assert!(handling.total >= 10 * D && queued.total - before.total + handling.total <= passed);
}
