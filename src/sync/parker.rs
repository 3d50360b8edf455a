//! A thread's own place to sleep. One token: an unpark before the park makes the park return at once.
//!
//! Not `std::thread::park`, whose token user code inside a handler could take (any executor's `block_on` does).

use super::{AtomicBool, Condvar, Mutex, Ordering::Relaxed};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Instant;

/// Holds at most one token of type `T`; the park takes it.
#[derive(Debug)]
pub(crate) struct Parker<T> {
    token: Mutex<Option<T>>,
    arrived: Condvar,
}

impl<T> Parker<T> {
    pub(crate) fn new() -> Self {
        Parker { token: Mutex::new(None), arrived: Condvar::new() }
    }

    /// Sleeps until a token is there, or until the instant has passed: then `None`.
    pub(crate) fn park(&self, until: Option<Instant>) -> Option<T> {
        let mut token = self.token.lock();
        loop {
            if let Some(taken) = token.take() {
                return Some(taken);
            }
            match until {
                None => self.arrived.wait(&mut token),
                // Whether the time is over is for the wait to say: a model has no clock.
                Some(instant) => {
                    if self.arrived.wait_until(&mut token, instant).timed_out() {
                        return token.take();
                    }
                }
            }
        }
    }

    /// Takes a token that is there already.
    pub(crate) fn take(&self) -> Option<T> {
        self.token.lock().take()
    }

    /// Puts another token in the place of the right one, if that is there. The sleeper has been woken already.
    pub(crate) fn replace_if(&self, right: impl FnOnce(&T) -> bool, other: T) -> bool {
        let mut token = self.token.lock();
        let replaced = token.as_ref().is_some_and(right);
        if replaced {
            *token = Some(other);
        }
        replaced
    }

    /// Leaves a token (a newer one replaces one that was not taken yet) and wakes the sleeper.
    pub(crate) fn unpark(&self, token: T) {
        *self.token.lock() = Some(token);
        self.arrived.notify_one();
    }
}

/// A waker that unparks one thread, for the blocking forms of what can be awaited.
#[derive(Debug)]
pub(crate) struct ThreadWaker {
    parker: Parker<()>,
    rung: AtomicBool,
}

impl ThreadWaker {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(ThreadWaker { parker: Parker::new(), rung: AtomicBool::new(false) })
    }
    pub(crate) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }
    /// `false` when the instant passed first.
    pub(crate) fn park(&self, until: Option<Instant>) -> bool {
        self.parker.park(until).is_some()
    }
    /// Nobody counts on its being rung any more: as good as if it had been.
    pub(crate) fn silence(&self) {
        self.rung.store(true, Relaxed);
    }
    /// Has it ever been woken?
    pub(crate) fn has_rung(&self) -> bool {
        // Relaxed: it is asked by whoever rang it, or after whoever did.
        self.rung.load(Relaxed)
    }
    fn ring(&self) {
        self.rung.store(true, Relaxed);
        self.parker.unpark(());
    }
}

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
