//! Tests P6 and P3: a panic in the drop of a waker costs the task nothing. A returned message
//! reaches the task, a given-up message is dropped, each exactly once, and the panic stays inside.

mod common;

use common::*;
use heist::strategy::{Replicas, Route, Strategy, ToIndex};
use heist::{Actor, Context, Handler, Refusal, SendError};
use std::future::Future;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{self, Poll, RawWaker, RawWakerVTable, Waker};

/// Makes wakers that panic when dropped, and counts the wakers that are left.
#[derive(Clone, Default)]
struct Wakers(Arc<AtomicUsize>);

impl Wakers {
    const TABLE: RawWakerVTable = RawWakerVTable::new(
        |data| {
            // SAFETY: `data` comes from `Arc::into_raw`, and the waker being cloned keeps its count
            // alive.
            unsafe { Arc::increment_strong_count(data.cast::<AtomicUsize>()) };
            RawWaker::new(data, &Self::TABLE)
        },
        Self::let_go,
        |_| (),
        |data| {
            Self::let_go(data);
            intended_panic()
        },
    );

    fn let_go(data: *const ()) {
        // SAFETY: `data` comes from `Arc::into_raw` or a clone, and owns the count that is dropped
        // here.
        unsafe { drop(Arc::from_raw(data.cast::<AtomicUsize>())) };
    }

    /// Polls with a fresh waker without dropping it. The waker is used up by `wake`, or left behind
    /// if the poll panics.
    fn poll<F: Future + Unpin>(&self, future: &mut F) -> Poll<F::Output> {
        let data = Arc::into_raw(Arc::clone(&self.0)).cast();
        // SAFETY: the table expects such a pointer, and an atomic may be used from any thread.
        let waker =
            ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(data, &Self::TABLE)) });
        let poll = Pin::new(future).poll(&mut task::Context::from_waker(&waker));
        ManuallyDrop::into_inner(waker).wake();
        poll
    }

    fn left(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

/// Takes one token, and holds it until the second latch is opened.
struct Takes(Latch, Latch);
impl Actor for Takes {}
impl Handler<Token> for Takes {
    type Reply = ();
    fn handle(&mut self, _: Token, _: &mut Context<Self>) {
        self.0.open();
        self.1.wait();
    }
}

fn refused(poll: Poll<Result<(), SendError<Token>>>) -> Refusal {
    match poll {
        Poll::Ready(Err(error)) => {
            let refusal = error.refusal();
            drop(error.into_message());
            refusal
        }
        other => panic!("it is refused: {other:?}"),
    }
}

#[test]
fn p06_a_wakers_drop_costs_no_message_that_waits_for_room() {
    quiet_panics();
    let (executor, tokens) = (crew(1), Tokens::new());
    let (wakers, others) = (Wakers::default(), Wakers::default());
    let (inside, until) = (Latch::new(), Latch::new());
    let target = executor.build(Takes(inside.clone(), until.clone())).capacity(1).spawn();

    // Accepted at the first poll, without a place in line.
    assert!(matches!(wakers.poll(&mut target.send_async(tokens.token())), Poll::Ready(Ok(()))));
    inside.wait();
    while target.tell(tokens.token()).is_ok() {}

    // The futures stand in line, are polled again, and are then given up or taken back.
    let mut sends: Vec<_> = (0..4).map(|_| target.send_async(tokens.token())).collect();
    for task in [&others, &wakers] {
        sends.iter_mut().for_each(|send| assert!(task.poll(send).is_pending()));
    }
    assert_eq!((others.left(), wakers.left()), (0, 4), "one for each that waits");
    let alive = tokens.alive();
    drop(sends.pop());
    drop(sends.pop().unwrap().cancel().expect("it was in line"));
    assert_eq!((wakers.left(), alive - tokens.alive()), (2, 2));

    // The remaining sends are refused in line. One refusal is read and one is dropped.
    target.stop_now();
    until.open();
    ended(&target);
    assert_eq!(refused(wakers.poll(&mut sends[0])), Refusal::Stopped);
    // Refused at once.
    assert_eq!(refused(wakers.poll(&mut target.send_async(tokens.token()))), Refusal::Stopped);
    drop(sends);

    settle(&executor);
    tokens.assert_each_dropped_once();
    assert_eq!(wakers.left(), 0);
    shut_down(&executor);
}

#[test]
fn p06_a_wakers_drop_costs_no_message_to_a_pool() {
    struct Panics;
    impl Strategy for Panics {
        fn route(&self, _: &Replicas<'_>) -> Route {
            intended_panic()
        }
    }
    quiet_panics();
    let (executor, tokens) = (crew(1), Tokens::new());
    let (wakers, others) = (Wakers::default(), Wakers::default());
    let (inside, until) = (Latch::new(), Latch::new());
    let (enters, opened) = (inside.clone(), until.clone());
    let make = move |_| Takes(enters.clone(), opened.clone());
    let pool = executor.pool(1, make).capacity(1).build().unwrap();

    assert!(matches!(
        wakers.poll(&mut pool.send_async(ToIndex(0), tokens.token())),
        Poll::Ready(Ok(()))
    ));
    inside.wait();
    while pool.tell(ToIndex(0), tokens.token()).is_ok() {}
    let mut sends: Vec<_> = (0..3).map(|_| pool.send_async(ToIndex(0), tokens.token())).collect();
    for task in [&others, &wakers] {
        sends.iter_mut().for_each(|send| assert!(task.poll(send).is_pending()));
    }
    drop(sends.pop());
    assert_eq!((others.left(), wakers.left()), (0, 2), "one for each that waits");

    // A missing replica, and a strategy that panics, so that unwinding drops the place in line.
    assert_eq!(
        refused(wakers.poll(&mut pool.send_async(ToIndex(7), tokens.token()))),
        Refusal::NoReplica
    );
    let panics = || drop(wakers.poll(&mut pool.send_async(Panics, tokens.token())));
    assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());

    pool.stop_now();
    until.open();
    pool.wait_stopped().unwrap();
    assert_eq!(refused(wakers.poll(&mut sends[0])), Refusal::PoolStopped);
    assert_eq!(
        refused(wakers.poll(&mut pool.send_async(ToIndex(0), tokens.token()))),
        Refusal::PoolStopped
    );
    drop(sends);

    settle(&executor);
    tokens.assert_each_dropped_once();
    assert_eq!(wakers.left(), 1, "that of the poll that panicked");
    shut_down(&executor);
}
