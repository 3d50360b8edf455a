//! Waiting: each wait is a future, and its blocking form polls that future on the calling thread.

use crate::cell::header::Header;
use crate::sched::local::Local;
use crate::sched::member;
use crate::sync::{ThreadWaker, spin_hint};
use crate::time::{self, Duration, Instant};
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Polls a future on this thread until it is ready, or the instant has passed: then `None`.
pub(crate) fn block_on<F: Future + Unpin>(future: &mut F, until: Option<Instant>) -> Option<F::Output> {
    thread_local!(static WAKER: RefCell<Option<Arc<ThreadWaker>>> = const { RefCell::new(None) });
    // Taken out while in use: a destructor that waits in turn makes one of its own.
    let parker = WAKER.with(|cached| cached.take()).unwrap_or_else(ThreadWaker::new);
    let waker = parker.waker();
    let mut cx = Context::from_waker(&waker);
    let result = loop {
        if let Poll::Ready(output) = Pin::new(&mut *future).poll(&mut cx) {
            break Some(output);
        }
        if !parker.park(until) {
            // One last look: the answer may have come with the bell.
            break match Pin::new(&mut *future).poll(&mut cx) {
                Poll::Ready(output) => Some(output),
                Poll::Pending => None,
            };
        }
    };
    WAKER.with(|cached| *cached.borrow_mut() = Some(parker));
    result
}

/// Looks for a moment before sleeping: often, since each pause is latency, and with few looks at the clock.
pub(crate) fn spin_until(at_most: Duration, done: impl Fn() -> bool) {
    let until = time::now() + at_most;
    loop {
        for _ in 0..16 {
            if done() {
                return;
            }
            spin_hint();
            spin_hint();
        }
        if time::now() >= until {
            return;
        }
    }
}

/// Why a worker may not block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    WouldDeadlock,
    NoSpare,
}

/// A wait inside a turn is under way; on threads that are no workers it is nothing.
#[derive(Debug)]
pub(crate) struct Blocking {
    on_crew: bool,
}

impl Blocking {
    /// May this thread wait for `target`? On a worker all that waits behind its turn is given to the others first.
    pub(crate) fn begin(target: NonNull<Header>) -> Result<Self, Refused> {
        if member::current() == target.as_ptr().cast_const().cast() {
            return Err(Refused::WouldDeadlock);
        }
        Local::with_any(|local| match local {
            None => Ok(Blocking { on_crew: false }), // nobody waits behind it
            Some(local) if local.begin_blocking() => Ok(Blocking { on_crew: true }),
            Some(_) => Err(Refused::NoSpare),
        })
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        if self.on_crew {
            Local::with_any(|local| {
                if let Some(local) = local {
                    local.end_blocking();
                }
            });
        }
    }
}
