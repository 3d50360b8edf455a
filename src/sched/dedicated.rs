//! Dedicated threads ("apart"): each runs one actor and nothing else. This file has the place where
//! such a thread sleeps, and the count of awake ones.
//!
//! A dedicated thread belongs to the crew: its actor's messages count as the crew's own, and the
//! thread may not wait for the crew. But it is no worker. The thread has no queue, and runnables
//! made ready by its actor take the way from outside. It may block freely, since no work waits
//! behind its turns.
//!
//! An actor has one runnable at most, so the thread needs no queue either. Making the actor ready
//! leaves the runnable as the token for which the thread sleeps.
//!
//! One word counts the runnables left and not over (`AWAKE`), and all runnables ever left
//! (`EPOCH`):
//!
//! | event | `AWAKE` | `EPOCH` | |
//! |---|---|---|---|
//! | a runnable is left | +1 | +1 | first this, then the token |
//! | its last turn is over | -1 | | after all its pushes; then perhaps [announces](super::quiescence) |
//!
//! Reading 0 twice with the same epoch therefore proves that no dedicated thread had work in
//! between, and makes all their pushes visible. [`Scheduler::check_quiescence`] relies on this, as
//! on the workers' word.
//!
//! Loom model: `models::apart`. Needed orderings: `scripts/weaken-orderings.sh apart`.

use super::Scheduler;
use super::runnable::{After, Runnable};
use crate::sync::{AtomicU64, Ordering::*, Parker, chaos};
use crate::user;
use std::cell::Cell;
use std::ptr;
use std::sync::Arc;

const AWAKE: u64 = (1 << 32) - 1;
const EPOCH_ONE: u64 = 1 << 32;

/// The word of all dedicated threads.
#[derive(Debug)]
pub(crate) struct DedicatedTurns(AtomicU64);

impl DedicatedTurns {
    pub(crate) fn new() -> Self {
        DedicatedTurns(AtomicU64::new(0))
    }

    /// Counts a runnable that is about to be left.
    pub(crate) fn count_begun(&self) {
        self.0.fetch_add(EPOCH_ONE + 1, SeqCst);
    }

    /// Counts a turn that is over. Returns `true` for the last one. SeqCst: the turn's pushes come
    /// before, for a thread that reads 0.
    #[must_use]
    pub(crate) fn count_ended(&self) -> bool {
        self.0.fetch_sub(1, SeqCst) & AWAKE == 1
    }

    /// Returns the word if no dedicated thread has work. Equal readings mean that none had any in
    /// between.
    pub(crate) fn word_if_asleep(&self) -> Option<u64> {
        let now = self.0.load(SeqCst);
        (now & AWAKE == 0).then_some(now)
    }
}

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

/// The place where one dedicated thread sleeps.
#[derive(Debug)]
pub(crate) struct DedicatedParker(Parker<Runnable>);

impl DedicatedParker {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(DedicatedParker(Parker::new()))
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
