//! Tests P4 and P5 where a worker runs user code outside any turn: wakers of `wait_idle`, and
//! destructors of undeliverable timer messages. Such code must not hold up anything else.

mod common;

use common::*;
use heist::future::WaitIdle;
use heist::*;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Wake, Waker};
use std::time::Duration;

/// A waker that runs a function once.
struct Calls<F>(Mutex<Option<F>>);

impl<F: FnOnce() + Send + 'static> Calls<F> {
    fn waker(f: F) -> Waker {
        Waker::from(Arc::new(Calls(Mutex::new(Some(f)))))
    }
}

impl<F: FnOnce() + Send + 'static> Wake for Calls<F> {
    fn wake(self: Arc<Self>) {
        let f = self.0.lock().unwrap().take();
        if let Some(f) = f {
            f();
        }
    }
}

fn is_ready(idle: &mut WaitIdle, waker: &Waker) -> bool {
    Pin::new(idle).poll(&mut TaskContext::from_waker(waker)).is_ready()
}

/// Makes a waker that blocks until `until` is open.
fn slow_waker(inside: &Latch, until: &Latch, compensated: bool) -> Waker {
    let (inside, until) = (inside.clone(), until.clone());
    Calls::waker(move || {
        inside.open();
        if compensated { blocking(|| until.wait()) } else { until.wait() }
    })
}

