//! Who waits for quiescence, and who tells them.
//!
//! A wait leaves a *ticket*: a waker under a key of its own, which the wait removes when it is given up. Whoever brings
//! the crew to rest *announces* it: the last worker to park, or the thread without a slot, or apart, whose turn was the
//! last one elsewhere. The announcer looks at [`Scheduler::quiescence`] itself while it holds the tickets' lock, so every
//! ticket was left before the look began. If all is quiet, each ticket is taken: its wait is *done*, also if somebody is
//! awake again by the time that its future is polled, as the worker is that runs the wakers.
//!
//! No waker runs here. The announcer makes an [errand](super::errand) of them, and only as an awake worker or by
//! pushing it. A push from elsewhere happens under the tickets' lock, and [`close`](Quiet::close) takes that lock before
//! the crew is told to stop: so no errand comes after the last worker has gone.
//!
//! | the look says | the last worker to park | a thread without a slot, or apart |
//! |---|---|---|
//! | quiet | takes the tickets, gets up, runs their wakers | takes them, pushes their wakers |
//! | busy | sleeps: whoever is busy announces later | rests, for the same reason |
//! | entering | gets up, and parks again | pushes an errand of nothing, so that a worker parks again |
//!
//! # Why nobody waits for ever
//!
//! A wait leaves its ticket, passes a SeqCst fence and looks. An announcer brings its part of the crew to rest, passes a
//! SeqCst fence and reads whether there are tickets. By the fences, either the announcer sees the ticket, or the wait sees
//! that part at rest. The models `quiet`, `apart` and `spares` run this, and `weaken-orderings` has its fences.
//!
//! [`Scheduler::quiescence`]: super::Scheduler::quiescence

use super::Quiescence;
use crate::drops;
use crate::sync::{AtomicBool, Mutex, Ordering::*, WakerKey, Wakers, fence};
use crate::user;
use std::task::Waker;

/// The tickets.
#[derive(Debug)]
pub(crate) struct Quiet {
    /// Whether there are any. Changes under the lock, and is read without it.
    wanted: AtomicBool,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    tickets: Wakers,
    /// The crew is told to stop: all is done, and will be.
    over: bool,
}

impl Quiet {
    pub(crate) fn new() -> Self {
        Quiet { wanted: AtomicBool::new(false), waiting: Mutex::new(Waiting::default()) }
    }

    /// Leaves a ticket, or renews the waker of the one there is. Returns `true` if the wait is done. If not, the caller
    /// must look for itself once more.
    pub(crate) fn want(&self, ticket: &mut Option<WakerKey>, waker: &Waker) -> bool {
        let waker = user::clone_waker(waker); // not under the lock
        let mut waiting = self.waiting.lock();
        let (unused, done) = match ticket.take() {
            _ if waiting.over => (Some(waker), true),
            None => {
                *ticket = Some(waiting.tickets.insert(waker));
                (None, false)
            }
            Some(key) => match waiting.tickets.replace(key, waker) {
                Ok(old) => {
                    *ticket = Some(key);
                    (Some(old), false)
                }
                Err(unused) => (Some(unused), true),
            },
        };
        self.wanted.store(!waiting.tickets.is_empty(), Relaxed);
        drop(waiting);
        drops::waker(unused);
        // Pairs with the fence in `announce`: either that one sees `wanted`, or the caller sees all at rest.
        fence(SeqCst);
        done
    }

    /// A wait is given up, or has seen for itself that all is quiet.
    pub(crate) fn forget(&self, ticket: Option<WakerKey>) {
        let Some(key) = ticket else { return };
        let mut waiting = self.waiting.lock();
        let waker = waiting.tickets.remove(key);
        self.wanted.store(!waiting.tickets.is_empty(), Relaxed);
        drop(waiting);
        drops::waker(waker);
    }

    /// After a part of the crew came to rest. If all is quiet by `look`, `tell` gets the tickets' wakers; if somebody is
    /// entering, it gets none, and must see to another announcement. `tell` is called under the lock and runs no user
    /// code. Returns `true` if it was called.
    pub(crate) fn announce(&self, look: impl FnOnce() -> Quiescence, tell: impl FnOnce(Vec<Waker>)) -> bool {
        fence(SeqCst);
        if !self.wanted.load(Relaxed) {
            return false;
        }
        let mut waiting = self.waiting.lock();
        if waiting.tickets.is_empty() {
            return false;
        }
        match look() {
            Quiescence::Quiet => {
                self.wanted.store(false, Relaxed);
                tell(waiting.tickets.take_all());
            }
            Quiescence::Entering => tell(Vec::new()),
            Quiescence::Busy => return false,
        }
        true
    }

    /// Before the crew is told to stop: all waits are done, and those that come later too. `tell` as in
    /// [`announce`](Self::announce).
    pub(crate) fn close(&self, tell: impl FnOnce(Vec<Waker>)) {
        let mut waiting = self.waiting.lock();
        waiting.over = true;
        self.wanted.store(false, Relaxed);
        tell(waiting.tickets.take_all());
    }
}
