//! Tests the effect of `mem::forget` on each public guard and future, which is always safe and as
//! documented.

mod common;

use common::*;
#[cfg(feature = "pool")]
use heist::strategy::ToIndex;
use heist::{Actor, ActorRef, AskError, Batch, Context, Executor, Handler, Receive, Reply};
use std::future::Future;
use std::mem::forget;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

/// Forgets its messages, replies and batches.
struct Forgetful;

impl Actor for Forgetful {}

struct Job(u64);

impl Receive<Job> for Forgetful {
    type Reply = u64;
    const BATCH: usize = 8;
    fn receive(&mut self, job: Job, reply: Reply<u64>, _: &mut Context<Self>) {
        reply.send(job.0);
    }
    fn receive_batch(&mut self, mut batch: Batch<'_, Job, u64>, ctx: &mut Context<Self>) {
        if batch.size_hint().0 == 1 {
            forget(batch);
        } else if let Some((job, reply)) = batch.next() {
            self.receive(job, reply, ctx);
        }
    }
}

struct Lose;

impl Receive<Lose> for Forgetful {
    type Reply = u64;
    fn receive(&mut self, _: Lose, reply: Reply<u64>, _: &mut Context<Self>) {
        forget(reply);
    }
}

/// Makes the actor prepay a job: by `tell_self`, or as the notice of room in another mailbox.
enum Prepay {
    Again,
    Notice(ActorRef<Puppet>),
}

impl Handler<Prepay> for Forgetful {
    type Reply = bool;
    fn handle(&mut self, prepay: Prepay, ctx: &mut Context<Self>) -> bool {
        match prepay {
            Prepay::Again => ctx.tell_self(Job(0)).is_ok(),
            Prepay::Notice(target) => ctx.when_room(&target, Job(0)).is_ok(),
        }
    }
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut TaskContext::from_waker(Waker::noop()))
}

#[test]
fn a_forgotten_ask_is_handled_all_the_same() {
    let executor = crew(1);
    let puppet = executor.spawn(Puppet::default());
    forget(puppet.ask(Note(7)).unwrap());
    assert_eq!(log_of(&puppet, 1), [7]);
    shut_down(&executor);
}

#[test]
fn a_forgotten_reply_leaves_its_asker_waiting_and_holds_up_nobody_else() {
    let executor = crew(1);
    let actor = executor.spawn(Forgetful);
    let mut ask = actor.ask(Lose).unwrap();
    settle(&executor);
    let error = ask.wait_timeout(Duration::from_millis(1)).unwrap_err();
    assert_eq!(error, AskError::TimedOut);
    // A callback without an answer never runs, and keeps its actor until the actor is stopped.
    let asker = executor.spawn(Puppet::default());
    inside(&asker, move |_, ctx| {
        ctx.ask_then(&actor, Lose, |_, _, _| unreachable!("no answer")).unwrap()
    });
    settle(&executor);
    let weak = asker.downgrade();
    drop(asker);
    settle(&executor);
    assert!(weak.upgrade().is_some());
    shut_down(&executor);
}

#[test]
fn a_forgotten_sending_stays_in_line() {
    let executor = crew(1);
    let puppet = executor.build(Puppet::default()).capacity(1).spawn();
    let held = Held::hold(&puppet);
    while puppet.tell(Note(1)).is_ok() {}
    let mut sending = puppet.send_async(Note(2));
    assert!(poll(&mut sending).is_pending());
    forget(sending);
    forget(puppet.send_async(Note(3))); // not polled, so not sent
    held.release();
    settle(&executor);
    assert_eq!(inside(&puppet, |puppet, _| puppet.log.last().copied()), Some(2));
    shut_down(&executor);
}

