//! Tells those who wait for quiescence that it may have come. They look for themselves ([`Scheduler::quiescence`]).
//!
//! [`Scheduler::quiescence`]: super::Scheduler::quiescence

use crate::sync::{AtomicBool, Mutex, Ordering::*, fence};
use crate::user;
use std::task::Waker;

/// Who wants to know.
#[derive(Debug)]
pub(crate) struct Quiet {
    wanted: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

impl Quiet {
    pub(crate) fn new() -> Self {
        Quiet { wanted: AtomicBool::new(false), wakers: Mutex::new(Vec::new()) }
    }

    /// Leaves a waker. The caller must look for itself once more afterwards.
    pub(crate) fn want(&self, waker: &Waker) {
        let waker = user::clone_waker(waker); // not under the lock
        let mut wakers = self.wakers.lock();
        if !wakers.iter().any(|known| known.will_wake(&waker)) {
            wakers.push(waker);
        }
        self.wanted.store(true, Relaxed);
        drop(wakers);
        // Pairs with the fence in `announce`: either that one sees `wanted`, or the caller sees all parked.
        fence(SeqCst);
    }

    /// Called by the last worker that parked, and when the crew is told to stop.
    pub(crate) fn announce(&self) {
        fence(SeqCst);
        if self.wanted.load(Relaxed) {
            let mut wakers = self.wakers.lock();
            self.wanted.store(false, Relaxed);
            let woken = std::mem::take(&mut *wakers);
            drop(wakers);
            woken.into_iter().for_each(user::wake);
        }
    }
}
