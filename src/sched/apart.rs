//! Dedicated threads ("apart"): each runs one actor and nothing else. This file has the place where
//! such a thread sleeps, and the count of awake ones.
//!
//! A thread apart belongs to the crew: its actor's messages count as the crew's own, and the thread
//! may not wait for the crew. But it is no worker. The thread has no queue, and runnables made
//! ready by its actor take the way from outside. It may block freely, since no work waits behind
//! its turns.
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
//! | its last turn is over | -1 | | after all its pushes; then perhaps [announces](super::quiet) |
//!
//! Reading 0 twice with the same epoch therefore proves that no thread apart had work in between,
//! and makes all their pushes visible. [`Scheduler::quiescence`] relies on this, as on the workers'
//! word.
//!
//! Loom model: `models::apart`. Needed orderings: `scripts/weaken-orderings.sh apart`.

use super::Scheduler;
use super::task::{After, Task};
use crate::sync::{AtomicU64, Ordering::*, Parker, chaos};
use crate::user;
use std::cell::Cell;
use std::ptr;
use std::sync::Arc;

const AWAKE: u64 = (1 << 32) - 1;
const EPOCH_ONE: u64 = 1 << 32;

/// The word of all threads apart.
#[derive(Debug)]
pub(crate) struct Apart(AtomicU64);

impl Apart {
    pub(crate) fn new() -> Self {
        Apart(AtomicU64::new(0))
    }

    /// Counts a runnable that is about to be left.
    pub(crate) fn begin(&self) {
        self.0.fetch_add(EPOCH_ONE + 1, SeqCst);
    }

    /// Counts a turn that is over. Returns `true` for the last one. SeqCst: the turn's pushes come
    /// before, for a thread that reads 0.
    #[must_use]
    pub(crate) fn end(&self) -> bool {
        self.0.fetch_sub(1, SeqCst) & AWAKE == 1
    }

    /// Returns the word if no thread apart has work. Equal readings mean that none had any in
    /// between.
    pub(crate) fn asleep(&self) -> Option<u64> {
        let now = self.0.load(SeqCst);
        (now & AWAKE == 0).then_some(now)
    }
}

thread_local! {
    /// The crew of the calling thread, if it is a thread apart.
    static CREW: Cell<*const Scheduler> = const { Cell::new(ptr::null()) };
}

/// Returns `true` if the calling thread is a thread apart of this crew.
pub(crate) fn is_of(scheduler: &Scheduler) -> bool {
    ptr::eq(CREW.get(), scheduler)
}

/// Returns `true` if the calling thread is a thread apart of any crew.
pub(super) fn works_already() -> bool {
    !CREW.get().is_null()
}

/// The calling thread belongs to the crew while this lives. Dropping it restores the thread's
/// previous state.
#[must_use]
pub(crate) struct Enlisted(*const Scheduler, #[expect(dead_code, reason = "dropped with it")] user::Apart);

impl Drop for Enlisted {
    fn drop(&mut self) {
        CREW.set(self.0);
    }
}

/// The place where one thread apart sleeps.
#[derive(Debug)]
pub(crate) struct Home(Parker<Task>);

impl Home {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Home(Parker::new()))
    }
}

impl Task {
    /// Runs one turn. Returns the runnable if another turn must follow.
    pub(crate) fn run_apart(self) -> Option<Task> {
        let (header, after) = self.run();
        if after == After::RequeueGap {
            std::thread::yield_now();
        }
        // SAFETY: the turn gave the runnable back, unless `after` is `Gone`. So this is the only
        // `Task` for the header.
        after.goes_on().then(|| unsafe { Task::from_raw(header) })
    }
}

impl Scheduler {
    /// Leaves a runnable for the thread that sleeps at `home`. `home` is the caller's own
    /// reference: actor and thread may end while the call still wakes the thread.
    pub(super) fn leave_at(&self, home: &Arc<Home>, task: Task) {
        self.apart.begin();
        chaos();
        home.0.unpark(task);
    }

    /// Makes the calling thread a thread of the crew, without a worker, until the result is
    /// dropped.
    pub(crate) fn enlist_apart(&self) -> Enlisted {
        Enlisted(CREW.replace(self), user::Apart::begin())
    }

    /// Sleeps until there is a runnable for this thread.
    pub(crate) fn sleep_apart(&self, home: &Home) -> Task {
        home.0.park(None).expect("a park without a limit ends with a token")
    }

    /// Records that a left runnable has been run, with all consequences.
    pub(crate) fn rest_apart(&self) {
        if self.apart.end() {
            self.announce_from_elsewhere();
        }
    }
}
