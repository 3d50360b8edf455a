//! Tests P7 where a turn wakes several waiters: for room, for an actor's end, for a pool's end. A
//! waker that blocks must hold up no other waiter.

mod common;

use common::*;
use heist::*;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::task::{Context as TaskContext, Wake, Waker};

/// Wakers that each block until all of them have begun.
#[derive(Clone)]
struct Together {
    begun: Arc<AtomicU32>,
    all: u32,
    compensated: bool,
}

impl Together {
    fn new(all: u32) -> Self {
        Together { begun: Arc::default(), all, compensated: false }
    }

    /// Polls with a waker of this set.
    fn polls<F: Future + Unpin>(&self, future: &mut F) {
        let waker = Waker::from(Arc::new(self.clone()));
        assert!(Pin::new(future).poll(&mut TaskContext::from_waker(&waker)).is_pending());
    }

    #[track_caller]
    fn all_run(&self) {
        within(LONG, "all wakers run", || self.begun.load(Acquire) == self.all);
    }
}

impl Wake for Together {
    fn wake(self: Arc<Self>) {
        self.begun.fetch_add(1, AcqRel);
        let run = || if self.compensated { blocking(|| self.all_run()) } else { self.all_run() };
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            self.begun.store(self.all + 1, Release); // fails the test, too
        }
    }
}

#[test]
fn p07_a_slow_waker_of_an_actors_end_holds_up_no_other() {
    for policy in POLICIES {
        for dedicated in [false, true] {
            let executor = build(Executor::builder().workers(2).policy(policy));
            let actor = match dedicated {
                true => executor.spawn_dedicated(Puppet::default).unwrap(),
                false => executor.spawn(Puppet::default()),
            };
            let wakers = Together::new(2);
            let mut waits = [actor.wait_stopped_async(), actor.wait_stopped_async()];
            waits.iter_mut().for_each(|wait| wakers.polls(wait));
            actor.stop();
            wakers.all_run();
            shut_down(&executor);
        }
    }
}

/// The crew ends with this actor, and no worker ends before both wakers have begun.
#[test]
fn p07_a_slow_waker_of_the_last_actors_end_holds_up_no_other() {
    for policy in POLICIES {
        for _ in 0..50 {
            let executor = build(Executor::builder().workers(2).policy(policy));
            let actor = executor.spawn(Puppet::default());
            let wakers = Together::new(2);
            let mut waits = [actor.wait_stopped_async(), actor.wait_stopped_async()];
            waits.iter_mut().for_each(|wait| wakers.polls(wait));
            shut_down(&executor);
            wakers.all_run();
        }
    }
}

/// The waker waits for a thread that waits for the same end, by a call that blocks the thread.
#[test]
fn p07_a_slow_waker_holds_up_no_thread_that_waits_for_the_same_end() {
    struct Waits(Latch);
    impl Wake for Waits {
        fn wake(self: Arc<Self>) {
            self.0.wait();
        }
    }
    let executor = crew(1);
    let actor = executor.spawn(Puppet::default());
    let told = Latch::new();
    let waker = Waker::from(Arc::new(Waits(told.clone())));
    let mut first = actor.wait_stopped_async();
    assert!(Pin::new(&mut first).poll(&mut TaskContext::from_waker(&waker)).is_pending());
    let held = Held::hold(&actor);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            ended(&actor);
            told.open();
        });
        actor.stop();
        held.release();
    });
    shut_down(&executor);
}

/// No worker is left to run the waker: the only one waits, in a handler, for the task that the
/// waker wakes.
#[test]
fn p07_a_dedicated_actors_waiters_need_no_worker() {
    struct Opens(Latch);
    impl Wake for Opens {
        fn wake(self: Arc<Self>) {
            self.0.open();
        }
    }
    let executor = build(Executor::builder().workers(1).max_spares(0));
    let dedicated = executor.build_dedicated(Puppet::default).capacity(1).try_spawn().unwrap();
    let worker = executor.spawn(Puppet::default());
    let held = Held::hold(&dedicated);
    let told: [Latch; 4] = Default::default();
    let waker = |n: usize| Waker::from(Arc::new(Opens(told[n].clone())));
    let mut sends = [dedicated.send_async(Note(1)), dedicated.send_async(Note(2))];
    let mut waits = [dedicated.wait_stopped_async(), dedicated.wait_stopped_async()];
    for n in 0..2 {
        let send = Pin::new(&mut sends[n]).poll(&mut TaskContext::from_waker(&waker(n)));
        let wait = Pin::new(&mut waits[n]).poll(&mut TaskContext::from_waker(&waker(2 + n)));
        assert!(send.is_pending() && wait.is_pending());
    }
    let dedicated = &dedicated;
    std::thread::scope(|scope| {
        let (inside, told) = (Latch::new(), told.clone());
        let entered = inside.clone();
        worker
            .tell(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
                entered.open();
                told.iter().for_each(Latch::wait);
            }))
            .unwrap();
        inside.wait();
        scope.spawn(move || held.release());
        scope.spawn(move || dedicated.stop());
    });
    settle(&executor);
    shut_down(&executor);
}

#[test]
#[cfg(feature = "pool")]
fn p07_a_slow_waker_of_a_pools_end_holds_up_no_other() {
    for policy in POLICIES {
        let executor = build(Executor::builder().workers(2).policy(policy));
        let pool = executor.pool(2, |_| Puppet::default()).build().unwrap();
        let wakers = Together::new(3);
        let mut waits = [(); 3].map(|()| pool.wait_stopped_async());
        waits[..2].iter_mut().for_each(|wait| wakers.polls(wait));
        std::thread::scope(|scope| {
            // A thread that waits is no waker of the user's, and stands for the third one.
            scope.spawn(|| {
                pool.wait_stopped().unwrap();
                wakers.begun.fetch_add(1, AcqRel);
            });
            pool.stop();
        });
        wakers.all_run();
        drop(waits);
        shut_down(&executor);
    }
}

/// Two senders are told of room, and the first waker blocks until the second one runs, and until
/// the target and another actor, which waits for room too, have gone on.
#[test]
fn p07_a_slow_waker_of_a_sender_holds_up_nobody() {
    for policy in POLICIES {
        let executor = build(Executor::builder().workers(2).policy(policy));
        let target = executor.build(Puppet::default()).capacity(4).spawn();
        let other = apart_from(&executor, &target);
        let held = Held::hold(&target);
        (1..4).for_each(|n| target.tell(Note(n)).unwrap());
        // Two senders, the notice to the other actor, and the target's last message.
        // Under `Sharded` nobody else runs the target while its worker is blocked.
        let wakers = Together { compensated: true, ..Together::new(4) };
        let mut sends = [target.send_async(Note(4)), target.send_async(Note(5))];
        sends.iter_mut().for_each(|send| wakers.polls(send));
        let (begun, full) = (Arc::clone(&wakers.begun), target.clone());
        inside(&other, move |_, ctx| {
            let notice = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
                begun.fetch_add(1, AcqRel);
            });
            ctx.when_room(&full, notice).unwrap();
        });
        let begun = Arc::clone(&wakers.begun);
        let last = Run(move |puppet: &mut Puppet, _: &mut Context<Puppet>| {
            assert_eq!(puppet.log, [1, 2, 3, 4, 5]);
            begun.fetch_add(1, AcqRel);
        });
        std::thread::scope(|scope| {
            scope.spawn(|| target.send(last).unwrap());
            held.release();
        });
        wakers.all_run();
        shut_down(&executor);
    }
}
