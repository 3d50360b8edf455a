//! Dedicated threads ("apart"): each runs one actor and nothing else.
//! [`dedicated_turns`](super::dedicated_turns) counts their turns.
//!
//! A dedicated thread belongs to the crew: its actor's messages count as the crew's own, and the
//! thread may not wait for the crew. But it is no worker. The thread has no queue, and runnables
//! made ready by its actor take the way from outside. A dedicated thread may block freely, since no
//! work waits behind its turns.
//!
//! An actor has one runnable at most, so the thread needs no queue either. Making the actor ready
//! leaves the runnable as the token for which the thread sleeps.
//!
//! Loom model: `models::apart`. Needed orderings: `cargo xtask weaken apart`.

use super::runnable::{After, DedicatedParker, Runnable};
use super::scheduler::Scheduler;
use crate::sync::chaos;
use crate::user;
use std::cell::Cell;
use std::ptr;
use std::sync::Arc;

thread_local! {
    /// The crew of the calling thread, if it is a dedicated thread.
    static CREW: Cell<*const Scheduler> = const { Cell::new(ptr::null()) };
}

/// Returns `true` if the calling thread is a dedicated thread of this crew.
pub(crate) fn is_dedicated_thread(scheduler: &Scheduler) -> bool {
    ptr::eq(CREW.get(), scheduler)
}

/// Returns `true` if the calling thread is a dedicated thread of any crew.
pub(super) fn works_already() -> bool {
    !CREW.get().is_null()
}

/// The calling thread belongs to the crew while this lives. Dropping it restores the thread's
/// previous state.
#[must_use]
pub(crate) struct DedicatedGuard(
    *const Scheduler,
    #[expect(dead_code, reason = "dropped with it")] user::ScopesAside,
);

impl Drop for DedicatedGuard {
    fn drop(&mut self) {
        CREW.set(self.0);
    }
}

impl Runnable {
    /// Runs one turn. Returns the runnable if another turn must follow.
    pub(crate) fn run_dedicated(self) -> Option<Runnable> {
        let (header, after) = self.run_turn();
        if after == After::RequeueGap {
            std::thread::yield_now();
        }
        // SAFETY: the turn gave the runnable back, unless `after` is `Gone`. So this is the only
        // `Runnable` for the header.
        after.goes_on().then(|| unsafe { Runnable::from_raw(header) })
    }
}

impl Scheduler {
    /// Leaves a runnable for the thread that sleeps at `home`. `home` is the caller's own
    /// reference: actor and thread may end while the call still wakes the thread.
    pub(super) fn push_to_dedicated(&self, home: &Arc<DedicatedParker>, task: Runnable) {
        // First the count: with the token first, the turn could end before it is counted.
        self.apart.count_begun();
        chaos();
        home.0.unpark(task);
    }

    /// Makes the calling thread a thread of the crew, without a worker, until the result is
    /// dropped.
    pub(crate) fn enter_dedicated(&self) -> DedicatedGuard {
        DedicatedGuard(CREW.replace(self), user::ScopesAside::set_aside())
    }

    /// Sleeps until there is a runnable for this thread.
    pub(crate) fn park_dedicated(&self, home: &DedicatedParker) -> Runnable {
        home.0.park(None).expect("a park without a limit ends with a token")
    }

    /// Records that a left runnable has been run, with all consequences.
    pub(crate) fn dedicated_turn_over(&self) {
        if self.apart.count_ended() {
            self.announce_from_elsewhere();
        }
    }
}
