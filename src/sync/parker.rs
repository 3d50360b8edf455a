//! A place for one thread to sleep, with one token. An unpark before the park makes the park return
//! at once.
//!
//! `std::thread::park` is not used: user code inside a handler could take its token, as any
//! executor's `block_on` does.
//!
//! Loom model: `models::idle`. Needed steps: `cargo xtask weaken parker`.

use super::primitives::{AtomicBool, Condvar, Mutex, Ordering::Relaxed};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Instant;

/// Holds at most one token of type `T`, which a park takes.
#[derive(Debug)]
pub(crate) struct Parker<T> {
    token: Mutex<Option<T>>,
    arrived: Condvar,
}

impl<T> Parker<T> {
    pub(crate) fn new() -> Self {
        Parker { token: Mutex::new(None), arrived: Condvar::new() }
    }

    /// Sleeps until a token arrives. Returns `None` if the instant passes first.
    pub(crate) fn park(&self, until: Option<Instant>) -> Option<T> {
        let mut token = self.token.lock();
        loop {
            // Before any wait: a token left earlier makes the park return at once.
            if let Some(taken) = token.take() {
                return Some(taken);
            }
            match until {
                None => self.arrived.wait(&mut token),
                // The wait itself decides whether the time is over: a model has no clock.
                Some(instant) => {
                    if self.arrived.wait_until(&mut token, instant).timed_out() {
                        // A token may have arrived between the timeout and the relocking of the
                        // mutex.
                        return token.take();
                    }
                }
            }
        }
    }

    /// Takes a token if one is there. Does not wait.
    pub(crate) fn take_token(&self) -> Option<T> {
        self.token.lock().take()
    }

    /// Replaces the token with `other` if `right` accepts it. The sleeper was woken by the first
    /// token already, so no wake-up is needed.
    pub(crate) fn replace_if(&self, right: impl FnOnce(&T) -> bool, other: T) -> bool {
        let mut token = self.token.lock();
        let replaced = token.as_ref().is_some_and(right);
        if replaced {
            *token = Some(other);
        }
        replaced
    }

    /// Stores a token and wakes the sleeper. A token that was not taken yet is replaced.
    pub(crate) fn unpark(&self, token: T) {
        *self.token.lock() = Some(token);
        // The lock is released before: the woken thread finds it free.
        self.arrived.notify_one();
    }
}

/// A waker that unparks one thread, for the blocking forms of futures.
#[derive(Debug)]
pub(crate) struct ThreadWaker {
    parker: Parker<()>,
    rung: AtomicBool,
}

impl ThreadWaker {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(ThreadWaker { parker: Parker::new(), rung: AtomicBool::new(false) })
    }
    /// Returns a waker. Never inlined, so that all these wakers share one table, by which the
    /// scheduler tells them from wakers that run user code.
    #[inline(never)]
    pub(crate) fn to_waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }
    /// Parks until the waker is woken. Returns `false` if the instant passes first.
    pub(crate) fn park_until(&self, until: Option<Instant>) -> bool {
        self.parker.park(until).is_some()
    }
    /// Marks the waker as rung although nothing woke it, so that cycle detection treats its wait as
    /// finished.
    pub(crate) fn mark_rung(&self) {
        self.rung.store(true, Relaxed);
    }
    /// Returns `true` if the waker was ever woken or silenced.
    pub(crate) fn has_rung(&self) -> bool {
        // Relaxed: the caller rang the waker, or is ordered after the thread that did.
        self.rung.load(Relaxed)
    }
    fn ring_and_unpark(&self) {
        // Before the token, so that all that the woken thread causes comes after the mark.
        self.rung.store(true, Relaxed);
        self.parker.unpark(());
    }
}

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.ring_and_unpark();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.ring_and_unpark();
    }
}
