//! Threads apart: each has one actor and runs nothing else. Where such a thread sleeps, and how it is known that it does.
//!
//! A thread apart is of the crew: what its actor sends is the crew's own, and it may not wait for the crew. But it is no
//! worker: it has no queue, and what its actor makes ready goes where it would go from outside. It may block as it likes,
//! since nobody waits behind it.
//!
//! An actor has one runnable at the most, so its thread needs no queue either: whoever makes it ready leaves the runnable
//! as the token that the thread sleeps for.
//!
//! One word counts the runnables that were left and are not over (`AWAKE`), and how many there ever were (`EPOCH`):
//!
//! | event | `AWAKE` | `EPOCH` | |
//! |---|---|---|---|
//! | a runnable is left | +1 | +1 | first this, then the token |
//! | its turn is over, and no other follows | -1 | | after all that the turn pushed; if it was the last, this thread [announces](super::quiet) it |
//!
//! So whoever reads 0 twice with the same epoch knows that no thread apart had anything to do in between, and sees all
//! that they have pushed: what [`Scheduler::quiescence`] needs, beside the workers' word, which it reads in the same way.

use super::Scheduler;
use super::task::{After, Task};
use crate::sync::{AtomicU64, Ordering::*, Parker, chaos};
use crate::user;
use std::cell::Cell;
use std::ptr;
use std::sync::Arc;

const AWAKE: u64 = (1 << 32) - 1;
const EPOCH_ONE: u64 = 1 << 32;

/// The word.
#[derive(Debug)]
pub(crate) struct Apart(AtomicU64);

impl Apart {
    pub(crate) fn new() -> Self {
        Apart(AtomicU64::new(0))
    }

    /// A runnable is about to be left.
    pub(crate) fn begin(&self) {
        self.0.fetch_add(EPOCH_ONE + 1, SeqCst);
    }

    /// It is over. True: it was the last one. SeqCst: what it pushed comes before, for whoever reads 0.
    #[must_use]
    pub(crate) fn end(&self) -> bool {
        self.0.fetch_sub(1, SeqCst) & AWAKE == 1
    }

    /// The word if nothing is left to do; equal readings mean that there was nothing in between.
    pub(crate) fn asleep(&self) -> Option<u64> {
        let now = self.0.load(SeqCst);
        (now & AWAKE == 0).then_some(now)
    }
}

thread_local! {
    /// Whose thread apart this is.
    static CREW: Cell<*const Scheduler> = const { Cell::new(ptr::null()) };
}

/// Is the calling thread one of this crew's threads apart?
pub(crate) fn is_of(scheduler: &Scheduler) -> bool {
    ptr::eq(CREW.get(), scheduler)
}

/// Returns `true` if the calling thread is a thread apart of any crew.
pub(super) fn works_already() -> bool {
    !CREW.get().is_null()
}

/// The calling thread is of the crew as long as this lives. Dropping it restores what the thread was before.
#[must_use]
pub(crate) struct Enlisted(*const Scheduler, #[expect(dead_code, reason = "dropped with it")] user::Apart);

impl Drop for Enlisted {
    fn drop(&mut self) {
        CREW.set(self.0);
    }
}

/// Where one thread apart sleeps.
#[derive(Debug)]
pub(crate) struct Home(Parker<Task>);

impl Home {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Home(Parker::new()))
    }
}

impl Task {
    /// Runs one turn. If another must follow, the runnable is back.
    pub(crate) fn run_apart(self) -> Option<Task> {
        let (header, after) = self.run();
        if after == After::RequeueGap {
            std::thread::yield_now();
        }
        // SAFETY: unless it is gone the turn gave the runnable back, so this is the only one.
        after.goes_on().then(|| unsafe { Task::from_raw(header) })
    }
}

impl Scheduler {
    /// Leaves a runnable at its home. The caller's own reference, since the actor may end, and its thread with it, while
    /// this still wakes that thread.
    pub(super) fn leave_at(&self, home: &Arc<Home>, task: Task) {
        self.apart.begin();
        chaos();
        home.0.unpark(task);
    }

    /// Makes the calling thread one of the crew, without a worker, until what it returns is dropped.
    pub(crate) fn enlist_apart(&self) -> Enlisted {
        Enlisted(CREW.replace(self), user::Apart::begin())
    }

    /// Sleeps until there is a runnable for this thread.
    pub(crate) fn sleep_apart(&self, home: &Home) -> Task {
        home.0.park(None).expect("a park without a limit ends with a token")
    }

    /// A runnable that was left has been run, with all that comes of it.
    pub(crate) fn rest_apart(&self) {
        if self.apart.end() {
            self.announce_from_elsewhere();
        }
    }
}