#[cfg(feature = "pool")]
#[test]
fn a_forgotten_pool_sending_stays_in_line_and_keeps_its_pool() {
    let executor = crew(1);
    let pool = executor.pool(1, |_| Puppet::default()).capacity(1).build().unwrap();
    let replica = pool.replica(0).unwrap();
    let held = Held::hold(&replica);
    while pool.tell(ToIndex(0), Note(1)).is_ok() {}
    let mut sending = pool.send_async(ToIndex(0), Note(2));
    assert!(poll(&mut sending).is_pending());
    forget(sending);
    held.release();
    settle(&executor);
    assert_eq!(inside(&replica, |puppet, _| puppet.log.last().copied()), Some(2));
    drop(pool);
    settle(&executor);
    assert!(replica.is_running(), "the forgotten handle keeps the pool");
    shut_down(&executor);
}

#[test]
fn a_forgotten_timer_goes_its_way() {
    let executor = crew(1);
    let puppet = executor.spawn(Puppet::default());
    forget(puppet.tell_after(Duration::from_millis(1), Note(5)).unwrap());
    forget(puppet.tell_after(Duration::from_secs(3600), Note(6)).unwrap());
    assert_eq!(log_of(&puppet, 1), [5]);
    shut_down(&executor);
}

#[test]
fn a_forgotten_batch_leaves_its_first_asker_waiting_and_the_rest_in_the_mailbox() {
    let executor = crew(1);
    let actor = executor.spawn(Forgetful);
    let mut ask = actor.ask(Job(1)).unwrap();
    settle(&executor);
    assert!(ask.wait_timeout(Duration::from_millis(1)).is_err());
    actor.tell(Job(2)).unwrap();
    settle(&executor);
    shut_down(&executor);
}

/// The crew and the actor must not wait for a future that is never polled again.
/// A prepaid message counts as come to when the turn takes it, so a forgotten batch takes nothing
/// from the mailbox's bound and from the actor's next `tell_self`.
#[test]
fn a_forgotten_batch_of_a_prepaid_message_leaves_no_room_behind() {
    const CAPACITY: usize = 2;
    for timed in [false, true] {
        let executor = crew(1);
        let builder = executor.build(Forgetful).capacity(CAPACITY);
        #[cfg(feature = "timing")]
        let builder = builder.timing(timed);
        let forgetful = builder.spawn();
        let target = executor.spawn(Puppet::default());
        for _ in 0..10 {
            assert!(answer(forgetful.ask(Prepay::Again).unwrap()).unwrap(), "timed: {timed}");
            settle(&executor);
            assert!(answer(forgetful.ask(Prepay::Notice(target.clone())).unwrap()).unwrap());
            settle(&executor);
        }
        let held = Held::hold(&target); // occupies the only worker
        let accepted = (0..50).take_while(|_| forgetful.tell(Job(0)).is_ok()).count();
        assert_eq!(accepted, CAPACITY, "timed: {timed}");
        held.release();
        shut_down(&executor);
    }
}

#[test]
fn forgotten_waits_keep_nobody_waiting() {
    let executor = crew(1);
    let puppet = executor.spawn(Puppet::default());
    let (mut stopped, mut idle) = (puppet.wait_stopped_async(), executor.wait_idle_async());
    assert!(poll(&mut stopped).is_pending());
    let _ = poll(&mut idle);
    forget((stopped, idle));
    let handle = executor.handle();
    forget(executor.shutdown_async(Duration::from_secs(LONG)));
    within(LONG, "the shutdown goes on", || handle.last_report().is_some());
    assert!(handle.last_report().unwrap().complete);
}

#[test]
fn a_forgotten_executor_goes_on() {
    let executor = crew(1);
    let puppet = executor.spawn(Puppet::default());
    forget(executor);
    assert_eq!(answer(puppet.ask(Note(3)).unwrap()), Ok(3));
}

/// A worker that never runs cannot end, so only the deadline ends the shutdown.
#[test]
fn a_forgotten_worker_is_missed_until_the_deadline() {
    let mut first = true;
    let executor = build(Executor::builder().workers(2).spawn_handler(|worker| {
        if std::mem::take(&mut first) {
            forget(worker);
        } else {
            std::thread::spawn(|| worker.run());
        }
        Ok(())
    }));
    let report = executor.shutdown_now(Duration::from_millis(50)).unwrap();
    assert!(!report.complete);
    forget(executor); // its drop would wait for 5 s
}