#[test]
fn p04_a_slow_waker_holds_up_nobody() {
    for (workers, compensated) in [(2, false), (4, false), (1, true), (2, true)] {
        let executor = crew(workers);
        let (busy, other) = (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
        settle(&executor);
        for _ in 0..20 {
            let (inside, until) = (Latch::new(), Latch::new());
            let held = Held::hold(&busy);
            let mut idle = executor.wait_idle_async();
            assert!(!is_ready(&mut idle, &slow_waker(&inside, &until, compensated)));
            held.release();
            inside.wait();
            // The waker has started, and returns only after this answer.
            assert_eq!(answer(other.ask(Note(1)).unwrap()), Ok(1));
            until.open();
            assert!(is_ready(&mut idle, Waker::noop()));
            settle(&executor);
        }
        shut_down(&executor);
    }
}

/// Two futures wait. The waker that runs first blocks until the other waker runs.
#[test]
fn p04_a_slow_waker_holds_up_no_other_waker() {
    let executor = crew(2);
    let busy = executor.spawn(Puppet::default());
    let begun = Arc::new(AtomicU32::new(0));
    let held = Held::hold(&busy);
    let mut waits: Vec<_> = (0..2).map(|_| executor.wait_idle_async()).collect();
    for idle in &mut waits {
        let begun = Arc::clone(&begun);
        let waker = Calls::waker(move || {
            begun.fetch_add(1, AcqRel);
            within(LONG, "the other waker runs too", || begun.load(Acquire) == 2);
        });
        assert!(!is_ready(idle, &waker));
    }
    held.release();
    within(LONG, "both wakers run", || begun.load(Acquire) == 2);
    shut_down(&executor);
}

/// The waker's worker is awake while it polls, and the wait is over nevertheless.
#[test]
fn p04_a_wait_that_is_polled_inside_its_waker_is_over() {
    on_every_crew(|executor| {
        let busy = executor.spawn(Puppet::default());
        for _ in 0..20 {
            let held = Held::hold(&busy);
            let idle = Arc::new(Mutex::new(executor.wait_idle_async()));
            let (ready, done) = (Arc::new(AtomicU32::new(0)), Latch::new());
            let (inner, seen, ended) = (Arc::clone(&idle), Arc::clone(&ready), done.clone());
            let waker = Calls::waker(move || {
                seen.store(u32::from(is_ready(&mut inner.lock().unwrap(), Waker::noop())), Release);
                ended.open();
            });
            assert!(!is_ready(&mut idle.lock().unwrap(), &waker));
            held.release();
            done.wait();
            assert_eq!(ready.load(Acquire), 1);
        }
    });
}

/// Wakers may do what handlers do: wait for answers, spawn, send, panic.
#[test]
fn p04_a_waker_may_wait_for_an_answer() {
    quiet_panics();
    on_every_crew(|executor| {
        let (busy, other) = (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
        let done = Latch::new();
        let held = Held::hold(&busy);
        let (mut asks, mut panics) = (executor.wait_idle_async(), executor.wait_idle_async());
        let (handle, ended) = (executor.handle(), done.clone());
        let waker = Calls::waker(move || {
            let fresh = handle.spawn(Puppet::default());
            let answers = [&other, &fresh].map(|actor| actor.ask(Note(7)).unwrap().wait());
            // Under `Sharded`, the asked actor may belong to this very worker, so that the wait may
            // be refused.
            assert!(
                answers.iter().all(|answer| answer.is_ok() || handle.policy() == Policy::Sharded)
            );
            ended.open();
        });
        assert!(!is_ready(&mut panics, &Calls::waker(|| intended_panic())));
        assert!(!is_ready(&mut asks, &waker));
        held.release();
        done.wait();
    });
}

/// A dropped future leaves nothing behind, and polls do not become slower.
#[test]
fn p04_an_abandoned_wait_leaves_nothing() {
    let executor = crew(2);
    let busy = executor.spawn(Puppet::default());
    let held = Held::hold(&busy);
    let calls = Arc::new(Calls(Mutex::new(Some(|| ()))));
    let waker = Waker::from(Arc::clone(&calls));
    for _ in 0..100_000 {
        let mut idle = executor.wait_idle_async();
        assert!(!is_ready(&mut idle, &waker) && !is_ready(&mut idle, &waker));
    }
    drop(waker);
    assert_eq!(Arc::strong_count(&calls), 1);
    held.release();
    shut_down(&executor);
}

/// A shutdown ends all waits for quiescence, those that began before and those that begin later.
#[test]
fn p04_a_shutdown_ends_the_waits_for_quiescence() {
    for workers in CREWS {
        let executor = crew(workers);
        let busy = executor.spawn(Puppet::default());
        let held = Held::hold(&busy);
        let done = Latch::new();
        let mut idle = executor.wait_idle_async();
        let ended = done.clone();
        assert!(!is_ready(&mut idle, &Calls::waker(move || ended.open())));
        executor.shutdown_now(Duration::ZERO).expect("called from outside");
        held.release();
        done.wait();
        within(LONG, "the crew ends", || is_ready(&mut executor.wait_idle_async(), Waker::noop()));
    }
}

/// Blocks in its destructor until the second latch is open.
struct Slow(Latch, Latch);

impl Drop for Slow {
    fn drop(&mut self) {
        self.0.open();
        self.1.wait();
    }
}

impl Handler<Slow> for Puppet {
    type Reply = ();
    fn handle(&mut self, _: Slow, _: &mut Context<Self>) {}
}

/// A timer's message for a stopped actor is dropped on the crew. Its destructor waits for the
/// handler of the next timer, which becomes due meanwhile.
#[test]
fn p05_a_timer_is_not_behind_anothers_destructor() {
    for policy in [Policy::Stealing, Policy::SharedQueue] {
        let executor = build(Executor::builder().workers(3).policy(policy));
        let (gone, other) = (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
        settle(&executor);
        let (inside, until) = (Latch::new(), Latch::new());
        let slow = Slow(inside.clone(), until.clone());
        gone.tell_after(Duration::from_millis(30), slow).unwrap().detach();
        // Closed, but not ended: an actor's end would cancel the timers that aim at it.
        let held = Held::hold(&gone);
        gone.stop();
        let (entered, release) = (inside, until.clone());
        // Armed for later, so that this timer fires only during the other destructor or afterwards.
        let opens = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
            entered.wait();
            release.open();
        });
        other.tell_after(Duration::from_millis(35), opens).unwrap().detach();
        within(LONG, "the second timer is fired beside the destructor", || until.is_open());
        held.release();
        shut_down(&executor);
    }
}

/// Ends a busy crew while `waits` waits for quiescence are open. Returns when each waker has run
/// `each`, which gets the waker's number and a latch shared by all of them.
fn end_with_open_waits(workers: usize, policy: Policy, waits: usize, each: fn(usize, &Latch)) {
    let executor = build(Executor::builder().workers(workers).policy(policy));
    let busy = executor.spawn(Puppet::default());
    let held = Held::hold(&busy);
    let second = Latch::new();
    let done: Vec<_> = (0..waits).map(|_| Latch::new()).collect();
    let mut waits: Vec<_> = done.iter().map(|_| executor.wait_idle_async()).collect();
    for (n, idle) in waits.iter_mut().enumerate() {
        let (second, done) = (second.clone(), done[n].clone());
        let waker = Calls::waker(move || {
            each(n, &second);
            done.open();
        });
        assert!(!is_ready(idle, &waker));
    }
    executor.shutdown_now(Duration::ZERO).expect("called from outside");
    held.release();
    done.iter().for_each(Latch::wait);
    shut_down(&executor);
}

/// The first of three wakers blocks until the second one has run. One of the two workers is always
/// free, so the second waker waits for nothing.
#[test]
fn p07_no_waker_waits_behind_another_at_the_end() {
    for policy in POLICIES {
        for _ in 0..20 {
            end_with_open_waits(2, policy, 3, |n, second| match n {
                0 => second.wait(),
                1 => second.open(),
                _ => {}
            });
        }
    }
}

/// The first waker blocks in `heist::blocking` until the second one has run. A spare must take the
/// only worker's slot over, although the crew ends.
#[test]
fn p07_a_waker_that_blocks_at_the_end_gets_a_spare() {
    for policy in POLICIES {
        end_with_open_waits(1, policy, 2, |n, second| match n {
            0 => blocking(|| second.wait()),
            _ => second.open(),
        });
    }
}

/// Ends a crew of two busy workers. Every second destructor of the timers' messages blocks until
/// the next one has begun.
#[test]
fn p07_no_destructor_waits_behind_another_at_the_end() {
    for policy in POLICIES {
        for _ in 0..20 {
            let executor = build(Executor::builder().workers(2).policy(policy));
            let first = executor.spawn(Puppet::default());
            let second = apart_from(&executor, &first);
            let held = [Held::hold(&first), Held::hold(&second)];
            let begun: Vec<_> = (0..8).map(|_| Latch::new()).collect();
            for n in 0..begun.len() {
                let slow = Slow(begun[n].clone(), begun[n | 1].clone());
                first.tell_after(Duration::from_secs(3600), slow).unwrap().detach();
            }
            executor.shutdown_now(Duration::ZERO).expect("called from outside");
            drop(held);
            begun.iter().for_each(Latch::wait);
            shut_down(&executor);
        }
    }
}

/// Sends itself the next message, and counts its turns while timers fire.
struct Hot {
    handle: Handle,
    all: u64,
    turns: Arc<AtomicU64>,
}

impl Actor for Hot {}

impl Handler<Latch> for Hot {
    type Reply = ();
    fn handle(&mut self, over: Latch, ctx: &mut Context<Self>) {
        let armed = self.handle.stats().armed_timers;
        if armed > 0 {
            self.turns.fetch_add(u64::from(armed < self.all), Relaxed);
            let _ = ctx.tell_self(over);
        } else {
            over.open();
        }
    }
}

/// However many timers are due at once, turns get as much time as the timers. With 1,024 timers
/// between two turns, there would be only 98 turns.
#[test]
fn p05_timers_that_are_due_at_once_hold_up_nobody() {
    const TIMERS: u64 = 100_000;
    let executor = crew(1);
    let target = executor.spawn(Puppet::default());
    let held = Held::hold(&target);
    for n in 0..TIMERS {
        target.tell_after(Duration::from_millis(1), Note(n)).unwrap().detach();
    }
    let turns = Arc::new(AtomicU64::new(0));
    let hot =
        executor.spawn(Hot { handle: executor.handle(), all: TIMERS, turns: Arc::clone(&turns) });
    let over = Latch::new();
    hot.tell(over.clone()).unwrap();
    held.release();
    over.wait();
    let turns = turns.load(Relaxed);
    assert!(turns > 500, "{turns} turns while {TIMERS} timers were fired");
    shut_down(&executor);
}
