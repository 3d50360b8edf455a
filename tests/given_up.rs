//! Tests waits that are given up: a dropped wait leaves nothing behind, and other waits do not pay
//! for it.
//!
//! No time is measured. The tests count wakers: a poll clones one and drops one, however many other
//! waits there are.

mod common;

use common::*;
use heist::timer::IntervalMode;
use heist::{Actor, Context, Handler, Pool, Timer};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{self, Wake, Waker};
use std::time::Duration;

const WAITS: usize = 100_000;

struct Target;
impl Actor for Target {}
struct Hold(Latch, Latch);
impl Handler<Hold> for Target {
    type Reply = ();
    fn handle(&mut self, Hold(inside, until): Hold, _: &mut Context<Self>) {
        inside.open();
        until.wait();
    }
}
impl Handler<Token> for Target {
    type Reply = ();
    fn handle(&mut self, _: Token, _: &mut Context<Self>) {}
}

/// A task of the user's, as seen by its waker.
#[derive(Default)]
struct Task(AtomicUsize);
impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

fn poll<F: Future + Unpin>(future: &mut F, task: &Arc<Task>) -> bool {
    let waker = Waker::from(Arc::clone(task));
    Pin::new(future).poll(&mut task::Context::from_waker(&waker)).is_ready()
}

/// Starts many waits, each with its own task, and polls each twice. Drops every second wait, then
/// the others.
fn give_up<F: Future + Unpin>(begin: impl Fn() -> F) {
    let tasks: Vec<Arc<Task>> = (0..WAITS).map(|_| Arc::default()).collect();
    let mut waits: Vec<Option<F>> = tasks
        .iter()
        .map(|task| {
            let mut wait = begin();
            assert!(!poll(&mut wait, task));
            assert!(!poll(&mut wait, task));
            assert_eq!(Arc::strong_count(task), 2, "one waker for each wait");
            Some(wait)
        })
        .collect();
    for part in [1, 0] {
        waits.iter_mut().skip(part).step_by(2).for_each(|wait| drop(wait.take()));
        for (i, task) in tasks.iter().enumerate() {
            let gone = i % 2 == 1 || part == 0;
            assert_eq!(Arc::strong_count(task), if gone { 1 } else { 2 }, "wait {i}");
        }
    }
    assert!(tasks.iter().all(|task| task.0.load(Relaxed) == 0));
}

/// A dropped wait that stayed in the actor's list would keep its waker and slow down later waits.
#[test]
fn waits_for_an_actors_end() {
    let executor = crew(1);
    let target = executor.spawn(Target);
    give_up(|| target.wait_stopped_async());
    let (task, mut wait) = (Arc::default(), target.wait_stopped_async());
    assert!(!poll(&mut wait, &task));
    target.stop();
    ended(&target);
    within(10, "the waker that is left", || task.0.load(Relaxed) == 1);
    assert!(poll(&mut wait, &task));
    drop(wait);
    assert_eq!(Arc::strong_count(&task), 1);
}

/// The same by weak references. None of the waits keeps the actor.
#[test]
fn weak_waits_for_an_actors_end() {
    let executor = crew(1);
    let target = executor.spawn(Target);
    let (weak, recipient) = (target.downgrade(), target.recipient::<Token>().downgrade());
    give_up(|| weak.wait_stopped_async());
    assert!(target.is_running());
    let (tasks, mut waits) = (
        [Arc::default(), Arc::default()],
        [weak.wait_stopped_async(), recipient.wait_stopped_async()],
    );
    waits.iter_mut().zip(&tasks).for_each(|(wait, task)| assert!(!poll(wait, task)));
    drop((weak, recipient));
    drop(target);
    for (mut wait, task) in waits.into_iter().zip(&tasks) {
        within(10, "the waker that is left", || task.0.load(Relaxed) == 1);
        assert!(poll(&mut wait, task));
        drop(wait);
        assert_eq!(Arc::strong_count(task), 1);
    }
}

#[test]
fn waits_for_a_pools_end() {
    let executor = crew(1);
    let pool: Pool<Target> = executor.pool(2, |_| Target).build().unwrap();
    give_up(|| pool.wait_stopped_async());
    pool.stop();
    pool.wait_stopped().unwrap();
}

