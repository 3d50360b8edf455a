//! Waits for quiescence, and their announcement.
//!
//! A wait leaves a *ticket*: a waker under a key of its own. The wait removes it when it is given
//! up. The thread that brings the crew to rest *announces* it: the last worker to park, or the
//! thread without a slot, or apart, with the last turn elsewhere. The announcer looks at
//! [`Scheduler::check_quiescence`] itself while it holds the tickets' lock, so every ticket was
//! left before the look began. If all is quiet, each ticket is taken: the wait is *done*, even if
//! some worker is awake again when the future is polled, such as the worker that runs the wakers.
//!
//! No waker runs here. The announcer makes an [errand](super::errand) of them, and only as an awake
//! worker or by pushing it. A push from elsewhere happens under the tickets' lock, and
//! [`end_all_waits`](QuiescenceWaiters::end_all_waits) takes that lock before the crew is told to
//! stop. So no errand comes after the last worker has gone.
//!
//! | the look says | the last worker to park | a thread without a slot, or apart |
//! |---|---|---|
//! | quiet | takes the tickets, gets up, runs their wakers | takes them, pushes their wakers |
//! | busy | sleeps: the busy thread announces later | rests, for the same reason |
//! | entering | gets up, and parks again | pushes an empty errand, so that a worker parks again |
//!
//! # Why no wait lasts for ever
//!
//! A wait leaves its ticket, passes a SeqCst fence and looks. An announcer brings its part of the
//! crew to rest, passes a SeqCst fence and reads whether there are tickets. By the fences, either
//! the announcer sees the ticket, or the wait sees that part at rest.
//!
//! Loom models: `models::quiet`, `models::apart` and `models::spares`. Needed orderings:
//! `cargo xtask weaken quiet`.
//!
//! [`Scheduler::check_quiescence`]: super::Scheduler::check_quiescence

use crate::drops;
use crate::sync::{AtomicBool, Mutex, Ordering::*, WakerKey, Wakers, fence};
use crate::user;
use std::task::Waker;

/// Result of a look for quiescence.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quiescence {
    /// Nothing runs, nothing waits, and no thread is on its way in.
    Quiet,
    /// A thread works; the last one to come to rest announces.
    Busy,
    /// A thread from outside is between two steps: look again at once.
    Entering,
}

/// The tickets of a crew.
#[derive(Debug)]
pub(crate) struct QuiescenceWaiters {
    /// Whether there are any tickets. Written under the lock, read without it.
    wanted: AtomicBool,
    waiting: Mutex<Tickets>,
}

#[derive(Debug, Default)]
struct Tickets {
    tickets: Wakers,
    /// The crew was told to stop: all waits are done, and later ones too.
    over: bool,
}

impl QuiescenceWaiters {
    pub(crate) fn new() -> Self {
        QuiescenceWaiters {
            wanted: AtomicBool::new(false),
            waiting: Mutex::new(Tickets::default()),
        }
    }

    /// Leaves a ticket, or renews the waker of an existing one. Returns `true` if the wait is done.
    /// Otherwise the caller must look for itself once more.
    pub(crate) fn register_wait(&self, ticket: &mut Option<WakerKey>, waker: &Waker) -> bool {
        // Cloned before the lock is taken, since a clone runs user code.
        let waker = user::clone_waker(waker);
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
        drops::drop_waker(unused);
        // Pairs with the fence in `announce_rest`: either the announcer sees `wanted`,
        // or the caller sees all at rest.
        fence(SeqCst);
        done
    }

    /// Removes a ticket, after its wait was given up, or has seen for itself that all is quiet.
    pub(crate) fn unregister_wait(&self, ticket: Option<WakerKey>) {
        let Some(key) = ticket else { return };
        let mut waiting = self.waiting.lock();
        let waker = waiting.tickets.remove(key);
        self.wanted.store(!waiting.tickets.is_empty(), Relaxed);
        drop(waiting);
        drops::drop_waker(waker);
    }

    /// Announces that a part of the crew came to rest. If `look` says quiet, `tell` gets the
    /// tickets' wakers. If a sender is entering, `tell` gets none, and must see to another
    /// announcement. `tell` is called under the lock and runs no user code. Returns `true` if it
    /// was called.
    pub(crate) fn announce_rest(
        &self,
        look: impl FnOnce() -> Quiescence,
        tell: impl FnOnce(Vec<Waker>),
    ) -> bool {
        fence(SeqCst);
        if !self.wanted.load(Relaxed) {
            return false;
        }
        // The flag is a hint; under the lock the tickets may be gone.
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

    /// Declares all waits done, also later ones, before the crew is told to stop. `tell` is as in
    /// [`announce_rest`](Self::announce_rest).
    pub(crate) fn end_all_waits(&self, tell: impl FnOnce(Vec<Waker>)) {
        let mut waiting = self.waiting.lock();
        waiting.over = true;
        self.wanted.store(false, Relaxed);
        tell(waiting.tickets.take_all());
    }
}
