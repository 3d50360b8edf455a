//! Defines places in wakers of each future: cloned by a poll, woken by the completing thread,
//! dropped with the future.

use crate::Place;
use crate::rig::{Latch, Outcome, Ping, Puppet, Rig, Trap, poll_once};
use heist::strategy::RoundRobin;
use parking_lot::Mutex;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Release;
use std::task::{RawWaker, RawWakerVTable, Waker};
use std::time::Duration;

macro_rules! of_each {
    ($($kind:ident: $name:literal),* $(,)?) => {
        &[$(
            (concat!("waker/", $name, "/clone"), |rig| cloned(rig, $kind)),
            (concat!("waker/", $name, "/wake"), |rig| woken(rig, $kind)),
            (concat!("waker/", $name, "/drop-with-it"), |rig| dropped(rig, $kind, false)),
            (concat!("waker/", $name, "/drop-replaced"), |rig| dropped(rig, $kind, true)),
            (concat!("waker/", $name, "/drop-after-wake"), |rig| dropped_after_wake(rig, $kind)),
        )*]
    };
}

pub const PLACES: &[Place] = of_each!(
    ask: "ask",
    stopped: "stopped",
    idle: "idle",
    sending: "send",
    pool_sending: "pool-send",
    pool_stopped: "pool-stopped",
    broadcast: "broadcast",
    shutting_down: "shutdown",
);

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Clone,
    Wake,
    Drop,
    /// When the last clone is dropped, after a wake.
    End,
}

/// A waker that springs its trap in one of its four functions.
struct Spy {
    at: At,
    trap: Trap,
    woken: Latch,
}

impl Drop for Spy {
    fn drop(&mut self) {
        if self.at == At::End {
            self.trap.spring();
        }
    }
}

static TABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_spy);

/// Borrows the spy behind a waker's data.
///
/// # Safety
/// `data` must come from `Arc::into_raw` of a spy that is still alive.
unsafe fn borrowed(data: *const ()) -> ManuallyDrop<Arc<Spy>> {
    // SAFETY: `data` comes from `Arc::into_raw` of a live spy, and `ManuallyDrop` leaves the count
    // with `data`.
    ManuallyDrop::new(unsafe { Arc::from_raw(data.cast::<Spy>()) })
}

unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: the table's functions receive the data of a live waker, and that is a live spy.
    let spy = unsafe { borrowed(data) };
    if spy.at == At::Clone {
        spy.trap.spring();
    }
    RawWaker::new(Arc::into_raw(Arc::clone(&spy)).cast(), &TABLE)
}

unsafe fn wake(data: *const ()) {
    // SAFETY: the data is a live spy. `wake` consumes the waker, and with it the count that `data`
    // owns.
    let spy = unsafe { Arc::from_raw(data.cast::<Spy>()) };
    spy.ring();
}

unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: the table's functions receive the data of a live waker, and that is a live spy.
    unsafe { borrowed(data) }.ring();
}

unsafe fn drop_spy(data: *const ()) {
    // SAFETY: the data is a live spy. The waker's drop consumes the count that `data` owns.
    let spy = unsafe { Arc::from_raw(data.cast::<Spy>()) };
    if spy.at == At::Drop {
        spy.trap.spring();
    }
}

impl Spy {
    fn ring(&self) {
        self.woken.open();
        if self.at == At::Wake {
            self.trap.spring();
        }
    }
}

fn spy(rig: &Rig, at: At) -> (Waker, Latch) {
    let woken = Latch::default();
    let spy = Arc::new(Spy { at, trap: rig.trap(), woken: woken.clone() });
    // SAFETY: the functions of the table treat the data as one count of an `Arc<Spy>`, and `Spy` is
    // `Send` and `Sync`.
    (unsafe { Waker::new(Arc::into_raw(spy).cast(), &TABLE) }, woken)
}

type Future = Pin<Box<dyn std::future::Future<Output = ()> + Send>>;

/// A pending future, and the function that completes it.
struct Waiting {
    future: Future,
    complete: Box<dyn FnOnce()>,
}

type Kind = fn(&Rig) -> Option<Waiting>;

const CLOSING: Outcome = Outcome::Skip("the executor is being shut down");

fn cloned(rig: &Rig, kind: Kind) -> Outcome {
    let Some(mut waiting) = kind(rig) else { return CLOSING };
    let (waker, _) = spy(rig, At::Clone);
    rig.arm();
    let polled = rig.caught(|| poll_once(&mut waiting.future, &waker).is_ready());
    rig.sprung();
    (waiting.complete)();
    if polled == Some(false) {
        futures::executor::block_on(waiting.future);
    }
    Outcome::Done
}

fn woken(rig: &Rig, kind: Kind) -> Outcome {
    let Some(mut waiting) = kind(rig) else { return CLOSING };
    let (waker, woken) = spy(rig, At::Wake);
    assert!(poll_once(&mut waiting.future, &waker).is_pending());
    // The waker polls its own future, as an inline runtime does.
    let future = Arc::new(Mutex::new(Some(waiting.future)));
    let theirs = Arc::clone(&future);
    *rig.world.inline.lock() = Some(Box::new(move || {
        let taken = theirs.lock().take();
        if let Some(mut taken) = taken
            && poll_once(&mut taken, &waker).is_pending()
        {
            *theirs.lock() = Some(taken);
        }
    }));
    rig.arm();
    (waiting.complete)();
    woken.wait();
    rig.sprung();
    let rest = future.lock().take();
    if let Some(rest) = rest {
        futures::executor::block_on(rest);
    }
    Outcome::Done
}