/// The shutdown goes on without the future, but must let go of the dropped future's waker.
#[test]
fn a_shutdown_that_nobody_awaits_any_more() {
    let executor = crew(1);
    let target = executor.spawn(Target);
    let (inside, until) = (Latch::new(), Latch::new());
    target.tell(Hold(inside.clone(), until.clone())).unwrap();
    inside.wait();
    let (task, mut shutdown) = (Arc::default(), executor.shutdown_async(Duration::from_secs(60)));
    assert!(!poll(&mut shutdown, &task));
    drop(shutdown);
    assert_eq!(Arc::strong_count(&task), 1);
    until.open();
    ended(&target);
}

/// Senders that wait for room give up at the front, at the end and in between, with other senders
/// in line before and behind.
#[test]
fn waits_for_room() {
    let executor = crew(1);
    let target = executor.build(Target).capacity(2).spawn();
    let tokens = Tokens::new();
    let (inside, until) = (Latch::new(), Latch::new());
    target.tell(Hold(inside.clone(), until.clone())).unwrap();
    inside.wait();
    target.tell(tokens.token()).unwrap();
    let (task, mut first) = (Arc::default(), target.send_async(tokens.token()));
    assert!(!poll(&mut first, &task));
    give_up(|| target.send_async(tokens.token()));
    let mut last = target.send_async(tokens.token());
    assert!(!poll(&mut last, &task));
    assert_eq!(tokens.alive(), 3, "messages were dropped with their waits");
    until.open();
    for mut wait in [first, last] {
        within(10, "those that stayed", || poll(&mut wait, &task));
    }
    settle(&executor);
    assert_eq!(tokens.alive(), 0);
    target.tell(tokens.token()).unwrap();
    settle(&executor);
    assert_eq!(Arc::strong_count(&task), 1);
}

/// Timers of an ended actor, its own and those of others, end with the actor at once and are
/// accounted for.
#[test]
fn timers_of_actors_that_have_ended() {
    /// Number of armed timers, each of which becomes a dead letter in the end.
    static ARMED: AtomicUsize = AtomicUsize::new(0);
    fn detach<E>(timer: Result<Timer, E>) {
        if let Ok(timer) = timer {
            ARMED.fetch_add(1, Relaxed);
            timer.detach();
        }
    }
    struct Clock(Tokens, bool);
    impl Actor for Clock {
        fn started(&mut self, ctx: &mut Context<Self>) {
            detach(ctx.tell_after(DAY, self.0.token()));
            let tokens = self.0.clone();
            detach(ctx.tell_every(DAY, IntervalMode::FixedRate, move |_| tokens.token()));
            if self.1 {
                ctx.stop();
            }
        }
    }
    impl Handler<Token> for Clock {
        type Reply = ();
        fn handle(&mut self, _: Token, _: &mut Context<Self>) {}
    }
    const DAY: Duration = Duration::from_secs(86_400);
    let (executor, tokens) = (crew(2), Tokens::new());
    let mut kept = Vec::new();
    for n in 0..10_000 {
        let clock = executor.spawn(Clock(tokens.clone(), n % 2 == 0));
        if n % 4 == 1 {
            kept.push(clock.tell_after(DAY, tokens.token()).unwrap());
            ARMED.fetch_add(1, Relaxed);
            clock.stop();
        } else if n % 4 == 3 {
            detach(clock.tell_after(DAY, tokens.token()));
            clock.stop_now();
        }
    }
    settle(&executor);
    assert_eq!((executor.stats().armed_timers, tokens.alive()), (0, 0));
    assert!(kept.iter().all(|timer| !timer.is_armed()));
    assert_eq!(executor.stats().dead_letters.total(), ARMED.load(Relaxed) as u64);
    // One actor has more timers than a single turn can turn into dead letters.
    let clock = executor.spawn(Clock(tokens.clone(), false));
    (0..WAITS).for_each(|_| clock.tell_after(DAY, tokens.token()).unwrap().detach());
    clock.stop();
    ended(&clock);
    settle(&executor);
    assert_eq!((executor.stats().armed_timers, tokens.alive()), (0, 0));
    assert!(clock.tell_after(DAY, tokens.token()).is_err());
}