fn dropped(rig: &Rig, kind: Kind, replaced: bool) -> Outcome {
    let Some(mut waiting) = kind(rig) else { return CLOSING };
    let (waker, _) = spy(rig, At::Drop);
    assert!(poll_once(&mut waiting.future, &waker).is_pending());
    drop(waker);
    rig.arm();
    if replaced {
        // The replaced waker is dropped now or when the future is ready.
        let polled = rig.caught(|| poll_once(&mut waiting.future, Waker::noop()).is_ready());
        (waiting.complete)();
        if polled == Some(false) {
            let _ = rig.caught(|| futures::executor::block_on(waiting.future));
        }
    } else {
        let _ = rig.caught(|| drop(waiting.future));
        (waiting.complete)();
    }
    rig.sprung();
    Outcome::Done
}

/// The completing thread drops the last clone of the waker.
fn dropped_after_wake(rig: &Rig, kind: Kind) -> Outcome {
    let Some(mut waiting) = kind(rig) else { return CLOSING };
    let (waker, woken) = spy(rig, At::End);
    assert!(poll_once(&mut waiting.future, &waker).is_pending());
    drop(waker);
    rig.arm();
    (waiting.complete)();
    woken.wait();
    rig.sprung();
    let _ = rig.caught(|| futures::executor::block_on(waiting.future));
    Outcome::Done
}

fn ask(rig: &Rig) -> Option<Waiting> {
    let actor = rig.puppet();
    rig.stops(&actor);
    let held = rig.hold(&actor);
    let ask = actor.ask(Ping).expect("room");
    Some(Waiting {
        future: Box::pin(async move { drop(ask.await) }),
        complete: Box::new(move || held.open()),
    })
}

fn stopped(rig: &Rig) -> Option<Waiting> {
    let actor = rig.puppet();
    let ends = actor.clone();
    let future = Box::pin(async move { drop(actor.wait_stopped_async().await) });
    Some(Waiting { future, complete: Box::new(move || ends.stop()) })
}

fn idle(rig: &Rig) -> Option<Waiting> {
    let actor = rig.puppet();
    let held = rig.hold(&actor);
    let future = Box::pin(rig.handle().wait_idle_async());
    let complete = move || {
        held.open();
        drop(actor);
    };
    Some(Waiting { future, complete: Box::new(complete) })
}

fn sending(rig: &Rig) -> Option<Waiting> {
    let actor = rig.handle().build(Puppet::default()).capacity(1).spawn();
    rig.stops(&actor);
    let held = rig.hold(&actor);
    rig.fill(&actor);
    let sending = actor.send_async(Ping);
    let complete = move || {
        held.open();
        drop(actor);
    };
    Some(Waiting {
        future: Box::pin(async move { drop(sending.await) }),
        complete: Box::new(complete),
    })
}

fn pool_sending(rig: &Rig) -> Option<Waiting> {
    let pool = rig.handle().pool(1, |_| Puppet::default()).capacity(1).build().expect("a pool");
    let replica = pool.replica(0).expect("one");
    rig.stops(&replica);
    let held = rig.hold(&replica);
    rig.fill(&replica);
    let sending = pool.send_async(RoundRobin, Ping);
    let complete = move || {
        held.open();
        drop((pool, replica));
    };
    Some(Waiting {
        future: Box::pin(async move { drop(sending.await) }),
        complete: Box::new(complete),
    })
}

fn pool_stopped(rig: &Rig) -> Option<Waiting> {
    let pool = rig.handle().pool(2, |_| Puppet::default()).build().expect("a pool");
    let ends = pool.clone();
    let future = Box::pin(async move { drop(pool.wait_stopped_async().await) });
    Some(Waiting { future, complete: Box::new(move || ends.stop()) })
}

fn broadcast(rig: &Rig) -> Option<Waiting> {
    let pool = rig.handle().pool(2, |_| Puppet::default()).build().expect("a pool");
    let replica = pool.replica(1).expect("two");
    let held = rig.hold(&replica);
    let answers = pool.broadcast_with(|_| Ping);
    let complete = move || {
        held.open();
        drop((pool, replica));
    };
    Some(Waiting {
        future: Box::pin(async move { drop(answers.await) }),
        complete: Box::new(complete),
    })
}

/// Awaits the executor's end while a turn delays the shutdown.
fn shutting_down(rig: &Rig) -> Option<Waiting> {
    if !rig.alive() {
        return None;
    }
    let actor = rig.puppet();
    let held = rig.hold(&actor);
    let executor = rig.world.executor.lock().take().expect("one");
    rig.world.closing.store(true, Release);
    let ending = executor.shutdown_async(Duration::from_secs(15));
    let future = Box::pin(async move { assert!(ending.await.expect("from outside").complete) });
    Some(Waiting { future, complete: Box::new(move || held.open()) })
}
